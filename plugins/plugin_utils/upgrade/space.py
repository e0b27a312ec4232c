# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the disks have room for an upgrade."""

from __future__ import annotations

from collections.abc import Collection, Iterator

MEGA = 1_000_000
#: What has to stay free besides.
MARGIN = 500 * MEGA
#: How much larger packages are once they are unpacked.
UNPACKED = 4
#: A kernel with its initial ramdisk, twice, because the new ramdisk is written beside the old one.
KERNEL = 200 * MEGA


def space_problems(df: str, download: int, kernels: Collection[str] = ()) -> list[str]:
    """One sentence per directory without enough space.

    df: the output of `df --block-size=1 --output=avail,file /var/cache/apt/archives /usr /boot`. download: bytes to
    download. kernels: the kernels among the packages.
    """
    return list(_problems(df, download, kernels)) if download else []


def _problems(df: str, download: int, kernels: Collection[str]) -> Iterator[str]:
    wanted = {
        "/var/cache/apt/archives": (download + MARGIN, "`sudo apt-get clean` frees what was downloaded before"),
        "/usr": (UNPACKED * download + MARGIN, "`sudo docker system df` shows what Docker uses"),
        "/boot": (KERNEL * len(kernels), "`sudo apt-get autoremove` removes old kernels"),
    }
    for line in df.splitlines()[1:]:
        available, _, directory = line.strip().partition(" ")
        needed, remedy = wanted.get(directory.strip(), (0, ""))
        if int(available) < needed:
            yield (
                f"{directory.strip()} has {int(available) // MEGA} MB left, and the upgrade needs {needed // MEGA} MB."
                f" Free some: {remedy}"
            )

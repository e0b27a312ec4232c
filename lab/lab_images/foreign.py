"""Images for another processor than this machine's, whose programs an emulator runs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from lab_images import LabError
from lab_images.engine import docker

#: Debian's names of processors, and uname's.
MACHINES = {"arm64": "aarch64"}
BINFMT = Path("/proc/sys/fs/binfmt_misc")
#: The stage of a recipe that only fetches and compiles, up to the next one.
CROSS_STAGE = re.compile(r"^FROM \S+ AS cross\n.*?(?=^FROM )", re.MULTILINE | re.DOTALL)
#: The processor in the words of that stage.
CROSS = {"arm64": {"CPU": "arm64", "GNU": "aarch64", "GOARCH": "arm64", "WHEEL": "manylinux2014_aarch64"}}
#: How the kernel recognises a program for the processor: the beginning of its file, and which bits of that count.
MAGIC = {"arm64": rb"\x7fELF\x02\x01\x01" + rb"\x00" * 9 + rb"\x02\x00\xb7\x00"}
MASK = rb"\xff" * 7 + rb"\x00" + rb"\xff" * 8 + rb"\xfe\xff\xff\xff"
#: Debian 13's emulator, whatever this machine's Debian is: an older one does not run Node.
TAKE_EMULATOR = """
exec 3>&1 >&2
apt-get update -qq
cd /tmp
apt-get download -qq qemu-user
dpkg -x qemu-user*.deb .
cat "usr/bin/qemu-$1" >&3
"""


def registration(architecture: str, emulator: Path) -> bytes:
    """The line that makes the kernel run the processor's programs by the emulator.

    P: the program sees its own name. O, C: by descriptor, with setuid. F: the emulator is opened now, so that it works
    in every container.
    """
    return b":openmates-%s:M::%s:%s:%s:POCF" % (architecture.encode(), MAGIC[architecture], MASK, os.fsencode(emulator))


def emulate(state: Path, architecture: str) -> None:
    """Make this machine's kernel run programs of the processor, until the machine restarts. Needs root's rights."""
    entry = BINFMT / f"openmates-{architecture}"
    if entry.exists():
        return
    emulator = state.resolve() / f"qemu-{MACHINES[architecture]}"
    if not emulator.exists():
        print(f"{emulator.name}: taking Debian 13's emulator", flush=True)
        taken = docker(
            "run", "--rm", "--network", "host", "openmates-lab/base:latest",
            "sh", "-euc", TAKE_EMULATOR, "sh", MACHINES[architecture], text=False,
        )  # fmt: skip
        if taken.returncode:
            raise LabError(f"the emulator cannot be had: {taken.stderr.decode(errors='replace').strip()[-500:]}")
        part = emulator.with_suffix(".part")
        part.write_bytes(taken.stdout)
        part.chmod(0o755)
        part.rename(emulator)
    try:
        if not (BINFMT / "register").exists():
            subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=True)
        (BINFMT / "register").write_bytes(registration(architecture, emulator))
    except (OSError, subprocess.CalledProcessError) as error:
        raise LabError(f"the kernel cannot be made to run {architecture} programs (as root?): {error}") from None


def without_cross(dockerfile: str, result: str) -> str:
    """The recipe with an image that holds /built in the place of its stage `cross`."""
    return CROSS_STAGE.sub(f"FROM {result} AS cross\n", dockerfile)


def compile_here(
    dockerfile: str, folder: Path, parent: str, scratch: Path, output, architecture: str, timeout: float
) -> str:
    """Run a recipe's stage `cross` on this machine's processor; the recipe that takes its result from an image.

    parent: the parent's image for this machine's processor. The builder refuses to copy between the stages of two
    processors, so what the stage left in /built becomes an image of the other one.
    """
    pairs = [part for key, value in CROSS[architecture].items() for part in ("--build-arg", f"{key}={value}")]
    options = {"stdout": output, "stderr": output, "capture_output": False, "timeout": timeout}
    for _ in range(2):  # as for any recipe: a download may have broken off
        result = docker(
            "build", "--target", "cross", "--network", "host", "--force-rm", "--iidfile", str(scratch / "cross"),
            "--build-arg", f"PARENT={parent}", *pairs, str(folder), **options,
        )  # fmt: skip
        if result.returncode == 0:
            break
    else:
        raise LabError(f"the stage cross failed ({result.returncode})")
    container = docker("create", (scratch / "cross").read_text(encoding="ascii").strip()).stdout.strip()
    image = scratch / "built"
    image.mkdir()
    with (image / "built.tar").open("wb") as archive:
        docker("cp", f"{container}:/built", "-", stdout=archive, stderr=output, capture_output=False, timeout=timeout)
    docker("rm", container)
    return without_cross(dockerfile, _image_of(image, "built.tar", scratch / "built.id", output, architecture, timeout))


def _image_of(folder: Path, archive: str, identity: Path, output, architecture: str, timeout: float) -> str:
    """Make an archive an image of the processor, which `docker import` cannot; its id."""
    (folder / "Dockerfile").write_text(f'FROM scratch\nADD {archive} /\nENV LANG=C.UTF-8\nCMD ["bash"]\n')
    result = docker(
        "build", "--platform", f"linux/{architecture}", "--iidfile", str(identity), str(folder),
        stdout=output, stderr=output, capture_output=False, timeout=timeout,
    )  # fmt: skip
    if result.returncode:
        raise LabError(f"{archive} could not be made an image ({result.returncode})")
    return identity.read_text(encoding="ascii").strip()


def import_rootfs(script: Path, scratch: Path, output, architecture: str, timeout: float) -> str:
    """Make the root file system of the processor's Debian by a recipe's script; the image's id.

    The script is the one for this machine's processor: an mmdebstrap in front of Debian's adds the processor.
    """
    wrapper = scratch / "bin/mmdebstrap"
    wrapper.parent.mkdir()
    wrapper.write_text(
        "#!/bin/sh\n"
        'PATH="${PATH#*:}"\n'
        f'exec mmdebstrap --architectures={architecture} --skip=check/qemu "$@"\n'
    )  # fmt: skip
    wrapper.chmod(0o755)
    image = scratch / "image"
    image.mkdir()
    with (image / "rootfs.tar").open("wb") as archive:
        subprocess.run(
            ["sh", script, scratch], check=True, stdout=archive, stderr=output, timeout=timeout,
            env={**os.environ, "PATH": f"{wrapper.parent}:{os.environ['PATH']}"},
        )  # fmt: skip
    return _image_of(image, "rootfs.tar", scratch / "id", output, architecture, timeout)

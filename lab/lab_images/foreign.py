"""Images for another processor than this machine's, whose programs an emulator runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from lab_images import LabError
from lab_images.engine import docker

#: Debian's names of processors, and uname's.
MACHINES = {"arm64": "aarch64"}
BINFMT = Path("/proc/sys/fs/binfmt_misc")
#: The processor in the words of a recipe whose first stage fetches and compiles on this machine's.
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


def cross_arguments(dockerfile: str, builder: str, architecture: str) -> dict[str, str]:
    """The build arguments of a recipe with a stage on this machine's processor; none for any other recipe.

    builder: the parent's image for this machine's processor.
    """
    if "ARG BUILDER" not in dockerfile:
        return {}
    platform = docker("version", "--format", "{{.Server.Os}}/{{.Server.Arch}}").stdout.strip()
    return {"BUILDER": builder, "BUILDER_PLATFORM": platform, **CROSS.get(architecture, {})}


def import_rootfs(script: Path, scratch: Path, output, architecture: str, timeout: float) -> str:
    """Make the root file system of the processor's Debian by a recipe's script; the image's id.

    The script is the one for this machine's processor: an mmdebstrap in front of Debian's adds the processor. `docker
    import` takes no processor, a build does.
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
    (image / "Dockerfile").write_text('FROM scratch\nADD rootfs.tar /\nENV LANG=C.UTF-8\nCMD ["bash"]\n')
    result = docker(
        "build", "--platform", f"linux/{architecture}", "--iidfile", str(scratch / "id"), str(image),
        stdout=output, stderr=output, capture_output=False, timeout=timeout,
    )  # fmt: skip
    if result.returncode:
        raise LabError("the root file system could not be made an image")
    return (scratch / "id").read_text(encoding="ascii").strip()

#!/usr/bin/env python3
"""Builds genuine HashiCorp Vault with file storage, as OpenMates' installer uses it, for `make import-drill`.

As `make genuine` builds it, but for that storage, which its small build leaves out: file_storage.go takes the place of
the one file that decides. Like that build it is neither committed nor published.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from genuine import CACHE, LAB, MODULE, CaseFailed, go, run

NAME = "github.com/hashicorp/vault"
BINARY = CACHE / "vault-file"
SOURCE = CACHE / "vault-source"


def build() -> None:
    """Build the binary unless it is there. Raises CaseFailed."""
    if BINARY.is_file():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    program = go()
    settings = {"GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0"}
    described = run("module", program, "-C", MODULE, "list", "-mod=readonly", "-m", "-json", NAME, environment=settings)
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(_downloaded(program, json.loads(described[described.index("{") :])), SOURCE)
    subprocess.run(["chmod", "--recursive", "u+w", SOURCE], check=True)
    shutil.copyfile(LAB / "genuine/file_storage.go", SOURCE / "command/commands_min.go")
    recipe = CACHE / "file-storage.mod"
    recipe.write_text(f"{(MODULE / 'go.mod').read_text()}\nreplace {NAME} => {SOURCE}\n")
    shutil.copyfile(MODULE / "go.sum", recipe.with_suffix(".sum"))
    fresh = CACHE / "vault-file.new"  # a build that is cut short leaves nothing that looks done
    run("build-file", "nice", program, "build", "-C", MODULE, "-v", "-mod=readonly", f"-modfile={recipe}",
        "-tags=minimal", "-trimpath", "-ldflags=-s -w", f"-o={fresh}", ".", environment=settings)  # fmt: skip
    fresh.replace(BINARY)
    shutil.rmtree(SOURCE)


def _downloaded(program: str, module: dict[str, str]) -> Path:
    """Where the module's source is, which is downloaded if it is not there."""
    if not module.get("Dir"):
        wanted = f"{module['Path']}@{module['Version']}"
        described = run("download", program, "-C", MODULE, "mod", "download", "-json", wanted)
        module = json.loads(described[described.index("{") :])
    return Path(module["Dir"])


def main() -> int:
    try:
        build()
    except CaseFailed as problem:
        print(f"Vault with file storage: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

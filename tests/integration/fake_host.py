#!/usr/bin/env python3
"""Stand-in for a host's systemd commands, for a machine without it. Called by the name of the command that it replaces.

`systemctl restart` runs the service's program with its credentials, as systemd would; FAKE_HOST names the folder with
units, FAKE_VAULT where Vault listens, FAKE_PATIENCE for how many seconds the program waits for it.
"""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOST = Path(os.environ["FAKE_HOST"])


def scramble(text: bytes) -> bytes:
    """Encodes a text so that a search does not find it, and detects damage."""
    return bytes(byte ^ 0x5A for byte in text)


def systemd_creds(verb: str, *arguments: str) -> int:
    name, source = arguments[0].removeprefix("--name="), arguments[1]
    content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    if verb == "encrypt":
        sys.stdout.buffer.write(base64.b64encode(scramble(f"{name}\n".encode() + content)))
        return 0
    try:
        named, _, text = scramble(base64.b64decode(content, validate=True)).partition(b"\n")
    except ValueError:
        return 1
    sys.stdout.buffer.write(text)
    return 0 if named.decode() == name else 1


def systemctl(verb: str, *arguments: str) -> int:
    unit = HOST / arguments[0] if arguments else HOST
    if verb == "show":
        print("\n\n".join(show(name) for name in arguments if not name.startswith("--")))
    elif verb == "enable":
        (HOST / f"{arguments[-1]}.enabled").touch()
    elif verb == "disable":
        (HOST / f"{arguments[-1]}.enabled").unlink(missing_ok=True)
    elif verb in ("restart", "start") and unit.suffix == ".service":
        return run_service(unit)
    return 0


def show(unit: str) -> str:
    on = (HOST / f"{unit}.enabled").exists()
    states = [f"ActiveState={'active' if on else 'inactive'}", f"UnitFileState={'enabled' if on else 'disabled'}"]
    since = time.strftime("%a %Y-%m-%d %H:%M:%S", time.gmtime((HOST / f"{unit}.enabled").stat().st_mtime)) if on else ""
    states += [f"{moment}Timestamp={since and f'{since}.999999 UTC'}" for moment in ("ActiveEnter", "StateChange")]
    return "\n".join(["LoadState=loaded", "NeedDaemonReload=no", *states])


def run_service(unit: Path) -> int:
    lines = unit.read_text().replace("\\\n", " ").splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    name = settings["LoadCredentialEncrypted"]
    with tempfile.TemporaryDirectory() as folder:
        sealed = (HOST / "credentials" / name).read_bytes()
        (Path(folder) / name).write_bytes(scramble(base64.b64decode(sealed)).partition(b"\n")[2])
        command = [*shlex.split(settings["ExecStart"]), "--address", os.environ["FAKE_VAULT"]]
        command += ["--patience", os.environ["FAKE_PATIENCE"]]
        command = [sys.executable if part == "/usr/bin/python3" else part for part in command]
        done = subprocess.run(
            [*command, *(["--consumers", ""] if " token " in settings["ExecStart"] else [])],
            env={**os.environ, "CREDENTIALS_DIRECTORY": folder},
            capture_output=True,
            text=True,
        )
    (HOST / f"{unit.name}.said").write_text(done.stdout + done.stderr)
    (HOST / f"{unit.name}.in-journal").unlink(missing_ok=True)
    return done.returncode


def journalctl(*arguments: str) -> int:
    """The words of a service come late, at the second look; those of systemd about it only to who asks for the unit."""
    asked = dict(word.split("=", 1) for word in arguments if "=" in word)
    unit = asked.get("--unit") or asked["_SYSTEMD_UNIT"]
    in_journal = HOST / f"{unit}.in-journal"
    lines = (HOST / f"{unit}.said").read_text().splitlines() if in_journal.exists() else []
    in_journal.touch()
    if "--unit" in asked:
        lines += [
            f"{unit}: Main process exited",
            f"{unit}: Failed with result 'exit-code'.",
            f"Failed to start {unit}.",
        ]
    print("\n".join(lines[-int(asked["--lines"]) :]))
    return 0


if __name__ == "__main__":
    commands = {"systemd-creds": systemd_creds, "systemctl": systemctl, "journalctl": journalctl}
    sys.exit(commands[Path(sys.argv[0]).name](*sys.argv[1:]))

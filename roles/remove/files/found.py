"""What of OpenMates is on this server, as JSON: containers, networks and volumes of the project, units and data.

found.py PROJECT LOCK UNIT[,UNIT...] [PATH ...]. A path that is a directory with nothing in it but the lock of runs does
not count, as it stays. The exit code is 1 if Docker is installed and does not answer.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path

KEPT = "change.lock"
UNITS = Path("/etc/systemd/system")
LISTS = {
    "containers": ["ps", "--all", "--format", "{{.Names}}"],
    "networks": ["network", "ls", "--format", "{{.Name}}"],
    "volumes": ["volume", "ls", "--format", "{{.Name}}"],
}


def listed(project: str, command: list[str]) -> list[str]:
    if not shutil.which("docker"):
        return []
    done = subprocess.run(
        ["docker", *command, "--filter", f"label=com.docker.compose.project={project}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"Docker does not answer: {done.stderr.strip()}. Start it with `sudo systemctl start docker`.")
        sys.exit(1)
    return sorted(done.stdout.split())


def content(path: Path) -> list[str]:
    """The path, or what is in it where the lock of runs has to stay."""
    if path.is_dir() and not path.is_symlink() and (path / KEPT).exists():
        return sorted(str(entry) for entry in path.iterdir() if entry.name != KEPT)
    return [str(path)] if path.exists() or path.is_symlink() else []


def locked(path: Path) -> bool:
    """Whether containers are being replaced."""
    try:
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def main(project: str, lock: str, units: str, *paths: str) -> None:
    found: dict = {name: listed(project, command) for name, command in LISTS.items()}
    found["units"] = [unit for unit in filter(None, units.split(",")) if (UNITS / unit).exists()]
    found["data"] = [entry for path in paths for entry in content(Path(path))]
    found["caddy"] = Path("/etc/caddy/Caddyfile").exists()
    found["rollout"] = locked(Path(lock))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

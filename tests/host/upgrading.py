"""What upgrade.yml has to upgrade: packages of a small repository on the lab host itself; and what it leaves."""

from __future__ import annotations

import json

from lab import Server

REPOSITORY, SOURCE = "/srv/openmates-lab-apt", "/etc/apt/sources.list.d/openmates-lab.list"
#: SEEN has the flag as it was while Docker was upgraded.
FLAG, STATE = "/var/lib/openmates-maintenance/flag.json", "/var/lib/openmates/upgrade.json"
SEEN = "/var/tmp/openmates-lab-seen"
#: One package of a kind that interrupts nothing, and one whose name is like those of Docker and that does what they do.
QUIET, DOCKER = "openmates-lab-dummy", "docker-lab-dummy"

BUILD = r"""
set -eu
work=$(mktemp -d)
mkdir "$work/DEBIAN"
{{ echo "Package: {name}"
  echo "Version: {version}"
  echo "Architecture: all"
  echo "Maintainer: lab <lab@example.test>"
  echo "Description: lab"; }} > "$work/DEBIAN/control"
printf '#!/bin/sh\nset -e\n%s\n' '{script}' > "$work/DEBIAN/postinst"
chmod 0755 "$work/DEBIAN/postinst"
file={name}_{version}_all.deb
dpkg-deb --root-owner-group --build "$work" "{repository}/$file" > /dev/null
rm -r "$work"
cd {repository}
{{ dpkg-deb --field "$file"
  echo "Filename: ./$file"
  echo "Size: $(stat -c %s "$file")"
  echo "SHA256: $(sha256sum "$file" | cut -d " " -f 1)"
  echo; }} >> Packages
"""
UPGRADES_DOCKER = f"cp {FLAG} {SEEN} 2> /dev/null || touch {SEEN}; systemctl restart docker"


class Packages:
    """The repository, and what is installed of it."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def prepare(self) -> None:
        """Make the repository, with version 1 of both packages installed, and Docker's held, as an operator may do."""
        self.server.run(f"rm -rf {REPOSITORY} {SEEN} && mkdir {REPOSITORY}")
        for name in (QUIET, DOCKER):
            self.add(name, "1")
            self.install(name)
        self.server.run(f"echo 'deb [trusted=yes] file:{REPOSITORY} ./' > {SOURCE}")
        self.server.run(f"apt-mark hold {DOCKER}")

    def remove(self) -> None:
        self.server.run(f"apt-mark unhold {DOCKER} && dpkg --purge --force-all {QUIET} {DOCKER}")
        self.server.run(f"rm -rf {SOURCE} {REPOSITORY} {SEEN} && apt-get update -qq")
        self.server.wait_until_ready()

    def add(self, name: str, version: str, script: str = "true") -> None:
        self.server.run(BUILD.format(repository=REPOSITORY, name=name, version=version, script=script))

    def install(self, name: str) -> None:
        self.server.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -qq {REPOSITORY}/{name}_1_all.deb 2>&1")

    def installed(self, name: str) -> str:
        return self.server.run(f"dpkg-query --show --showformat '${{Version}} ${{db:Status-Abbrev}}' {name}").strip()


def upgrade(server: Server, *arguments: str, works: bool = True) -> str:
    run = server.playbook("playbooks/upgrade.yml", *arguments)
    assert (run.returncode == 0) is works, run.stdout[-6000:]
    return run.stdout


def closed(server: Server) -> bool:
    return server.host.file(FLAG).exists


def history(server: Server) -> list[dict]:
    lines = server.run("cat /var/log/openmates/history.jsonl").splitlines()
    return [line for line in map(json.loads, lines) if line["verb"] == "upgrade"]


def containers(server: Server) -> dict[str, str]:
    return {name: container["State"]["StartedAt"] for name, container in server.containers().items()}


def workers_consume(server: Server) -> bool:
    parts = json.loads(server.run("openmates-ready --json || true"))["parts"]
    return all(part["ok"] for part in parts if part["name"].startswith("queue:"))

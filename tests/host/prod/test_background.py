"""Work in the background (backups, their proofs, scans) leaves the processor to the containers."""

from __future__ import annotations

import os

import pytest

from lab import Server, wait_until

UNITS = ("openmates-backup.service", "openmates-backup-proof.service", "openmates-scan.service")
NAME = "openmates-busy"
BUSY = "while :; do :; done"
#: Ticks of the container, 100 a second, after which both are compared; and the unit's share of them at most.
ENOUGH, SHARE = 100, 0.1


@pytest.fixture
def busy(server: Server) -> dict[str, str]:
    """The processes of a container and of a unit that both take all they get of one processor."""
    processor = min(os.sched_getaffinity(0))
    image = "$(docker inspect --format '{{.Image}}' openmates-cms-database-1)"
    run = f"docker run --detach --name {NAME} --network none --cpuset-cpus {processor} --entrypoint sh"
    unit = f"systemd-run --quiet --unit={NAME} --slice=background.slice taskset --cpu-list {processor}"
    try:
        server.run(f"{run} {image} -c '{BUSY}' && {unit} sh -c '{BUSY}'")
        yield {
            "container": server.run(f"docker inspect --format '{{{{.State.Pid}}}}' {NAME}").strip(),
            "unit": server.run(f"systemctl show --property=MainPID --value {NAME}").strip(),
        }
    finally:
        server.host.run(f"docker rm --force {NAME}; systemctl stop {NAME}")


def test_what_works_in_the_background_is_in_its_slice(server: Server) -> None:
    for unit in UNITS:
        assert server.run(f"systemctl show --property=Slice --value {unit}").strip() == "background.slice", unit


def test_a_container_gets_the_processor_for_which_the_background_competes(server: Server, busy: dict[str, str]) -> None:
    def ticks(name: str) -> int:
        user, system = server.run(f"cut -d ' ' -f 14-15 /proc/{busy[name]}/stat").split()
        return int(user) + int(system)

    began = {name: ticks(name) for name in busy}
    wait_until(lambda: ticks("container") - began["container"] >= ENOUGH, "the container has worked for a second")
    assert ticks("unit") - began["unit"] <= SHARE * (ticks("container") - began["container"])

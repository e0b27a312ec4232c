"""upgrade.yml on a host that has something to upgrade. More of it: tests/host/os_upgrade."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

from upgrading import (
    DOCKER,
    SEEN,
    STATE,
    UPGRADES_DOCKER,
    Packages,
    closed,
    history,
    upgrade,
    workers_consume,
)

from lab import Server, wait_until


def test_a_run_that_is_killed_while_docker_is_upgraded_is_continued(server: Server, packages: Packages) -> None:
    packages.add(DOCKER, "3", f"{UPGRADES_DOCKER}; sleep 20")
    server.run(f"rm -f {SEEN}")
    operator = server.operator
    command = ["ansible-playbook", operator.playbook("playbooks/upgrade.yml"), "-i", operator.inventory]
    run = subprocess.Popen(
        [*command, "--limit", server.name],
        cwd=operator.directory,
        env={**os.environ, "ANSIBLE_CONFIG": str(operator.directory / "ansible.cfg")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: server.host.file(SEEN).exists, "Docker is upgraded", 300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert closed(server) and server.host.file(STATE).exists
    shown = upgrade(server)
    assert "An earlier upgrade was interrupted" in shown
    assert packages.installed(DOCKER) == "3 hi"
    assert not closed(server) and not server.host.file(STATE).exists and workers_consume(server)
    assert [line["result"] for line in history(server)[-2:]] == ["interrupted", "ok"]

"""upgrade.yml, case by case, some of them minutes long: `make os-upgrade`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path

from upgrading import (
    DOCKER,
    QUIET,
    SEEN,
    STATE,
    UPGRADES_DOCKER,
    Packages,
    closed,
    containers,
    history,
    upgrade,
    workers_consume,
)

from lab import Server, recap, wait_until


def test_a_server_without_anything_to_upgrade_is_not_changed(server: Server, packages: Packages) -> None:
    upgrade(server)  # what Debian has published since the image was built
    began = time.monotonic()
    again = upgrade(server)
    print(f"nothing to do: {time.monotonic() - began:.0f} s")
    assert recap(again)["changed"] == 0 and "No package is to be upgraded" in again
    assert recap(upgrade(server, "--check"))["changed"] == 0


def test_dockers_packages_are_upgraded_in_maintenance_and_held_again(server: Server, packages: Packages) -> None:
    packages.add(DOCKER, "2", UPGRADES_DOCKER)
    before = containers(server)
    shown = upgrade(server)
    assert f"- {DOCKER} 1 -> 2" in shown and "Clients get 503" in shown
    assert packages.installed(DOCKER) == "2 hi"
    assert json.loads(server.run(f"cat {SEEN}"))["owner"] == "upgrade"
    assert not closed(server) and not server.host.file(STATE).exists and workers_consume(server)
    restarted = {name for name, started in containers(server).items() if started != before[name]}
    assert restarted and all("worker" in name for name in restarted)
    assert (history(server)[-1]["result"], recap(upgrade(server))["changed"]) == ("ok", 0)


def test_a_run_that_is_killed_while_docker_is_upgraded_is_continued(
    server: Server, packages: Packages, tmp_path: Path
) -> None:
    packages.add(DOCKER, "3", f"{UPGRADES_DOCKER}; sleep 20")
    server.run(f"rm -f {SEEN}")
    operator = server.operator
    log = tmp_path / "upgrade.log"
    command = ["ansible-playbook", operator.playbook("playbooks/upgrade.yml"), "-i", operator.inventory]
    run = subprocess.Popen(
        [*command, "--limit", server.name],
        cwd=operator.directory,
        env={**os.environ, "ANSIBLE_CONFIG": str(operator.directory / "ansible.cfg")},
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_until(lambda: server.host.file(SEEN).exists or run.poll() is not None, "Docker is upgraded", 300)
        assert run.poll() is None, log.read_text()
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


def test_a_package_that_fails_does_not_keep_the_site_closed(server: Server, packages: Packages) -> None:
    packages.add(DOCKER, "4", "echo broken on purpose >&2; exit 1")
    shown = upgrade(server, works=False)
    assert "failed, and OpenMates works again" in " ".join(shown.split()) and "Upgrade the packages" in shown
    assert not closed(server) and workers_consume(server)
    assert packages.installed(DOCKER).split()[1][0] == "h"
    assert history(server)[-1]["result"] == "failed"
    packages.add(DOCKER, "5", UPGRADES_DOCKER)
    upgrade(server)
    assert packages.installed(DOCKER) == "5 hi"


def test_a_server_that_is_not_ready_is_refused(server: Server, packages: Packages) -> None:
    packages.add(QUIET, "3")
    before = packages.installed(QUIET)
    worker = server.containers()["task-worker"]["Id"]
    server.run(f"docker stop {worker}")
    try:
        shown = upgrade(server, works=False)
        assert "was not changed" in shown and "upgrade_unhealthy=true" in shown
        assert packages.installed(QUIET) == before
    finally:
        server.run(f"docker start {worker}")
    server.wait_until_ready()


def test_the_server_reboots_if_that_is_needed_and_not_if_it_is_not_wanted(server: Server, packages: Packages) -> None:
    packages.add(QUIET, "4")
    server.run("echo linux-image-lab > /run/reboot-required.pkgs && touch /run/reboot-required")
    booted = server.run("systemctl show --property=UserspaceTimestampMonotonic")
    shown = upgrade(server, "-e", "upgrade_reboot=false")
    assert "A reboot is pending" in shown and packages.installed(QUIET) == "4 ii"
    assert server.run("systemctl show --property=UserspaceTimestampMonotonic") == booted
    shown = upgrade(server)
    assert "The server restarts: /run/reboot-required exists (linux-image-lab)" in shown
    assert "history has this one as interrupted" not in " ".join(shown.split())
    assert server.run("systemctl show --property=UserspaceTimestampMonotonic") != booted
    assert not server.host.file("/run/reboot-required").exists
    assert not closed(server) and not server.host.file(STATE).exists and workers_consume(server)
    last = history(server)[-1]
    assert last["result"] == "ok" and "upgrade : Reboot the server" in last["changed"]

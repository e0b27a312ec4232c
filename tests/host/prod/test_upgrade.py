"""upgrade.yml on a host that has a package to upgrade which interrupts nothing. All else: tests/host/os_upgrade."""

from __future__ import annotations

import pytest
from upgrading import QUIET, Packages, containers, history, upgrade

from lab import Server, recap


@pytest.mark.usefixtures("up_to_date")
def test_packages_that_interrupt_nothing_are_upgraded_while_the_site_works(server: Server, packages: Packages) -> None:
    packages.add(QUIET, "2")
    shown = upgrade(server, "--check")
    assert f"- {QUIET} 1 -> 2" in shown and "No client notices it." in shown
    assert recap(shown)["changed"] == 1 and packages.installed(QUIET).startswith("1 ")
    before = containers(server)
    done = upgrade(server)
    assert packages.installed(QUIET) == "2 ii"
    assert "Switch maintenance on" not in done and containers(server) == before
    assert history(server)[-1]["result"] == "ok"

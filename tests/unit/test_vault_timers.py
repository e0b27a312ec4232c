"""The timers that maintain Vault on the host: vault_host's queries of systemd, and how it uses the answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.openmates.server.plugins.module_utils.vault import VaultProblem
from ansible_collections.openmates.server.plugins.modules import vault_host
from ansible_collections.openmates.server.plugins.modules.vault_host import Host

TIMERS = ["one.timer", "two.timer"]
RUNNING = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}


@pytest.mark.parametrize(
    ("unit", "state", "commands", "changes"),
    [
        ("one.timer", {}, [], []),
        ("two.timer", {"ActiveState": "inactive"}, ["enable --now two.timer"], ["timer two.timer: started"]),
        ("one.timer", {"UnitFileState": ""}, ["enable --now one.timer"], ["timer one.timer: started"]),
        ("two.service", {"NeedDaemonReload": "yes"}, ["daemon-reload", "restart one.timer", "restart two.timer"], []),
        ("one.timer", {"NeedDaemonReload": "yes"}, ["daemon-reload", "restart one.timer", "restart two.timer"], []),
    ],
)
def test_timers_run_as_their_files_say(unit, state, commands, changes):
    asked = []

    def systemctl(command: list[str]) -> tuple[int, str, str]:
        _, verb, *words = command
        if verb != "show":
            asked.append(" ".join(command[1:]))
            return 0, "", ""
        units = [word for word in words if not word.startswith("--")]
        shown = [{**RUNNING, **(state if name == unit else {})} for name in units]
        return 0, "\n\n".join("".join(f"{key}={value}\n" for key, value in one.items()).strip() for one in shown), ""

    host = Host(SimpleNamespace(params={}, check_mode=False, run_command=systemctl))
    host.timers(TIMERS)
    assert (asked, host.changes) == (commands, changes)


def test_without_timers_systemd_is_not_asked():
    host = Host(SimpleNamespace(params={}, check_mode=False, run_command=None))
    host.timers([])
    assert host.changes == []


def test_a_service_that_failed_without_a_word_is_looked_up_by_hand(monkeypatch):
    def run_command(command: list[str]) -> tuple[int, str, str]:
        return (1, "", "") if command[0] == "systemctl" else (0, "\n", "")

    monkeypatch.setattr(vault_host, "JOURNAL_SECONDS", 0.3)
    host = Host(SimpleNamespace(params={}, check_mode=False, run_command=run_command))
    with pytest.raises(VaultProblem, match=r"^one\.service failed: see journalctl --unit one\.service$"):
        host.start("one.service")

"""The maintenance flag: who may switch it, and what Caddy, verify and the module agree on."""

from __future__ import annotations

import importlib.util
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ansible_collections.openmates.server.plugins.module_utils.maintenance import (
    UNKNOWN,
    Flag,
    switched_off,
    switched_on,
)
from ansible_collections.openmates.server.plugins.modules import maintenance
from jinja2 import Environment

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles/caddy"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())


def flag(owner: str, by: str = "ada@laptop", reason: str = "", since: str = "then") -> Flag:
    return Flag(owner, by, reason, since)


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        (None, flag("operator"), flag("operator")),
        (None, flag("vault_restore"), flag("vault_restore")),
        (flag("operator", since="before"), flag("operator", by="bob@pc"), flag("operator", since="before")),
        (flag("operator", reason="disk"), flag("operator", reason="net"), flag("operator", reason="net")),
        # A verb leaves alone what an operator or another verb has set.
        (flag("operator", since="before"), flag("vault_restore"), flag("operator", since="before")),
        (flag("directus_schema", since="before"), flag("vault_restore"), flag("directus_schema", since="before")),
        (UNKNOWN, flag("vault_restore"), UNKNOWN),
        # What a killed run left is the next run's; what an operator takes over is the operator's.
        (
            flag("vault_restore", since="before"),
            flag("vault_restore", by="b"),
            flag("vault_restore", "b", since="before"),
        ),
        (flag("vault_restore", since="before"), flag("operator"), flag("operator", since="before")),
        (UNKNOWN, flag("operator"), flag("operator")),
    ],
)
def test_switching_on(before: Flag | None, wanted: Flag, after: Flag) -> None:
    assert switched_on(before, wanted) == after


@pytest.mark.parametrize("before", [None, UNKNOWN, flag("operator"), flag("vault_restore"), flag("directus_schema")])
def test_switching_off(before: Flag | None) -> None:
    assert switched_off(before, "operator") is None
    cleared = before is None or before.owner == "vault_restore"
    assert switched_off(before, "vault_restore") == (None if cleared else before)


class Host:
    """A host whose Caddy looks for the flag file."""

    def __init__(self, folder: Path, run_module: Callable[..., dict]) -> None:
        self.flag, self.caddyfile, self._run = folder / "state/flag.json", folder / "Caddyfile", run_module
        self.caddyfile.write_text(rendered(caddy_maintenance_flag=str(self.flag)))

    def switch(self, state: str, **more: object) -> dict:
        paths = {"path": str(self.flag), "configuration": str(self.caddyfile)}
        return self._run(maintenance.main, state=state, by="ada@laptop", **paths, **more)


def rendered(**more: object) -> str:
    """The Caddyfile of a server with a site, frontends and operators' networks."""
    environment = Environment(trim_blocks=True)
    environment.filters |= {
        "dirname": lambda path: str(Path(path).parent),
        "basename": lambda path: Path(path).name,
        "to_json": json.dumps,
    }
    site = {"name": "api.example.com", "upstreams": ["127.0.0.1:8000"], "health_path": "/health"}
    given = {"caddy_sites": [site], "caddy_maintenance_answer": {"error": "maintenance"}, **more}
    return environment.from_string((ROLE / "templates/Caddyfile.j2").read_text()).render(DEFAULTS | given)


@pytest.fixture
def host(tmp_path: Path, run_module: Callable[..., dict]) -> Host:
    return Host(tmp_path, run_module)


def test_the_module_switches_in_the_order_check_run_check_run(host: Host) -> None:
    assert host.switch("on", check=True)["changed"] and not host.flag.exists()
    now = host.switch("on", reason="a new disk")["flag"]
    assert (now["owner"], now["by"], now["reason"]) == ("operator", "ada@laptop", "a new disk")
    assert stat.S_IMODE(host.flag.stat().st_mode) == 0o600
    assert stat.S_IMODE(host.flag.parent.stat().st_mode) == 0o755, "Caddy's user must be able to look for the file"
    assert not host.switch("on", check=True)["changed"] and not host.switch("on")["changed"]
    assert host.switch("off", check=True)["changed"] and host.flag.exists()
    assert host.switch("off")["cleared"]["reason"] == "a new disk" and not host.flag.exists()
    assert not host.switch("off")["changed"]


def test_a_verb_clears_its_own_flag_only(host: Host) -> None:
    host.switch("on")
    assert not host.switch("on", owner="vault_restore")["changed"]
    assert not host.switch("off", owner="vault_restore")["changed"] and host.flag.exists()


def test_what_a_killed_run_left_is_named_and_cleared_by_the_next(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(maintenance.AnsibleModule, "warn", lambda _module, text: warnings.append(text))
    since = host.switch("on", owner="vault_restore")["flag"]["since"]
    host.switch("on", owner="vault_restore")
    told = f"An earlier run of vault_restore left it on (since {since}, ada@laptop)"
    assert [told in warning for warning in warnings] == [False, True]
    assert host.switch("off", owner="vault_restore")["cleared"]["since"] == since


def test_a_file_made_by_hand_counts_as_an_operators(host: Host) -> None:
    host.flag.parent.mkdir()
    host.flag.touch()
    assert not host.switch("off", owner="vault_restore")["changed"] and host.switch("off")["changed"]


def test_a_caddy_that_does_not_look_for_the_flag_is_not_switched(host: Host) -> None:
    host.caddyfile.write_text("api.example.com {\n}\n")
    result = host.switch("on")
    assert (result["changed"], result["supported"], host.flag.exists()) == (False, False, False)
    host.caddyfile.unlink()
    assert not host.switch("on")["supported"]


def test_all_programs_agree_on_the_flag_file() -> None:
    path = DEFAULTS["caddy_maintenance_flag"]
    assert yaml.safe_load(maintenance.DOCUMENTATION)["options"]["path"]["default"] == path
    spec = importlib.util.spec_from_file_location("openmates_ready", ROOT / "roles/stack/files/openmates-ready.py")
    ready = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ready)
    assert str(ready.MAINTENANCE) == path


def test_openmates_ready_reports_the_flag(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("openmates_ready", ROOT / "roles/stack/files/openmates-ready.py")
    ready = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ready)
    monkeypatch.setattr(ready, "MAINTENANCE", host.flag)
    assert ready.maintenance() is None
    host.switch("on", reason="a new disk")
    result = {"ready": True, "parts": [ready.part("cache", True, "fine")], "maintenance": ready.maintenance()}
    assert result["maintenance"]["reason"] == "a new disk"
    assert ready.table(result).startswith("IN MAINTENANCE") and "a new disk" in ready.table(result)
    host.flag.write_text("")
    assert ready.maintenance() == {}
    assert not ready.table(result | {"maintenance": None}).startswith("IN MAINTENANCE")


def test_operators_and_origins_are_named_in_the_caddyfile_only_if_there_are_any() -> None:
    without = rendered()
    assert "remote_ip" not in without and "Access-Control" not in without and "respond `" in without
    given = rendered(
        caddy_maintenance_exempt=["192.0.2.0/24"], caddy_maintenance_origins=["https://a.test", "https://b.test"]
    )
    assert "not remote_ip 192.0.2.0/24\n" in given and given.count("header Origin https://b.test\n") == 2

"""Moves: which are possible, how one goes on, and what a moved server refuses."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import sys
from pathlib import Path

import pytest
import yaml
from ansible.template import trust_as_template
from ansible_collections.openmates.server.plugins.plugin_utils import move
from ansible_collections.openmates.server.plugins.plugin_utils.change import holder
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.checks import preflight_problems
from rendering import ROOT, templar

sys.path.insert(0, str(ROOT / "roles/backup/files"))
from openmates_backup import locks, run
from openmates_backup.config import Config
from openmates_backup.problem import Problem


def side(name: str, state: str = "", peer: str = "", problem: str = "", **record: str) -> dict:
    return {
        **{"name": name, "problem": problem, "domain": "api.example.test", "environment": "prod"},
        **{"repository": "/mnt/backups", "record": {"state": state, "peer": peer, **record} if state else {}},
    }


def problems(old: dict, new: dict) -> str:
    return "\n".join(move.plan(old, new)["problems"])


# ---------------------------------------------------------------- how a move begins and goes on


def test_a_first_move_is_of_all_data_and_replaces_nothing() -> None:
    assert move.plan(side("a"), side("b")) == {"problems": [], "restore": True, "replace": False}


@pytest.mark.parametrize(
    ("old", "new", "restore", "replace"),
    [
        # Killed before the last backup, and after it but before the restore has ended.
        (side("a", "moving", "b"), side("b", "arriving", "a"), True, True),
        (side("a", "moving", "b", snapshot="2"), side("b", "arriving", "a"), True, True),
        # A restore of an earlier snapshot has ended: the old one has written since.
        (side("a", "moving", "b", snapshot="2"), side("b", "arriving", "a", restored="1"), True, True),
        # The new one writes already.
        (side("a", "moving", "b", snapshot="2"), side("b", "arriving", "a", restored="2"), False, True),
        (side("a", "moving", "b", snapshot="2"), side("b", "arrived", "a", restored="2"), False, False),
        # Killed before the pause: what the new one holds is a copy of this one, and needs no word.
        (side("a"), side("b", "preparing", "a", restored="1"), True, True),
        (side("a", "moved", "b", snapshot="2"), side("b", "arrived", "a", restored="2"), False, False),
        # After the way back everything is moved again, and what the new one holds needs a word.
        (side("a"), side("b", "returned", "a", restored="2"), True, False),
        # In the other direction.
        (side("b", "arrived", "a", restored="2"), side("a", "moved", "b", snapshot="2"), True, False),
    ],
)
def test_a_repeated_move_goes_on_where_it_was(old: dict, new: dict, restore: bool, replace: bool) -> None:
    assert move.plan(old, new) == {"problems": [], "restore": restore, "replace": replace}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (side("a"), side("a"), "move_from and move_to are the same server"),
        (side("a", "moving", "c"), side("b"), "move_back.yml -e move_from=a -e move_to=c"),
        (side("a", "moved", "c"), side("b"), "a is moved to c"),
        (side("a", "returned", "c"), side("b"), "a does not serve, c does"),
        (side("a", problem="it has no Compose files"), side("b"), "Repair it with `site.yml`"),
        (side("a"), side("b", problem="it has no Compose files"), "bootstrap.yml --limit b -e move_from=a"),
        (side("a"), side("b", "arriving", "c"), "b takes part in another move, with c"),
        (side("a"), side("b", "preparing", "c"), "b takes part in another move, with c"),
        (side("a", "preparing", "c"), side("b"), "a does not serve, c does"),
        (side("a"), side("b") | {"domain": "b.example.test"}, "openmates_domain differs: api.example.test for a"),
        (side("a"), side("b") | {"repository": ""}, "openmates_backup_repository differs"),
        (side("a"), side("b") | {"environment": "dev"}, "the group differs"),
        (side("a") | {"domain": ""}, side("b") | {"domain": ""}, "Only a public name can be forwarded"),
        (side("a") | {"repository": ""}, side("b") | {"repository": ""}, "openmates_backup_repository is empty"),
    ],
)
def test_what_cannot_be_moved_is_refused_with_a_remedy(old: dict, new: dict, words: str) -> None:
    assert words in problems(old, new)


# ---------------------------------------------------------------- what a moved server refuses


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("moving", "move_back.yml -e move_from=prod1 -e move_to=prod2"),
        ("moved", "two servers would write"),
        ("arriving", "move.yml -e move_from=prod2 -e move_to=prod1"),
        ("preparing", "prod1 holds a copy of prod2's data"),
        ("returned", "remove.yml --limit prod1 -e remove_data=prod1"),
        ("of a later version", "unknown record"),
    ],
)
def test_no_verb_changes_a_server_that_does_not_serve(state: str, words: str) -> None:
    record = {"state": state, "peer": "prod2", "since": "2026-11-27T03:00:00+00:00"}
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        told = move.refusal("prod1", record, path.stem)
        assert (words in told) == (path.stem not in move.ALLOWED), path.stem
    seen = {"name": "prod1", "move": record}
    assert any(words in problem for problem in preflight_problems({}, host_state=seen))
    in_a_move = preflight_problems({}, host_state={**seen, "moving_now": True})
    assert not any(words in problem for problem in in_a_move)


def test_a_remedy_is_the_command_with_the_inventory() -> None:
    record = {"state": "moved", "peer": "prod2", "since": "2026-11-27T03:00:00+00:00"}
    command = "ansible-playbook playbooks/move_back.yml -i prod"
    commands = {"move_back": command, "site": "ansible-playbook site.yml -i prod"}
    wanted = f"`{command} -e move_from=prod1 -e move_to=prod2`"
    assert wanted in move.refusal("prod1", record, command=move.from_table(commands))
    found = preflight_problems({}, host_state={"name": "prod1", "move": record, "commands": commands})
    assert any(wanted in problem for problem in found)
    assert "`ansible-playbook site.yml -i prod`" in str(move.plan(side("a", problem="it is off"), side("b"), commands))


@pytest.mark.parametrize("record", [{}, {"state": "arrived", "peer": "prod2"}])
def test_a_server_that_serves_is_changed_as_always(record: dict) -> None:
    assert move.refusal("prod1", record, "site") == ""


def test_the_lock_reports_the_record_beside_it(tmp_path: Path) -> None:
    lock = tmp_path / "change.lock"
    assert holder.record_of_move(lock) == {}
    (tmp_path / "move.json").write_text('{"state": "moved"}')
    assert holder.record_of_move(lock) == {"state": "moved"}
    (tmp_path / "move.json").write_text("[half")
    assert holder.record_of_move(lock) == {}


# ---------------------------------------------------------------- DNS


def resolved(**host: object) -> list[str]:
    found = preflight_problems(
        {},
        {"all_ipv4_addresses": ["198.51.100.14"]},
        values={"openmates_domain": "api.openmates.org"},
        host_state={"resolved": {"api.openmates.org": ["198.51.100.13"]}, **host},
    )
    return [problem for problem in found if "resolves to" in problem]


def test_dns_may_lead_to_the_other_server_of_a_move_and_nowhere_else() -> None:
    assert resolved()
    assert resolved(forwarding=["198.51.100.77"])
    assert not resolved(forwarding=["198.51.100.13"])
    assert not resolved(replaces_another=True)


def wired(tmp_path: Path, name: str, **variables: object) -> object:
    host = templar("prod", tmp_path)
    host.available_variables = {**host.available_variables, **variables}
    return host.template(trust_as_template(f"{{{{ {name} }}}}"))


@pytest.mark.parametrize(
    ("state", "peer", "trusted"),
    [("arrived", "old", True), ("arriving", "old", True), ("arrived", "gone", False), ("moved", "old", False)],
)
def test_the_old_server_is_trusted_to_name_clients_as_long_as_it_is_in_the_inventory(
    tmp_path: Path, state: str, peer: str, trusted: bool
) -> None:
    record = {"state": state, "peer": peer, "addresses": ["198.51.100.13"]}
    given = {"host_info": {"move": record}, "groups": {"all": ["old", "new"]}}
    assert ("198.51.100.13" in wired(tmp_path, "caddy_trusted_proxies", **given)) == trusted
    assert ("198.51.100.13" in wired(tmp_path, "openmates_forwarding", **given)) == (peer == "old")


# ---------------------------------------------------------------- the forward


def caddyfile(tmp_path: Path, **variables: object) -> str:
    host = templar("prod", tmp_path)
    defaults = yaml.safe_load((ROOT / "roles/caddy/defaults/main.yml").read_text())
    host.available_variables = {**defaults, **host.available_variables, **variables}
    return host.template(trust_as_template((ROOT / "roles/caddy/templates/Caddyfile.j2").read_text()))


def test_every_request_is_forwarded_with_name_and_client(tmp_path: Path) -> None:
    text = caddyfile(tmp_path, caddy_forward_to="198.51.100.14", caddy_forward_ca="/etc/caddy/forward-ca.crt")
    site = text[text.index("\napi.example.test {") :]
    proxy = re.search(r"\treverse_proxy https://198\.51\.100\.14:443 {\n(.*?)\n\t}\n", site, re.DOTALL)[1]
    assert "tls_server_name api.example.test" in proxy and "tls_trusted_ca_certs /etc/caddy/forward-ca.crt" in proxy
    assert "insecure" not in text
    # Nothing reaches a service of this server any more, maintenance still closes it, and claims of clients are dropped.
    assert "127.0.0.1:8000" not in text
    assert "@maintenance" in site and "request_header -X-Forwarded-*" in site
    plain = re.search(r"\nhttp://api\.example\.test {\n(.*?)\n}\n", text, re.DOTALL)[1]
    # Each in a block of its own: Caddy would redirect before it forwards, whatever the order in the file is.
    challenge, redirect = re.findall(r"\thandle ?([^{]*) {\n\t\t(.*)\n", plain)
    assert challenge == ("/.well-known/acme-challenge/*", "reverse_proxy http://198.51.100.14:80")
    assert redirect == ("", "redir https://{host}{uri} permanent")


def test_a_server_that_was_not_moved_forwards_nothing(tmp_path: Path) -> None:
    text = caddyfile(tmp_path)
    assert "acme-challenge" not in text and "tls_server_name" not in text and "reverse_proxy 127.0.0.1:8000" in text


# ---------------------------------------------------------------- backups


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        **{"repository": "/mnt/backups", "host": "prod1", "environment": "prod"},
        **{"keep": {}, "volumes": {}, "databases": {}, "state": tmp_path},
    )


@pytest.mark.parametrize("state", ["moved", "preparing", "returned"])
def test_a_server_that_does_not_serve_is_not_backed_up(config: Config, state: str) -> None:
    config.move.write_text(json.dumps({"state": state, "peer": "prod2"}))
    with pytest.raises(Problem, match="prod2 serves in place of this server, and is what has to be backed up"):
        run.back_up(config)


def test_a_backup_waits_for_every_run_but_the_move_that_waits_for_it(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "locked", lambda path: path == config.change_lock)
    for verb, waits in (("site", True), ("move", False)):
        config.change_lock.write_text(json.dumps({"verb": verb}))
        assert bool(locks.change_under_way(config.change_lock, Path("/none"), apart_from=locks.MOVE)) == waits
        assert locks.change_under_way(config.change_lock, Path("/none"))  # a proof gives way to both


# ---------------------------------------------------------------- whether the new server answers


spec = importlib.util.spec_from_file_location("reach", ROOT / "roles/move/files/reach.py")
reach = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reach)


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def refused(*_: object) -> socket.socket:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(reach.socket, "create_connection", refused)
    monkeypatch.setattr(reach, "SECONDS", 0)
    monkeypatch.setattr(sys, "argv", ["reach.py", "198.51.100.14", "", "api.example.test"])
    assert reach.main() == 1
    said = capsys.readouterr().out
    assert "198.51.100.14 cannot be reached as api.example.test" in said and "site.yml --tags firewall,caddy" in said

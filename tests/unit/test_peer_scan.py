"""Scans of other servers: what counts as seen, what is due, and the program with real sockets."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.template import trust_as_template
from ansible_collections.openmates.server.plugins.module_utils import metrics, peer_scan, tcp_scan
from rendering import ROOT, templar
from test_host_metrics import installed
from test_host_wiring import trusted
from test_outside_probe import listener, silent_port

FILE = ROOT / "roles/monitoring/templates/usr/local/lib/openmates/scan_servers.py"
TARGET = peer_scan.Target("b", ["198.51.100.2"], [22, 80, 443], [22])
NOW, DAY = 1_000_000.0, 86400


def entry(**more: object) -> dict:
    """What a scan has found: all declared ports open."""
    found = {"reachable": True, "intercepted": False, "reliable": True, "reason": "", "answered": True}
    return {**found, "open": [22, 80, 443], "closed": 0, "silent": 65532, "errors": {}, "elapsed": 1.0, **more}


def judged(target: peer_scan.Target = TARGET, **more: object) -> peer_scan.Result:
    return peer_scan.judge(target, target.addresses[0], entry(**more), NOW)


JUDGED = {
    "as declared": ({}, ("seen", [], [])),
    "a port too many": ({"open": [22, 80, 443, 6000]}, ("seen", [6000], [])),
    "a port too few": ({"open": [22, 80]}, ("seen", [], [443])),
    "a port that only some networks reach": ({"open": [80, 443]}, ("seen", [], [])),
    "nothing answers": ({"open": [], "answered": False}, ("unreachable", [], [])),
    "all declared ports refuse": ({"open": [], "closed": 65535}, ("unreachable", [], [])),
    "another port alone answers": ({"open": [6000]}, ("unreachable", [6000], [])),
    "no route": ({"open": [], "reachable": False, "reliable": False, "reason": "no route"}, ("incomplete", [], [])),
    "something in between answers": ({"open": [], "intercepted": True, "reason": "proxy"}, ("incomplete", [], [])),
    "not every port was tried": (
        {"open": [80, 6000], "reliable": False, "reason": "too slow"},
        ("incomplete", [6000], []),
    ),
}


@pytest.mark.parametrize("name", JUDGED)
def test_only_a_declared_port_that_answers_proves_a_scan(name: str) -> None:
    found, expected = JUDGED[name]
    result = judged(**found)
    assert (result["state"], result["unexpected"], result["missing"]) == expected
    assert bool(result["seen"]) == (expected[0] == "seen")
    assert bool(result["reason"]) == (expected[0] != "seen")
    assert peer_scan.clean(result) == (expected == ("seen", [], []))


def test_a_server_that_has_no_port_for_this_one_is_not_proven_closed() -> None:
    result = judged(peer_scan.Target("b", ["198.51.100.2"], [22], [22]), open=[])
    assert result["state"] == "incomplete" and "would prove the scan" in result["reason"]


def test_an_open_port_stays_open_until_a_scan_has_seen_it_closed() -> None:
    before = judged(open=[22, 80, 443, 6000, 7000])
    silent = peer_scan.following(before, judged(open=[], answered=False) | {"time": NOW + 3600})
    assert (silent["state"], silent["unexpected"], silent["seen"]) == ("unreachable", [6000, 7000], NOW)
    declared = TARGET._replace(ports=[22, 80, 443, 6000])
    assert peer_scan.following(before, judged(declared, open=[]))["unexpected"] == [7000]
    assert peer_scan.following(before, judged())["unexpected"] == []


def test_an_address_is_due_at_its_time_and_until_nothing_is_wrong() -> None:
    good = judged()
    assert peer_scan.due(None, TARGET, NOW, DAY) == peer_scan.ALL
    assert peer_scan.due(good, TARGET, NOW + DAY - 3600, DAY) == peer_scan.NOTHING
    assert peer_scan.due(good, TARGET, NOW + DAY, DAY) == peer_scan.ALL, "an hour later would be another hour late"
    assert peer_scan.due(good, TARGET, NOW - 60, DAY) == peer_scan.ALL, "the clock was set"
    assert peer_scan.due(judged(open=[80]), TARGET, NOW + 60, DAY) == peer_scan.WRONG
    assert peer_scan.due(judged(open=[80]), TARGET, NOW + DAY, DAY) == peer_scan.ALL
    assert peer_scan.due(judged(open=[]), TARGET, NOW + 60, DAY) == peer_scan.ALL, "nothing is known"
    other = TARGET._replace(ports=[22, 80])
    assert peer_scan.due(good, other, NOW + 60, DAY) == peer_scan.ALL, "something else is declared"


def test_the_metrics_name_twenty_ports_at_most_and_count_all() -> None:
    text = metrics.text("openmates", peer_scan.samples([judged(open=[443, *range(5000, 5100)])]))
    assert text.count("openmates_scan_unexpected_port{") == peer_scan.MOST_PORTS
    assert 'openmates_scan_unexpected_ports{scanned="b",address="198.51.100.2"} 100' in text
    assert 'openmates_scan_missing_port{scanned="b",address="198.51.100.2",port="80"} 1' in text
    lines = [line.partition("{")[0] for line in text.splitlines() if not line.startswith("#")]
    assert lines == sorted(lines, key=list(dict.fromkeys(lines)).index), "the lines of a metric follow each other"


# ---------------------------------------------------------------- the program


@pytest.fixture
def program():
    spec = importlib.util.spec_from_file_location("scan_servers", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config(tmp_path: Path) -> dict:
    (tmp_path / "targets").mkdir()
    paths = {"targets": tmp_path / "targets", "record": tmp_path / "scan.json", "directory": tmp_path / "metrics"}
    numbers = {"hours": 24, "concurrency": 256, "confirm_seconds": 0}
    return {"servers": ["b"], **{name: str(path) for name, path in paths.items()}, **numbers}


def declare(config: dict, server: str, addresses: list[str], ports: list[int], restricted: list[int] | None = None):
    declared = {"addresses": addresses, "ports": ports, "restricted": restricted or []}
    Path(config["targets"], f"{server}.json").write_text(json.dumps(declared))


def run(program, config: dict, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> dict[str, dict]:
    """The results by address after a run of the program."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    monkeypatch.setattr(sys, "argv", ["scan_servers.py", str(file), *arguments])
    program.main()
    return {one["address"]: one for one in json.loads(Path(config["record"]).read_text())["results"]}


def test_an_open_port_is_found_in_both_families_until_it_is_closed(program, config, monkeypatch, tmp_path, capsys):
    """Dropped as a firewall does and refused as a host does; few ports are tried, for the time."""
    with (
        listener("127.0.0.1") as v4,
        listener("::1") as v6,
        silent_port() as (dropped, _),
        listener("::1", False) as no,
    ):
        monkeypatch.setattr(program, "TIMEOUT", 0.3)
        declare(config, "b", ["127.0.0.1", "::1"], [v4, v6])
        with listener("127.0.0.1") as planted, listener("::1") as planted_v6:
            monkeypatch.setattr(program, "ALL_PORTS", sorted({v4, v6, dropped, no, planted, planted_v6}))
            found = run(program, config, monkeypatch, tmp_path)
            assert found["127.0.0.1"]["unexpected"] == [planted] and found["::1"]["unexpected"] == [planted_v6]
            assert found["127.0.0.1"]["missing"] == [v6] and found["::1"]["missing"] == [v4]
            words = f"<4>b at ::1: {planted_v6} is open and not declared; {v4} is declared and closed"
            assert words in capsys.readouterr().out
            text = Path(config["directory"], "scan.prom").read_text()
            assert f'openmates_scan_unexpected_port{{scanned="b",address="::1",port="{planted_v6}"}} 1' in text
        found = run(program, config, monkeypatch, tmp_path)
        assert all(not one["unexpected"] and one["state"] == "seen" for one in found.values())
        assert "unexpected_port{" not in Path(config["directory"], "scan.prom").read_text()


def test_what_is_wrong_has_to_be_wrong_a_second_time(program, config, monkeypatch) -> None:
    answers = [entry(open=[22, 80, 443, 6000]), entry(), entry(open=[]), entry(open=[])]
    tried: list[tuple[list[int], list[int]]] = []

    def scan(_address: str, ports: list[int], expected: list[int], *_: object) -> dict:
        tried.append((ports, expected))
        return answers.pop(0)

    monkeypatch.setattr(tcp_scan, "scan", scan)
    waits: list[float] = []
    assert peer_scan.clean(program.scan(TARGET, "198.51.100.2", config | {"confirm_seconds": 9}, waits.append))
    assert waits == [9] and tried[0] == (list(range(1, 65536)), [22, 80, 443])
    assert tried[1] == ([22, 80, 443, 6000], [22, 80, 443, 6000]), "the others were closed a moment ago"
    assert program.scan(TARGET, "198.51.100.2", config, waits.append)["state"] == "unreachable"
    assert len(tried[3][0]) == 65535


def test_only_servers_of_the_inventory_are_scanned_and_others_are_forgotten(
    program, config, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(tcp_scan, "scan", lambda *_: entry())
    for server, address in (("b", "198.51.100.2"), ("gone", "198.51.100.3"), ("c", "198.51.100.4")):
        declare(config, server, [address], [22, 80, 443])
    found = run(program, config | {"servers": ["b", "c", "unknown"]}, monkeypatch, tmp_path)
    assert set(found) == {"198.51.100.2", "198.51.100.4"}
    monkeypatch.setattr(tcp_scan, "scan", lambda *_: pytest.fail("nothing is due"))
    assert set(run(program, config, monkeypatch, tmp_path)) == {"198.51.100.2"}
    assert "198.51.100.4" not in Path(config["directory"], "scan.prom").read_text()
    assert peer_scan.interval(config) == DAY and peer_scan.interval(config | {"servers": ["unknown"]}) == 0


def test_until_nothing_is_wrong_only_that_is_looked_at_again(program, config, monkeypatch, tmp_path) -> None:
    declare(config, "b", ["198.51.100.2"], [22, 80, 443])
    monkeypatch.setattr(tcp_scan, "scan", lambda *_: entry(open=[22, 80, 443, 6000]))
    full = run(program, config, monkeypatch, tmp_path)["198.51.100.2"]["full"]
    tried: list[list[int]] = []
    monkeypatch.setattr(tcp_scan, "scan", lambda _, ports, *__: tried.append(ports) or entry())
    found = run(program, config, monkeypatch, tmp_path)["198.51.100.2"]
    assert tried == [[22, 80, 443, 6000]] and peer_scan.clean(found)
    assert found["full"] == found["seen"] == full < found["time"]
    run(program, config, monkeypatch, tmp_path)
    assert len(tried) == 1


def test_now_scans_what_is_not_due(program, config, monkeypatch, tmp_path) -> None:
    declare(config, "b", ["198.51.100.2"], [22, 80, 443])
    monkeypatch.setattr(tcp_scan, "scan", lambda *_: entry())
    run(program, config, monkeypatch, tmp_path)
    monkeypatch.setattr(tcp_scan, "scan", lambda *_: entry(open=[22]))
    assert run(program, config, monkeypatch, tmp_path, "--now")["198.51.100.2"]["missing"] == [80, 443]


def test_a_scan_does_not_wait_for_an_answer_of_the_port(program, config, monkeypatch, tmp_path) -> None:
    """sshd and Caddy see a connection that ends, and no bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(program, "ALL_PORTS", [port])
        declare(config, "b", ["127.0.0.1"], [port])
        assert run(program, config, monkeypatch, tmp_path)["127.0.0.1"]["open"] == [port]
        connection, _ = server.accept()
        assert connection.recv(1) == b""


def test_the_program_runs_on_the_host_without_the_collection(config, tmp_path: Path) -> None:
    program = installed(tmp_path, FILE)
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-I", program, tmp_path / "config.json"], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(Path(config["record"]).read_text())["results"] == []


# ---------------------------------------------------------------- what site.yml writes for it


def declared(tmp_path: Path, **settings: object):
    """Reads variables of server a, in a run for a and b. Of c, another server of the inventory, nothing is known."""
    host = templar("prod", tmp_path, **settings)
    other = {"settings": {}, "ansible_facts": {"default_ipv4": {}}, "openmates_open_ports": [22, 443]}
    other |= {"verify_restricted_ports": [22], "verify_addresses": ["198.51.100.2", "2001:db8::2"]}
    host.available_variables |= {
        "inventory_hostname": "a",
        "groups": {"all": ["a", "b", "c", "bastion"], "prod": ["c", "b", "a"], "dev": ["b"]},
        "hostvars": {"b": other, "c": {}, "bastion": {}},
        "ansible_facts": {"default_ipv4": {"address": "198.51.100.1"}, "default_ipv6": {"address": "2001:db8::1"}},
    }
    return host


def read(host, name: str) -> object:
    return host.template(trust_as_template(f"{{{{ {name} }}}}"))


def test_each_other_server_of_the_inventory_is_scanned_and_no_other_host(tmp_path: Path) -> None:
    host = declared(tmp_path)
    assert read(host, "monitoring_scan_servers") == ["b", "c"]
    (target,) = read(host, "monitoring_scan_targets")
    assert target == {"name": "b", "ports": [22, 443], "restricted": [22], "addresses": ["198.51.100.2", "2001:db8::2"]}


def test_a_server_without_ipv6_scans_ipv4(tmp_path: Path) -> None:
    host = declared(tmp_path)
    host.available_variables["ansible_facts"] = {"default_ipv4": {"address": "198.51.100.1"}}
    assert read(host, "monitoring_scan_targets")[0]["addresses"] == ["198.51.100.2"]


def test_one_setting_turns_the_scans_off(tmp_path: Path) -> None:
    host = declared(tmp_path, openmates_scan=False)
    assert read(host, "monitoring_scan_servers") == [] and read(host, "monitoring_scan_targets") == []


def test_the_files_are_one_for_the_program_and_one_for_each_server_that_is_known(tmp_path: Path) -> None:
    host = declared(tmp_path)
    for name in ("defaults", "vars"):
        own = trusted(yaml.safe_load((ROOT / f"roles/monitoring/{name}/main.yml").read_text()))
        host.available_variables = {**own, **host.available_variables}
    files = {file["path"]: json.loads(file["content"]) for file in read(host, "__monitoring_scan_configuration")}
    assert set(files) == {"/etc/openmates/scan.json", "/etc/openmates/scan/b.json"}
    settings = files["/etc/openmates/scan.json"]
    assert settings["servers"] == ["b", "c"] and (settings["hours"], settings["concurrency"]) == (24, 256)
    assert set(files["/etc/openmates/scan/b.json"]) == {"addresses", "ports", "restricted"}

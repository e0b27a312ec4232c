"""The program that writes metrics of the host: every part of it, and what a part that fails does to the others."""

from __future__ import annotations

import importlib.util
import json
import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible.template import trust_as_template
from rendering import ROOT, templar
from test_host_wiring import trusted

FILE = ROOT / "roles/monitoring/templates/usr/local/lib/openmates/host_metrics.py"
CONFIG = {
    **{
        "project": "openmates",
        "names": ["a.test"],
        "ports": [22],
        "listeners": ["172.30.0.1:9100"],
        "queues": ["a", "b"],
    },
    **{"vault_address": "172.30.0.14", "vault_token_file": "/none", "maintenance_flag": "/none", "backups": True},
}


@pytest.fixture
def program():
    spec = importlib.util.spec_from_file_location("host_metrics", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_parts_are_named_by_what_they_concern(program, monkeypatch) -> None:
    monkeypatch.setattr(program.certificate, "found", lambda name: {"ends": 5.0, "problem": ""})
    monkeypatch.setattr(program.system, "failed_units", lambda: ["caddy.service"])
    listening = [
        {"address": "0.0.0.0", "port": 22, "program": "sshd"},
        {"address": "127.0.0.1", "port": 1, "program": "one"},
        {"address": "172.30.0.1", "port": 9100, "program": "exporter"},
        {"address": "198.51.100.1", "port": 9100, "program": "exporter"},
    ]
    monkeypatch.setattr(program.listeners, "found", lambda _: listening)
    seen = program.Look(CONFIG)
    found = program.look([seen.certificates, seen.units, seen.listening, seen.state])
    values = {name: value for name, (value, _) in found.items()}
    assert values['certificate_expires_timestamp_seconds{name="a.test"}'] == 5
    assert values['failed_unit{unit="caddy.service"}'] == 1
    assert [name for name in values if name.startswith("unexpected_listener{")] == [
        'unexpected_listener{port="9100",program="exporter"}'
    ], "the exporter on another address than its own"
    assert values["backup_expected"] == 1 and values["maintenance"] == 0
    assert not any(value for name, value in values.items() if name.startswith("host_part_failed"))


def test_a_part_that_fails_is_named_and_the_others_are_written(program, monkeypatch, capsys) -> None:
    monkeypatch.setattr(program.certificate, "found", lambda name: {"ends": None, "problem": "no answer"})
    monkeypatch.setattr(program.system, "failed_units", list)
    seen = program.Look(CONFIG)
    found = program.look([seen.certificates, seen.units])
    assert found['host_part_failed{part="certificates"}'][0] == 1 and found['host_part_failed{part="units"}'][0] == 0
    assert found["failed_units"][0] == 0 and "certificates: no answer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"token_seconds": 90, "token_problem": ""}, 90),
        ({"token_seconds": None, "token_problem": "refused"}, 0),
        ({"token_seconds": None, "token_problem": ""}, None),
    ],
)
def test_the_token_is_zero_if_vault_refuses_it_and_unknown_while_vault_is_sealed(
    program, monkeypatch, answer, expected
) -> None:
    monkeypatch.setattr(program.vault_server, "found", lambda address, file: answer)
    assert program.Look(CONFIG).vault()["vault_token_seconds"][0] == expected


class Cache(socketserver.StreamRequestHandler):
    """The two commands of Redis that the program uses."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            words = [self.word() for _ in range(int(line[1:]))]
            if words[0] == b"AUTH":
                self.wfile.write(b"+OK\r\n" if words[1] == b"right" else b"-WRONGPASS\r\n")
            else:
                self.wfile.write(b":%d\r\n" % {b"a": 3, b"b": 0}[words[1]])

    def word(self) -> bytes:
        return self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2]


@pytest.fixture
def cache(program, monkeypatch, tmp_path: Path) -> Iterator[Path]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Cache) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(program, "CACHE_PORT", server.server_address[1])
        monkeypatch.setattr(program.Docker, "address", lambda _, service: "127.0.0.1")
        yield tmp_path / "password"
        server.shutdown()


def test_the_lengths_of_the_queues_are_read_from_the_cache(program, cache: Path) -> None:
    seen = program.Look({**CONFIG, "cache_password_file": str(cache)})
    cache.write_text("right\n")
    assert {name: value for name, (value, _) in seen.queues().items()} == {
        'queue_length{queue="a"}': 3,
        'queue_length{queue="b"}': 0,
    }
    cache.write_text("wrong")
    with pytest.raises(program.Problem, match="password"):
        seen.queues()


def test_updates_are_counted_after_a_change_and_now_and_then(program, monkeypatch, tmp_path: Path) -> None:
    lists, file = tmp_path / "lists", tmp_path / "updates.prom"
    lists.mkdir()
    monkeypatch.setattr(program, "PACKAGES", (lists, tmp_path / "missing"))
    assert program.updates_due(file, 1000)
    file.touch()
    os.utime(file, (2000, 2000))
    os.utime(lists, (1000, 1000))
    assert not program.updates_due(file, 2000 + program.UPDATES_EVERY)
    assert program.updates_due(file, 2001 + program.UPDATES_EVERY)
    os.utime(lists, (2500, 2500))
    assert program.updates_due(file, 2600)


def installed(tmp_path: Path, file: Path) -> Path:
    """A program of the role with the modules beside it, as the role installs them."""
    host = templar("prod", tmp_path / "inventory")
    known = trusted(yaml.safe_load((ROOT / "roles/monitoring/vars/main.yml").read_text()))
    host.available_variables = {**host.available_variables, **known, "role_path": str(ROOT / "roles/monitoring")}
    for shared in host.template(trust_as_template("{{ __monitoring_shared }}")):
        path = tmp_path / "host" / shared["path"].removeprefix("usr/local/lib/openmates/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shared["content"])
    program = tmp_path / "host" / file.name
    program.write_text(file.read_text())
    return program


def test_the_program_finds_its_modules_on_the_host_without_the_collection(tmp_path: Path) -> None:
    """By a Python that knows no other directory."""
    program = installed(tmp_path, FILE)
    scan = {"servers": [], "targets": "/none", "hours": 24}
    (tmp_path / "scan.json").write_text(json.dumps(scan))
    config = {
        **CONFIG,
        "directory": str(tmp_path / "metrics"),
        "names": [],
        "cache_password_file": "/none",
        "queues": [],
        "scan": str(tmp_path / "scan.json"),
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-I", program, tmp_path / "config.json"], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "metrics/host.prom").read_text()
    assert "openmates_backup_expected 1" in written and "openmates_scan_interval_seconds 0" in written

"""frontend.yml triggers the deploy hook of one frontend, after a confirmation, and shows no part of it."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from authority import Authority

ROOT = Path(__file__).resolve().parents[2]
SECRET = "prj_canary/hook-canary"


class Vercel(BaseHTTPRequestHandler):
    """Answers a deploy hook as Vercel does."""

    asked: list[str]
    status = 201

    def do_POST(self) -> None:
        self.asked.append(self.path)
        body = json.dumps({"job": {"id": "job4711", "state": "PENDING", "createdAt": 1}}).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Keep the test's output clean."""


class Operator:
    """An inventory of two servers whose frontends are on the stand-in of Vercel."""

    def __init__(self, folder: Path) -> None:
        authority = Authority(folder, "Test CA")
        self.handler = type("Handler", (Vercel,), {"asked": []})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.issue("localhost", 60))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.hook = f"https://localhost:{self.server.server_address[1]}/v1/integrations/deploy/{SECRET}"
        self.inventory = folder / "hosts.yml"
        self.variables = {
            "openmates_ca_file": str(authority.file),
            "openmates_frontends": {"website": {"deploy_hook": self.hook}},
        }
        self.write({"prod1": {}, "prod2": {}})

    def write(self, hosts: dict) -> None:
        self.inventory.write_text(yaml.safe_dump({"prod": {"hosts": hosts, "vars": self.variables}}))
        self.inventory.chmod(0o600)

    def run(self, *arguments: str) -> tuple[int, str]:
        command = [
            Path(sys.executable).parent / "ansible-playbook",
            ROOT / "playbooks/frontend.yml",
            "-i",
            self.inventory,
        ]
        settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_PROXY": "*"}
        done = subprocess.run(
            [*map(str, command), "-vvv", *arguments],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert "canary" not in output
        return done.returncode, " ".join(output.split())


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    operator = Operator(tmp_path_factory.mktemp("operator"))
    yield operator
    operator.server.shutdown()
    operator.server.server_close()


@pytest.fixture
def asked(operator: Operator) -> list[str]:
    """The paths that the stand-in of Vercel has been asked for in this test."""
    operator.handler.asked.clear()
    return operator.handler.asked


def test_a_confirmed_frontend_is_deployed_once(operator: Operator, asked: list[str]) -> None:
    code, output = operator.run("-e", "frontend=website", "-e", "confirmed=website")
    assert code == 0 and "website is being deployed: job job4711, PENDING" in output
    assert asked == [f"/v1/integrations/deploy/{SECRET}"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-e", "frontend=website"], "the confirmation is not website. Without a terminal, add -e confirmed=website"),
        (["-e", "frontend=website", "-e", "confirmed=yes"], "the confirmation is not website"),
        (["-e", "frontend=app", "-e", "confirmed=app"], "openmates_frontends.app.deploy_hook is not an https:// URL"),
        ([], "frontend is missing"),
    ],
)
def test_anything_else_deploys_nothing(operator: Operator, asked: list[str], arguments: list[str], words: str) -> None:
    code, output = operator.run(*arguments)
    assert code != 0 and words in output and not asked


def test_a_dry_run_deploys_nothing(operator: Operator, asked: list[str]) -> None:
    code, output = operator.run("-e", "frontend=website", "--check")
    assert code == 0 and "website would be deployed" in output and not asked


def test_servers_with_different_hooks_are_named_one_at_a_time(operator: Operator, asked: list[str]) -> None:
    operator.write({"prod1": {}, "prod2": {"openmates_frontends": {"website": {"deploy_hook": f"{operator.hook}2"}}}})
    try:
        code, output = operator.run("-e", "frontend=website", "-e", "confirmed=website")
        assert (
            code != 0 and "the deploy hooks of website differ. Name one server: --limit prod1" in output and not asked
        )
        code, _ = operator.run("-e", "frontend=website", "-e", "confirmed=website", "--limit", "prod2")
        assert code == 0 and asked == [f"/v1/integrations/deploy/{SECRET}2"]
    finally:
        operator.write({"prod1": {}, "prod2": {}})


def test_a_hook_that_vercel_refuses_is_reported(
    operator: Operator, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator.handler, "status", 404)
    code, output = operator.run("-e", "frontend=website", "-e", "confirmed=website")
    assert code != 0 and "its deploy hook was refused with status 404" in output

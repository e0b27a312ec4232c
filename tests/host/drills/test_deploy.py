"""A deploy and a rollback under load, and what decides where Caddy sends a request meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from killing import kill_at
from moments import DEPLOY
from web import ask

from lab import ROOT, recap, wait_until

API = "registry.openmates.test/glowingkitty/openmates-api"
SETUP = "registry.openmates.test/glowingkitty/openmates-cms-setup"
GATE = "/run/openmates/gate"
LOCK, HISTORY = "/var/lib/openmates/change.lock", "/var/log/openmates/history.jsonl"
#: All ten of them are in `make deploy-proof`.
KILLED_AT = ("images-pulled", "files-written", "second-api-starts")
#: `make deploy-proof` has the default of 30 s.
STEADY = ("-e", "openmates_steady_seconds=5")


@pytest.fixture
def gate(server) -> Iterator[str]:
    """The gate's directory, which is empty again at the end."""
    server.run(f"mkdir -p {GATE} && chmod 755 /run/openmates {GATE}")
    yield GATE
    server.run(f"rm -f {GATE}/*:*")


def test_a_file_chooses_the_upstream_of_each_request(server, gate):
    [port] = {binding["HostPort"] for binding in server.containers()["api"]["NetworkSettings"]["Ports"]["8000/tcp"]}
    other = {"8000": "8001", "8001": "8000"}[port]
    server.run(f"touch {gate}/127.0.0.1:{port}")
    assert ask(server, "GET", "/v1/health").status == 200
    server.run(f"touch {gate}/127.0.0.1:{other} && rm {gate}/127.0.0.1:{port}")
    assert ask(server, "GET", "/v1/health").status == 502  # nothing runs there, and no other upstream is tried
    for path in ("/internal/validate-token", "/metrics/"):
        answer = ask(server, "GET", path)
        assert (answer.status, answer.read()) == (404, b"")
    server.run(f"rm {gate}/127.0.0.1:{other}")
    assert ask(server, "GET", "/v1/health").status == 200


@pytest.fixture
def version(server) -> Iterator[str]:
    """Another version of the backend that the host has, which differs in one variable; the test returns from it."""
    tag = "v0.14.0-other"
    command = """'CMD ["uvicorn", "backend.core.api.main:app", "--host", "0.0.0.0", "--port", "8000"]'"""
    server.run(
        f"container=$(docker create {API}:v0.14.0 true) && docker commit --change 'ENV OTHER=1' --change {command}"
        f" $container {API}:{tag} && docker rm $container && docker tag {SETUP}:v0.14.0 {SETUP}:{tag}"
    )
    yield tag
    if server.containers()["api"]["Config"]["Image"] == f"{API}:{tag}":
        server.playbook("site.yml", "-e", "accept_release=inventory", "--tags", "stack")  # what follows runs site.yml


@pytest.fixture
def load(server, tmp_path):
    """A load generator that ends, with its result, when it is called."""
    out = tmp_path / "load.json"
    command = [sys.executable, ROOT / "tests/load/load.py", "--host", server.domain, "--address", server.addresses[0]]
    process = subprocess.Popen([*command, "--ca-file", ROOT / ".lab/acme-root.crt", "--out", out])

    def end() -> dict:
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        return json.loads(out.read_text())

    yield end
    process.kill()


def kill_deploy(server, version: str, moment: str) -> None:
    """Start a deploy and kill Ansible at a moment of it."""
    operator = server.operator
    command = ["ansible-playbook", operator.playbook("playbooks/deploy.yml"), "-i", operator.inventory]
    command += ["--limit", server.name, "-e", f"version={version}", *STEADY]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(operator.directory / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    kill_at(DEPLOY[moment], command, lambda shell: server.host.run(shell).rc == 0, operator.directory, environment)


def test_no_request_fails_in_a_deploy_that_is_killed_and_repeated_and_a_rollback(server, version, load):
    dry = server.playbook("playbooks/deploy.yml", "-e", f"version={version}", "--check")
    assert dry.returncode == 0, dry.stdout[-3000:]
    assert "collections do not change" in dry.stdout and recap(dry.stdout)["changed"] > 0

    for moment in KILLED_AT:
        kill_deploy(server, version, moment)
        wait_until(lambda: server.run(f"cat {LOCK}") == "", "the lock is free", 15)
        last = json.loads(server.run(f"tail -n 1 {HISTORY}"))
        assert (last["verb"], last["result"]) == ("deploy", "interrupted"), f"killed at {moment}"

    deployed = server.playbook("playbooks/deploy.yml", "-e", f"version={version}", *STEADY)
    assert deployed.returncode == 0, deployed.stdout[-3000:]
    assert server.containers()["api"]["Config"]["Image"] == f"{API}:{version}"
    newest = json.loads(server.run("openmates-release list --json"))[0]
    assert newest["schema"]["changed"] is False, "cms-setup has the same schema files"

    refused = server.playbook("site.yml")
    assert refused.returncode != 0
    assert f"openmates_version: {version}" in refused.stdout

    dry = server.playbook("playbooks/rollback.yml", "--check")
    assert dry.returncode == 0, dry.stdout[-3000:]
    assert "v0.14.0-other" in dry.stdout and server.containers()["api"]["Config"]["Image"] == f"{API}:{version}"

    returned = server.playbook("playbooks/rollback.yml", *STEADY)
    assert returned.returncode == 0, returned.stdout[-3000:]
    assert "schema is the same" in returned.stdout
    assert server.containers()["api"]["Config"]["Image"] == f"{API}:v0.14.0"

    result = load()
    assert result["requests"] > 1000
    assert not result["failed"], result["failures"]
    assert result["websockets"]["closed"] == {"1012": 20}
    for service in ("api", "task-worker", "task-scheduler"):
        assert len(server.run(f"docker ps -q --filter label=com.docker.compose.service={service}").split()) == 1
    assert not server.run(f"ls {GATE}")

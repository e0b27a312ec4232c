"""Scripts that run before an image's own program: Grafana's password, and vault-setup."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real import ROOT, docker, image, wait_until

CONFIG = ROOT / "files/compose/config"
QUIET = {
    **dict.fromkeys(("GF_ANALYTICS_REPORTING_ENABLED", "GF_ANALYTICS_CHECK_FOR_UPDATES"), "false"),
    **dict.fromkeys(("GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES", "GF_NEWS_NEWS_FEED_ENABLED"), "false"),
    **{"GF_PLUGINS_PREINSTALL_DISABLED": "true", "GF_SECURITY_DISABLE_GRAVATAR": "true"},
    **{"GF_SNAPSHOTS_EXTERNAL_ENABLED": "false", "GF_SECURITY_ADMIN_PASSWORD__FILE": "/run/secrets/ADMIN_PASSWORD"},
}


@pytest.fixture
def name(worker_id: str) -> Iterator[str]:
    """A name for a container and for a volume or network, which are removed after the test."""
    name = f"openmates-start-test-{worker_id}"

    def remove() -> None:
        docker("rm", "--force", "--volumes", name, check=False)
        docker("volume", "rm", "--force", name, check=False)
        docker("network", "rm", name, check=False)

    remove()
    yield name
    remove()


def readable(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text)
        (folder / file).chmod(0o444)
    folder.chmod(0o755)
    return folder


def test_a_changed_password_of_grafana_takes_effect(name: str, tmp_path: Path) -> None:
    secret = readable(tmp_path / "secrets", ADMIN_PASSWORD="first-password")

    def start() -> None:
        docker("rm", "--force", name, check=False)
        docker(
            *("run", "--detach", "--name", name, "--network", "none", "--user", "472:0", "--read-only"),
            *("--cap-drop", "ALL", "--tmpfs", "/tmp", "--volume", f"{name}:/var/lib/grafana"),
            *("--volume", f"{CONFIG / 'grafana/start'}:/openmates:ro", "--volume", f"{secret}:/run/secrets:ro"),
            *(part for pair in QUIET.items() for part in ("--env", "=".join(pair))),
            *("--entrypoint", "/bin/sh", image("grafana"), "/openmates/start.sh"),
        )
        health = ("exec", name, "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:3000/api/health")
        wait_until(lambda: docker(*health, check=False).returncode == 0, "Grafana answers")

    def accepts(password: str) -> bool:
        token = base64.b64encode(f"admin:{password}".encode()).decode()
        url = "http://127.0.0.1:3000/api/datasources"
        command = ("wget", "-q", "-O", "/dev/null", "--header", f"Authorization: Basic {token}", url)
        return docker("exec", name, *command, check=False).returncode == 0

    start()
    assert (accepts("first-password"), accepts("second-password")) == (True, False)
    time.sleep(0.05)  # the clock of files is coarse
    (secret / "ADMIN_PASSWORD").unlink()
    readable(secret, ADMIN_PASSWORD="second-password")
    start()
    assert (accepts("first-password"), accepts("second-password")) == (False, True)
    start()
    assert accepts("second-password")
    done = docker("logs", name)
    assert "setting it" not in done.stdout + done.stderr, "it was set already"


def test_vault_setup_asks_for_the_token_and_shows_it_to_no_one(name: str, tmp_path: Path) -> None:
    token = "the-token-of-this-test"
    docker("network", "create", name)
    docker(
        *(
            "run",
            "--detach",
            "--name",
            name,
            "--network",
            name,
            "--network-alias",
            "vault",
            "--env",
            "SKIP_SETCAP=true",
        ),
        *(image("openbao"), "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={token}"),
        "-dev-listen-address=0.0.0.0:8200",
    )
    health = ("exec", name, "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8200/v1/sys/health")
    wait_until(lambda: docker(*health, check=False).returncode == 0, "OpenBao answers")

    def ask(value: str) -> tuple[int, str]:
        data = readable(tmp_path / "data", **{"api.token": value})
        done = docker(
            *("run", "--rm", "--network", name, "--user", "1000:1000", "--read-only", "--tmpfs", "/tmp"),
            *("--memory", "32m", "--volume", f"{data}:/vault-data:ro"),
            *("--volume", f"{CONFIG / 'vault-setup'}:/openmates:ro", "--entrypoint", "/bin/sh", image("openbao")),
            *("-x", "/openmates/vault-setup.sh", "vault"),
            check=False,
        )
        (data / "api.token").unlink()
        return done.returncode, done.stdout + done.stderr

    code, output = ask(token)
    assert code == 0, output
    # `-x` shows each command with its arguments: only a builtin, which is no process, may have the token among them.
    # The lines of the shell and of its background job may run into each other: the last `+ ` before the token counts.
    before = [line.partition(token)[0].rpartition("+ ")[2] for line in output.splitlines() if token in line]
    assert {text.split()[0].split("=")[0] for text in before} == {"token", "printf"}
    code, output = ask("another")
    assert code == 1 and "run site.yml, which issues a new one" in output
    docker("rm", "--force", name)
    code, output = ask(token)
    assert code == 1 and "Vault does not answer at vault:8200" in output

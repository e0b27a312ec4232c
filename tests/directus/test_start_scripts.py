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


def recording_programs(folder: Path) -> tuple[Path, Path]:
    """A folder for PATH with a wrapper for each program of BusyBox, and the file that gets their arguments."""
    wrapper = '#!/bin/sh\necho "${0##*/} $*" >>/arguments\nexec /bin/busybox "${0##*/}" "$@"\n'
    names = docker("run", "--rm", "--entrypoint", "/bin/busybox", image("openbao"), "--list").stdout.split()
    assert {"nc", "env", "printf"} <= set(names)
    programs = readable(folder / "programs", **dict.fromkeys(names, wrapper))
    for program in programs.iterdir():
        program.chmod(0o555)
    arguments = folder / "arguments"
    arguments.touch()
    arguments.chmod(0o666)
    return programs, arguments


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

    programs, arguments = recording_programs(tmp_path)

    def ask(value: str, script: Path = CONFIG / "vault-setup/vault-setup.sh") -> tuple[int, str]:
        data = readable(tmp_path / "data", **{"api.token": value})
        arguments.write_text("")
        done = docker(
            *("run", "--rm", "--network", name, "--user", "1000:1000", "--read-only", "--tmpfs", "/tmp"),
            *("--memory", "32m", "--volume", f"{data}:/vault-data:ro", "--volume", f"{script}:/vault-setup.sh:ro"),
            *("--volume", f"{programs}:/programs:ro", "--volume", f"{arguments}:/arguments"),
            *("--env", "PATH=/programs:/bin", "--entrypoint", "/bin/sh", image("openbao")),
            *("/vault-setup.sh", "vault"),
            check=False,
        )
        (data / "api.token").unlink()
        return done.returncode, done.stdout + done.stderr

    code, output = ask(token)
    assert code == 0, output
    assert token not in output and token not in arguments.read_text()
    assert "nc -w 10 vault 8200" in arguments.read_text(), "programs are recorded"
    careless = tmp_path / "careless.sh"
    careless.write_text((CONFIG / "vault-setup/vault-setup.sh").read_text().replace("\nprintf ", "\nenv printf "))
    code, output = ask(token, careless)
    assert code == 0 and token in arguments.read_text(), "a token among a program's arguments is seen"
    code, output = ask("another")
    assert code == 1 and "run site.yml, which issues a new one" in output
    docker("rm", "--force", name)
    code, output = ask(token)
    assert code == 1 and "Vault does not answer at vault:8200" in output

"""A Directus, set up once for all tests, and a Vault that keeps tokens."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hvac
import pytest
from one_shot import Setup
from ports import free_port
from real import PROJECT, SAMPLE, Api, Stack, wait_until


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Stack]:
    """A bootstrapped Directus that runs, one for each process that runs tests."""
    stack = Stack(tmp_path_factory.mktemp("secrets"), f"{PROJECT}-{worker_id}")
    try:
        stack.start_stores()
        done = stack.once("node", "cli.js", "bootstrap")
        assert done.returncode == 0, done.stdout + done.stderr
        stack.start_cms()
        yield stack
    finally:
        stack.remove()


@pytest.fixture
def admin(stack: Stack) -> Api:
    """The administrator's session, for direct requests."""
    return Api(stack.url).log_in(stack.environment["ADMIN_EMAIL"], stack.admin_password)


class Vault:
    """A development OpenBao with the engine that keeps tokens, and a file with a token to read them."""

    def __init__(self, folder: Path) -> None:
        address = f"127.0.0.1:{free_port()}"
        root = secrets.token_hex(16)
        command = [Path(sys.executable).parent / "bao", "server", "-dev", "-dev-no-store-token"]
        self.log = folder / "bao.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, f"-dev-root-token-id={root}", f"-dev-listen-address={address}"], stdout=log, stderr=log
            )
        self.url = f"http://{address}"
        self.token_file = folder / "api.token"
        self.token_file.write_text(root)
        self.client = hvac.Client(self.url, token=root)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError):
            return self.client.sys.read_health_status().status_code == 200
        return False

    def put(self, name: str, token: str) -> None:
        self.client.secrets.kv.v2.create_or_update_secret(f"system/directus/{name}", {"token": token}, mount_point="kv")


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    vault = Vault(tmp_path_factory.mktemp("vault"))
    try:
        wait_until(vault.answers, "OpenBao answers", 120)
        vault.client.sys.enable_secrets_engine("kv", path="kv", options={"version": "2"})
        yield vault
    finally:
        vault.process.terminate()
        vault.process.wait(20)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Stack]:
    """An empty database and a cache, without a Directus."""
    stack = Stack(tmp_path_factory.mktemp("setup-secrets"), f"openmates-directus-setup-{worker_id}")
    try:
        stack.start_stores()
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="module")
def setup(stores: Stack, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(stores, tmp_path_factory.mktemp("setup"))


@pytest.fixture(scope="module")
def done(setup: Setup) -> Setup:
    """A database that is set up, with the sample schema."""
    setup.schema(SAMPLE)
    setup.works()
    return setup

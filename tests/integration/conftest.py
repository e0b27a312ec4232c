"""Hosts with a Vault, and their output. Each file has its own, so that files can run at the same time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from vault_site import SEED, Bao, Site


@pytest.fixture(scope="module")
def seen():
    """All output, and all secrets."""
    return {"outputs": [], "secrets": {SEED}, "folders": []}


@pytest.fixture(scope="module")
def make_site(tmp_path_factory, seen):
    """A function that makes a host with a running, empty Vault."""
    servers = []

    def make(name: str) -> Site:
        folder = tmp_path_factory.mktemp(name)
        seen["folders"].append(folder)
        bao = Bao(folder / "vault")
        servers.append(bao)
        bao.start()
        return Site(folder, bao, seen["outputs"], seen["secrets"])

    yield make
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def provisioned(make_site) -> Site:
    """A host on which the role ran once."""
    site = make_site("provisioned")
    site.provision()
    return site


def leaks(texts: list[str], secrets: set[str]) -> list[str]:
    return [secret for secret in secrets if any(secret in text for text in texts)]


@pytest.fixture
def search_for_secrets(seen) -> Callable[[], None]:
    """A function that fails if a secret is in the output, or in a file where it does not belong."""

    def search() -> None:
        assert len(seen["secrets"]) > 10, "run this test with the others"
        assert any('"custody": ' in text for text in seen["outputs"]), "the answer with the keys was to be seen, hidden"
        assert leaks(seen["outputs"], seen["secrets"]) == []
        files = {
            path: path.read_text(errors="replace")
            for folder in seen["folders"]
            for path in folder.rglob("*")
            if path.is_file() and path.name != "api.token" and "raft" not in path.parts
        }
        assert [path for path, text in files.items() if leaks([text], seen["secrets"])] == []
        planted = [*seen["outputs"], f"planted: {SEED}"]
        assert leaks(planted, seen["secrets"]) == [SEED], "the search itself has to work"

    return search

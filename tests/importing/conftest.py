"""The installer's server, and a new one beside it: databases of both versions, and what is between them."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "roles/import/files"), str(ROOT / "roles/backup/files"), str(Path(__file__).parent)]

import installer_server  # noqa: E402
from installer_server import InstallerServer  # noqa: E402
from new_server import New  # noqa: E402
from openmates_import import export, installer, server  # noqa: E402


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstallerServer]:
    if not installer_server.VAULT.is_file():
        pytest.fail(f"{installer_server.VAULT} is missing: `python lab/file_vault.py` makes it")
    found = InstallerServer(tmp_path_factory.mktemp("installer"), f"import-old-{secrets.token_hex(4)}")
    try:
        found.start()
        yield found
    finally:
        found.remove()


@pytest.fixture(scope="session")
def new(tmp_path_factory: pytest.TempPathFactory) -> Iterator[New]:
    found = New(tmp_path_factory.mktemp("new"))
    try:
        found.start()
        yield found
    finally:
        found.remove()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directories of an import, below a temporary one."""
    names = {"STAGING": tmp_path / "staging", "SECRET": tmp_path / "secret", "EXPORT": tmp_path / "staging/export"}
    names |= {"STOPPED": tmp_path / "staging/stopped.json", "VAULT_EXPORT": tmp_path / "secret/vault.jsonl"}
    names |= {"RECEIVED": tmp_path / "staging/received", "VAULT_RECEIVED": tmp_path / "received"}
    for module in (export, installer, server):
        for name, path in names.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, path)
    return tmp_path

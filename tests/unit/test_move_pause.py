"""What a move does while clients wait: what it refuses, what it compares, and what has to start again."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rendering import ROOT

sys.path.insert(0, str(ROOT / "roles/backup/files"))
from openmates_backup import move, postgres, state, vault
from openmates_backup.config import Config
from openmates_backup.problem import Problem
from openmates_backup.restore_parts import DATABASE, Part


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config("/mnt/backups", "prod2", "prod", {}, {}, {}, state=tmp_path, docker_root=tmp_path / "docker")


@pytest.mark.parametrize("recorded", ["", "preparing", "arrived", "moved", "returned"])
def test_a_server_that_is_not_in_a_pause_takes_no_part_in_one(config: Config, recorded: str) -> None:
    if recorded:
        state.write(config.move, {"state": recorded})
    with pytest.raises(Problem, match="No move from this server is under way"):
        move.hand_over(config, print)
    with pytest.raises(Problem, match="No move to this server is under way"):
        move.take_over(config, "0" * 64, print)


# ---------------------------------------------------------------- whether Vault's secrets have changed


def varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + varint(number >> 7)


def entry(key: str, value: bytes) -> bytes:
    fields = [b"\x0a" + varint(len(key)) + key.encode(), b"\x12" + varint(len(value)) + value, b"\x18\x07"]
    return varint(len(b"".join(fields))) + b"".join(fields)


@pytest.fixture
def contents(tmp_path: Path) -> Callable[..., str]:
    """The digest of a snapshot with these entries of raft's storage."""

    def made(*entries: bytes) -> str:
        path = tmp_path / "vault.snap"
        with tarfile.open(path, "w:gz") as archive:
            about = tarfile.TarInfo("state.bin")
            about.size = sum(map(len, entries))
            archive.addfile(about, io.BytesIO(b"".join(entries)))
        return vault.contents(path)

    return made


KEY = entry("logical/1/policy/user_1", b"of transit" * 40)
SECRET = entry("logical/2/versions/3", b"of kv")


def test_tokens_leases_and_the_order_do_not_count(contents: Callable[..., str]) -> None:
    before = contents(KEY, SECRET, entry("sys/token/id/h1", b"1"), entry("sys/expire/id/1", b"1"))
    assert contents(SECRET, entry("sys/token/id/h2", b"2"), KEY) == before


@pytest.mark.parametrize(
    "entries",
    [
        [KEY],
        [KEY, SECRET, entry("logical/1/policy/user_2", b"of transit")],
        [KEY, entry("logical/2/versions/3", b"another")],
        [KEY, entry("logical/2/versions/4", b"of kv")],
    ],
)
def test_a_secret_that_is_new_other_or_gone_counts(contents: Callable[..., str], entries: list[bytes]) -> None:
    assert contents(*entries) != contents(KEY, SECRET)


def test_a_format_that_is_not_known_is_no_unchanged_vault(contents: Callable[..., str]) -> None:
    with pytest.raises(Problem, match="unknown kind"):
        contents(varint(2) + b"\x0d\x01")


# ---------------------------------------------------------------- whether Directus has to start again


TABLES = {
    "public.directus_permissions": {"rows": 2, "digest": "1.2"},
    "public.invite_codes": {"rows": 5, "digest": "3.4"},
}


class Database:
    user = "directus"

    def program(self, name: str) -> list[str]:
        return [name]


@pytest.mark.parametrize(
    ("now", "restart"),
    [
        (TABLES, False),
        (TABLES | {"public.invite_codes": {"rows": 1, "digest": "0.0"}}, False),
        (TABLES | {"public.directus_permissions": {"rows": 2, "digest": "1.3"}}, True),
        ({"public.invite_codes": {"rows": 5, "digest": "3.4"}}, True),
    ],
)
def test_directus_starts_again_only_for_what_it_remembers(
    monkeypatch: pytest.MonkeyPatch, now: dict, restart: bool
) -> None:
    class Session:
        def ask(self, sql: str) -> list[list[str]]:
            if sql == postgres.TABLES:
                return [[table, *table.split(".")] for table in now]
            [found] = [about for table, about in now.items() if f"only {table} " in sql]
            return [[str(found["rows"]), found["digest"]]]

    @contextmanager
    def session(*_: object) -> Iterator[Session]:
        yield Session()

    monkeypatch.setattr(move, "session", session)
    part = Part("cms-database", DATABASE, {"databases": {"postgres": {"tables": {}}, "directus": {"tables": TABLES}}})
    assert move._outdated(Database(), part) == restart

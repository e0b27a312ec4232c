"""Digests of secrets that a container's label may show: the host's key, and what host_files returns."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils import keyed_digest
from ansible_collections.openmates.server.plugins.module_utils.keyed_digest import by_directory, host_key
from ansible_collections.openmates.server.plugins.modules import host_files

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SECRETS = {"api/TOKEN": "s3cret", "api/PASSWORD": "pw", "worker/TOKEN": "s3cret", "cms/PASSWORD": "pw"}


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "digest.key"


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---------------------------------------------------------------- the key


def test_the_key_is_made_once_and_for_its_owner_alone(key_file: Path) -> None:
    previous = os.umask(0o022)
    try:
        key, written = host_key(key_file, dry=False)
    finally:
        os.umask(previous)
    assert (len(key), written, permissions(key_file)) == (32, True, 0o400)
    assert permissions(key_file.parent) == 0o755
    assert host_key(key_file, dry=False) == (key, False)
    assert [path.name for path in key_file.parent.iterdir()] == ["digest.key"]


def test_a_dry_run_on_a_bare_host_writes_nothing(key_file: Path) -> None:
    (first, written), (second, _) = host_key(key_file, dry=True), host_key(key_file, dry=True)
    assert written and first != second
    assert not key_file.parent.exists()


def test_two_runs_at_once_agree_on_one_key(key_file: Path) -> None:
    keys: list[bytes] = []
    barrier = threading.Barrier(8)

    def run() -> None:
        barrier.wait()
        keys.append(host_key(key_file, dry=False)[0])

    runs = [threading.Thread(target=run) for _ in range(8)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert keys == [key_file.read_bytes()] * 8
    assert len(list(key_file.parent.iterdir())) == 1


def test_a_run_that_was_slower_takes_the_key_that_is_there(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(_fresh: Path, path: Path) -> None:
        path.write_bytes(KEY)
        raise FileExistsError

    monkeypatch.setattr(keyed_digest.os, "link", link)
    assert host_key(key_file, dry=False)[0] == KEY


def test_a_key_that_others_may_read_is_closed_again(key_file: Path) -> None:
    key, _ = host_key(key_file, dry=False)
    key_file.chmod(0o444)
    assert host_key(key_file, dry=True) == (key, True)
    assert permissions(key_file) == 0o444
    assert host_key(key_file, dry=False) == (key, True)
    assert permissions(key_file) == 0o400


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_file_that_is_no_key_is_not_replaced(key_file: Path, content: bytes) -> None:
    key_file.parent.mkdir()
    key_file.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a key of 32 bytes\. Remove it"):
        host_key(key_file, dry=False)
    assert key_file.read_bytes() == content


def test_a_link_in_its_place_is_not_followed(key_file: Path, tmp_path: Path) -> None:
    key_file.parent.mkdir()
    (tmp_path / "elsewhere").write_bytes(KEY)
    key_file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        host_key(key_file, dry=False)


# ---------------------------------------------------------------- the digests


def test_a_digest_changes_with_its_own_directory_and_no_other() -> None:
    before = by_directory(SECRETS, KEY)
    assert set(before) == {"api", "worker", "cms"}
    changes = (
        ({**SECRETS, "api/TOKEN": "other"}, {"api"}),
        ({**SECRETS, "cms/PASSWORD": "other"}, {"cms"}),
        ({**SECRETS, "cms/MORE": ""}, {"cms"}),
        ({name: text for name, text in SECRETS.items() if name != "api/PASSWORD"}, {"api"}),
        (dict(reversed(SECRETS.items())), set()),
    )
    for contents, expected in changes:
        after = by_directory(contents, KEY)
        assert {name for name in before if before[name] != after[name]} == expected


def test_a_name_and_a_value_cannot_pass_for_another_pair() -> None:
    assert by_directory({"a/x": "1", "a/y": "2"}, KEY) != by_directory({"a/x": '1", "y": "2'}, KEY)
    assert by_directory({"a/b/x": "1"}, KEY) != by_directory({"a/b": "x1"}, KEY)


def test_a_digest_tells_nothing_without_the_key() -> None:
    digests = by_directory(SECRETS, KEY)
    assert not set(digests.values()) & set(by_directory(SECRETS, OTHER_KEY).values())
    assert len(set(digests.values())) == 3  # worker has the same files as none of the others, cms a part of api's
    assert by_directory({"a/x": "1", "b/x": "1"}, KEY)["a"] != by_directory({"a/x": "1", "b/x": "1"}, KEY)["b"]
    guesses = {hashlib.sha256(json.dumps([name, {"TOKEN": "s3cret"}]).encode()).hexdigest() for name in digests}
    assert not set(digests.values()) & guesses


# ---------------------------------------------------------------- the module

FILES = [{"path": path, "content": text} for path, text in SECRETS.items()]


def test_check_run_check_run_change(run_module: Callable[..., dict], key_file: Path, tmp_path: Path) -> None:
    def run(files: list[dict], **modes: bool) -> dict:
        return run_module(host_files.main, dest=str(tmp_path / "tree"), files=files, digest_key=str(key_file), **modes)

    promised = run(FILES, check=True)
    assert (
        promised["changed"] and promised["digest_key_written"] and set(promised["digests"]) == {"api", "worker", "cms"}
    )
    assert not key_file.exists()

    done = run(FILES)
    assert done["changed"] and done["digest_key_written"]
    assert done["digests"] == by_directory(SECRETS, key_file.read_bytes())
    for check in (True, False):
        again = run(FILES, check=check)
        assert (again["changed"], again["digest_key_written"], again["digests"]) == (False, False, done["digests"])

    rotated = [{**FILES[0], "content": "rotated"}, *FILES[1:]]
    for check in (True, False):
        after = run(rotated, check=check)["digests"]
        assert {name for name in after if after[name] != done["digests"][name]} == {"api"}


def test_a_host_from_before_gets_its_key_without_a_file_written(
    run_module: Callable[..., dict], key_file: Path, tmp_path: Path
) -> None:
    tree = {"dest": str(tmp_path / "tree"), "files": FILES}
    run_module(host_files.main, **tree)
    result = run_module(host_files.main, **tree, digest_key=str(key_file))
    assert (result["changed"], result["digest_key_written"], result["written"]) == (True, True, [])
    assert not run_module(host_files.main, **tree, digest_key=str(key_file))["changed"]


def test_without_the_option_there_is_no_key_and_no_digest(run_module: Callable[..., dict], tmp_path: Path) -> None:
    result = run_module(host_files.main, dest=str(tmp_path / "tree"), files=FILES)
    assert not {"digests", "digest_key_written"} & set(result)


def test_neither_the_key_nor_a_secret_is_in_the_answer(
    run_module: Callable[..., dict], key_file: Path, tmp_path: Path
) -> None:
    answer = json.dumps(run_module(host_files.main, dest=str(tmp_path / "tree"), files=FILES, digest_key=str(key_file)))
    key = key_file.read_bytes()
    assert not [text for text in (*SECRETS.values(), key.hex(), str(key)[2:-1]) if f'"{text}"' in answer]


def test_a_damaged_key_ends_the_run_before_a_file_is_written(
    run_module: Callable[..., dict], key_file: Path, tmp_path: Path
) -> None:
    key_file.parent.mkdir()
    key_file.write_bytes(b"damaged")
    result = run_module(host_files.main, dest=str(tmp_path / "tree"), files=FILES, digest_key=str(key_file))
    assert result["failed"] and "Remove it and run again" in result["msg"]
    assert not (tmp_path / "tree").exists()

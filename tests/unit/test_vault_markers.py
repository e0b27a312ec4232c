"""The markers of what is under way with a Vault, and their move from where older versions kept them."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils import atomic
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.module_utils.vault import markers as vault_markers
from ansible_collections.openmates.server.plugins.module_utils.vault.markers import Marker, Markers, markers_of


class Killed(BaseException):
    """The end of a run at a moment of the test's choice."""


@pytest.fixture
def former(tmp_path: Path) -> Path:
    """What an older version left in the directory of the Compose files."""
    directory = tmp_path / "compose"
    directory.mkdir()
    (directory / ".vault-init").write_text(json.dumps({"init_id": "one"}))
    return directory


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "state"


def params(state: Path, former: Path | None) -> dict:
    return {"state_directory": str(state), "former_state_directory": str(former) if former else None}


def test_a_marker_is_written_read_and_dropped(state: Path, tmp_path: Path) -> None:
    marker = Markers(state).init
    assert (marker.read(), marker.present()) == (None, False)
    marker.write("one")
    assert (marker.read(), marker.present(), [path.name for path in state.iterdir()]) == ("one", True, ["vault-init"])
    marker.path.write_text("{ half a")
    assert (marker.read(), marker.present()) == ("unreadable", True)
    marker.drop()
    marker.drop()
    assert (marker.read(), marker.present()) == (None, False)
    (tmp_path / "file").touch()
    with pytest.raises(vault.VaultProblem, match="cannot be written"):
        Marker(tmp_path / "file" / "marker").write("one")


def test_each_marker_has_a_file_of_its_own(state: Path) -> None:
    markers = Markers(state)
    for name in ("init", "root", "wipe"):
        getattr(markers, name).write(name)
    assert {path.name for path in state.iterdir()} == {"vault-init", "vault-root", "vault-wipe"}
    assert [getattr(markers, name).read() for name in ("init", "root", "wipe")] == ["init", "root", "wipe"]


def test_one_in_the_former_place_is_moved(state: Path, former: Path) -> None:
    marker = markers_of(params(state, former), check=False).init
    assert (marker.read(), (state / "vault-init").exists(), list(former.iterdir())) == ("one", True, [])
    marker.drop()
    assert markers_of(params(state, former), check=False).init.read() is None


def test_check_mode_reads_it_where_it_is(state: Path, former: Path) -> None:
    assert markers_of(params(state, former), check=True).init.read() == "one"
    assert not state.exists() and (former / ".vault-init").exists()


def test_without_a_former_place_there_is_none_to_look_at(state: Path) -> None:
    assert markers_of(params(state, None), check=False).init.read() is None
    assert not state.exists()


def test_the_one_in_the_new_place_wins(state: Path, former: Path) -> None:
    Marker(state / "vault-init").write("two")
    assert markers_of(params(state, former), check=True).init.read() == "two"
    assert markers_of(params(state, former), check=False).init.read() == "two"
    assert list(former.iterdir()) == []


def test_a_damaged_one_is_moved_as_it_is(state: Path, former: Path) -> None:
    (former / ".vault-init").write_text("{ half a")
    assert markers_of(params(state, former), check=False).init.read() == "unreadable"


@pytest.mark.parametrize("step", ["write", "drop"])
def test_a_former_one_does_not_survive_what_replaces_or_ends_it(step: str, state: Path, former: Path) -> None:
    marker = markers_of(params(state, former), check=True).init
    marker.write("two") if step == "write" else marker.drop()
    assert (marker.read(), list(former.iterdir())) == ("two" if step == "write" else None, [])


def test_killed_at_any_moment_there_is_always_a_marker_and_the_next_run_completes_the_move(
    state: Path, former: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before and after each call that changes the file system."""
    calls = [
        *((os, name) for name in ("fsync", "open", "fchmod")),
        *((Path, name) for name in ("mkdir", "rename", "unlink")),
        (atomic.tempfile, "mkstemp"),
        (vault_markers, "sync_folder"),
    ]
    moments = 0
    for moment in itertools.count():
        left = moment
        with monkeypatch.context() as patched:

            def killing(original):
                def call(*arguments, **options):
                    nonlocal left
                    left -= 1
                    if left < 0:
                        raise Killed
                    done = original(*arguments, **options)
                    left -= 1
                    if left < 0:
                        raise Killed
                    return done

                return call

            for owner, name in calls:
                patched.setattr(owner, name, killing(getattr(owner, name)))
            try:
                markers_of(params(state, former), check=False)
                killed = False
            except Killed:
                killed = True
        present = [path for path in (state / "vault-init", former / ".vault-init") if path.exists()]
        assert present, moment
        assert {json.loads(path.read_text())["init_id"] for path in present} == {"one"}
        if not killed:
            break
        moments += 1
        assert markers_of(params(state, former), check=True).init.read() == "one"
        assert markers_of(params(state, former), check=False).init.read() == "one"
        assert not (former / ".vault-init").exists()
        (former / ".vault-init").write_text((state / "vault-init").read_text())
        (state / "vault-init").unlink()
        for path in (*state.iterdir(), *state.parent.iterdir()):
            path.rmdir() if path.is_dir() else path.unlink()
        if state.parent.exists():
            state.parent.rmdir()
    assert moments > 10

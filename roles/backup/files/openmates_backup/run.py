# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of a backup: what it does in which order, and what is recorded of it, whether it succeeds or not."""

from __future__ import annotations

import contextlib
import shutil
import time
import typing as t
from collections.abc import Callable, Iterator

from openmates_backup import credentials, locks, restic, signals, state
from openmates_backup.config import Config
from openmates_backup.parts import VAULT_LOGIN, Parts
from openmates_backup.problem import Problem
from openmates_backup.repository import Repository

try:
    from ansible_collections.openmates.server.plugins.module_utils import metrics
except ImportError:  # on the host it is beside this package
    import metrics

LOGIN = "openmates-backup"
PREFIX = "openmates_backup"
LAST = "last.json"
NOT_SERVING = ("moved", "preparing", "returned")


def say(text: str) -> None:
    print(text, flush=True)


def back_up(config: Config, tell: Callable[[str], None] = say) -> dict[str, t.Any]:
    """Make a backup and record it; the record. Raises Problem, which is recorded as well.

    Nothing is recorded if another backup is under way: that one records itself.
    """
    config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (move := state.read(config.move)).get("state") in NOT_SERVING:
        raise Problem(
            f"{move.get('peer')} serves in place of this server, and is what has to be backed up. Nothing was done."
        )
    if restore := state.read(config.restore_note):
        raise Problem(
            f"A restore of snapshot {restore['snapshot'][:8]} has not ended, so nothing is backed up: half of the data"
            " may be another one's. Run restore.yml again, or, if the data is to stay as it is now, remove"
            f" {config.restore_note}."
        )
    with locks.exclusive(config.directory / "lock"), signals.raising(Problem, "The backup"):
        begun, found = time.time(), {}
        try:
            steps(config, found, tell)
        except (Problem, OSError, KeyError, ValueError) as error:
            problem = reason(error)
            record(config, begun, found, problem)
            raise Problem(problem) from error
        return record(config, begun, found, "")


def steps(config: Config, found: dict[str, t.Any], tell: Callable[[str], None]) -> None:
    """All of it; `found` gets what is known so far. Raises Problem and OSError."""
    locks.wait_for_runs(
        config.change_lock, config.rollout_lock, config.run_wait, config.look_every, tell, apart_from=locks.MOVE
    )
    with restic.opened(config, credentials.secrets(LOGIN)) as opened, staging(config):
        repository = Repository(config, opened)
        tell("the repository")
        repository.prepare()
        parts = Parts(config, credentials.secrets(VAULT_LOGIN), tell)
        parts.wait_until_ready()
        parts.check_space()
        manifest = parts.collect()
        tell("storing the snapshot")
        summary = repository.store(parts.paths, parts.excluded)
        found |= {
            "snapshot": summary["snapshot_id"],
            "added_bytes": summary.get("data_added_packed", summary.get("data_added", 0)),
            "total_bytes": summary.get("total_bytes_processed", 0),
            "vault": (manifest.get("vault") or {}).get("contents", ""),
        }
        repository.check_dates()
        tell("checking the repository")
        repository.check()
        tell("removing old snapshots")  # not from a repository that is damaged: an older copy may be the last one
        repository.tidy()
        found |= {"snapshots": len(opened.snapshots()), "repository_bytes": repository.size()}


@contextlib.contextmanager
def staging(config: Config) -> Iterator[None]:
    """An empty staging directory, which is gone at the end: it holds secrets."""
    (config.directory / "cache").mkdir(mode=0o700, exist_ok=True)
    shutil.rmtree(config.staging, ignore_errors=True)
    config.staging.mkdir(mode=0o700)
    try:
        yield
    finally:
        shutil.rmtree(config.staging, ignore_errors=True)


def reason(error: Exception) -> str:
    if isinstance(error, Problem):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'} cannot be read or written: {error.strerror}."
    return f"An answer was not as expected ({type(error).__name__}: {error})."


def record(config: Config, begun: float, found: dict[str, t.Any], problem: str) -> dict[str, t.Any]:
    """Write the result and its metrics. What is known of the last good backup stays known."""
    before, now = state.read(config.directory / LAST), time.time()
    good = {"time": state.stamp(begun), "seconds": begun, "snapshot": found.get("snapshot", "")}
    result = {
        **{name: before.get(name) for name in ("snapshots", "repository_bytes")},
        **found,
        "begun": state.stamp(begun),
        "ended": state.stamp(now),
        "duration": round(now - begun, 1),
        "success": not problem,
        "problem": problem,
        "last_success": before.get("last_success") if problem else good,
    }
    samples = {
        "last_success_timestamp_seconds": (
            (result["last_success"] or {}).get("seconds"),
            "When the last good backup began.",
        ),
        "last_run_timestamp_seconds": (now, "When the last backup ended, good or not."),
        "last_run_success": (float(not problem), "Whether the last backup succeeded."),
        "last_run_duration_seconds": (result["duration"], "How long the last backup took."),
        "last_run_added_bytes": (found.get("added_bytes"), "What the last backup added to the repository."),
        "repository_size_bytes": (result["repository_bytes"], "What all snapshots of the repository take."),
        "snapshots": (result["snapshots"], "How many snapshots there are of this server."),
    }
    for write in (
        lambda: state.write(config.directory / LAST, result),
        lambda: metrics.write(config.metrics, PREFIX, samples),
    ):
        try:
            write()
        except OSError as error:  # such as a full disk: the reason of the run itself is more important
            say(f"The result could not be recorded: {error}.")
    return result

# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshot a restore takes, and whether it is meant for this server."""

from __future__ import annotations

import json
import time
import typing as t

from openmates_backup.config import Config
from openmates_backup.parts import FORMAT, MANIFEST
from openmates_backup.problem import Problem
from openmates_backup.repository import CLOCK_TOLERANCE, moment
from openmates_backup.restic import Restic

LATEST = "latest"
SHORTEST = 8  # characters of an id, as `backups.yml` shows it
Snapshot = dict[str, t.Any]


def environment_of(snapshot: Snapshot) -> str:
    return next((tag[4:] for tag in snapshot.get("tags") or [] if tag.startswith("env=")), "")


def told(snapshot: Snapshot) -> str:
    return f"{snapshot['hostname']} ({environment_of(snapshot)})"


def choose(opened: Restic, config: Config, wanted: str, origin: str) -> Snapshot:
    """The snapshot with an id, or the latest. `origin`: the host whose backup it is, if it is another one's.

    Raises Problem.
    """
    everything = opened.json("snapshots", "--no-lock", "--tag=openmates") or []
    return latest(everything, config, origin) if wanted == LATEST else by_id(everything, config, wanted, origin)


def latest(everything: list[Snapshot], config: Config, origin: str) -> Snapshot:
    own = [one for one in everything if belongs(one, config, origin)]
    if not own:
        others = sorted({told(one) for one in everything})
        raise Problem(
            f"{config.repository} (openmates_backup_repository) has no snapshot of"
            f" {origin or f'{config.host} ({config.environment})'}."
            + (f" It has some of {', '.join(others)}: -e restore_from=HOST takes that host's." if others else "")
        )
    newest = max(own, key=lambda one: moment(one["time"]))
    if moment(newest["time"]) > time.time() + CLOCK_TOLERANCE:
        raise Problem(
            f"The latest snapshot, {newest['short_id']}, is dated in the future: {newest['time'][:19]}. Correct the"
            " server's clock (`timedatectl`), or name a snapshot by its id: backups.yml lists them."
        )
    return newest


def by_id(everything: list[Snapshot], config: Config, wanted: str, origin: str) -> Snapshot:
    found = [one for one in everything if one["id"].startswith(wanted)] if len(wanted) >= SHORTEST else []
    if len(found) != 1:
        raise Problem(
            f"{config.repository} (openmates_backup_repository) has no snapshot {wanted}. Use an id that backups.yml"
            f" lists, of {SHORTEST} characters or more, or `{LATEST}`."
        )
    [snapshot] = found
    if not belongs(snapshot, config, origin):
        said = f"-e restore_from names {origin}" if origin else f"this server is {config.host} ({config.environment})"
        raise Problem(
            f"Snapshot {wanted} is of {told(snapshot)}, and {said}. If it is meant, add"
            f" -e restore_from={snapshot['hostname']}"
        )
    return snapshot


def belongs(snapshot: Snapshot, config: Config, origin: str) -> bool:
    """Whether a snapshot is this server's, or of the host that the operator has named."""
    if origin:
        return snapshot["hostname"] == origin
    return (snapshot["hostname"], environment_of(snapshot)) == (config.host, config.environment)


def manifest_of(opened: Restic, config: Config, snapshot: Snapshot) -> dict[str, t.Any]:
    """What a snapshot holds. Raises Problem if this program cannot tell."""
    try:
        manifest = json.loads(opened.dump(snapshot["id"], str(config.staging / MANIFEST)))
    except ValueError:
        raise Problem(f"The manifest of snapshot {snapshot['short_id']} is damaged. Use another snapshot.") from None
    if not isinstance(manifest.get("format"), int) or manifest["format"] > FORMAT:
        raise Problem(
            f"Snapshot {snapshot['short_id']} has the format {manifest.get('format')}, and this version of the project"
            f" reads {FORMAT}. Restore it with the version that made it, or a later one."
        )
    return manifest

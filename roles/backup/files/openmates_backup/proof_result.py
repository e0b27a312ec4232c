# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a proof found, part by part, and how it is recorded."""

from __future__ import annotations

import time
import typing as t

from openmates_backup import state
from openmates_backup.config import Config
from openmates_backup.run import PREFIX, say

try:
    from ansible_collections.openmates.server.plugins.module_utils import metrics
except ImportError:  # on the host it is beside this package
    import metrics

PARTS = ("snapshot", "files", "database", "vault", "cache")
PROVEN, FAILED, UNPROVEN = "proven", "failed", "unproven"
RECORD, RUNNING = "proof.json", "proof.running"
FILE = "openmates_backup_proof"


class Result:
    """The result of one proof."""

    def __init__(self, config: Config) -> None:
        self.config, self.begun, self.snapshot = config, time.time(), ""
        self.parts: dict[str, dict[str, str]] = {}

    def begin(self) -> None:
        """Note that a proof runs, so that one that is killed is not taken for the one before it."""
        self.begun = time.time()
        state.write(self.config.directory / RUNNING, {"begun": self.begun})

    def running(self) -> bool:
        """Whether a proof began and did not end."""
        noted = state.read(self.config.directory / RUNNING)
        self.begun = noted.get("begun", self.begun)
        return bool(noted)

    def set(self, part: str, verdict: str, text: str) -> None:
        self.parts[part] = {"state": verdict, "text": text}

    def forget(self) -> None:
        """Take back that a proof runs."""
        (self.config.directory / RUNNING).unlink(missing_ok=True)

    def fail(self, text: str) -> None:
        """What was not reached fails as well."""
        for part in PARTS:
            if part not in self.parts:
                self.set(part, FAILED, text)

    def write(self) -> dict[str, t.Any]:
        """Write the record and the metrics; the record. What is known of the last good proof stays known."""
        before, now = state.read(self.config.directory / RECORD), time.time()
        states = {part: self.parts[part]["state"] for part in PARTS}
        failed = {self.parts[part]["text"]: part for part in PARTS if states[part] == FAILED}
        proven = set(states.values()) == {PROVEN}
        record = {
            "begun": state.stamp(self.begun),
            "ended": state.stamp(now),
            "seconds": now,
            "duration": round(now - self.begun, 1),
            "snapshot": self.snapshot,
            "state": FAILED if failed else PROVEN if proven else UNPROVEN,
            "problem": " ".join(failed),
            "unproven": " ".join(self.parts[part]["text"] for part in PARTS if states[part] == UNPROVEN),
            "parts": self.parts,
            "last_proven": {"time": state.stamp(now), "seconds": now, "snapshot": self.snapshot}
            if proven
            else before.get("last_proven"),
        }
        samples = {
            "last_proven_restore_timestamp_seconds": (
                (record["last_proven"] or {}).get("seconds"),
                "When a restore of all parts was proven last.",
            ),
            "last_proof_timestamp_seconds": (now, "When the last proof ended, good or not."),
            "proof_duration_seconds": (record["duration"], "How long the last proof took."),
            **{
                f'proof_success{{part="{part}"}}': (float(states[part] == PROVEN), "Whether the last proof proved it.")
                for part in PARTS
            },
            **{
                f'proof_unproven{{part="{part}"}}': (
                    float(states[part] == UNPROVEN),
                    "Whether this server cannot prove it.",
                )
                for part in PARTS
            },
        }
        for write in (
            lambda: state.write(self.config.directory / RECORD, record),
            lambda: metrics.write(self.config.metrics, PREFIX, samples, FILE),
            self.forget,
        ):
            try:
                write()
            except OSError as error:  # such as a full disk: the reason of the proof itself is more important
                say(f"The result could not be recorded: {error}.")
        return record

# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare Directus's schema with a snapshot file: differences by name, possible losses of data, and the rest to apply.

files/compose/config/cms-setup/schema.mjs has the same logic inside Directus's image; a test compares the two.
"""

from __future__ import annotations

import typing as t

from ansible_collections.openmates.server.plugins.module_utils.directus.api import Directus, DirectusProblem, Refused

# Changes of these properties of a column can lose or truncate its data.
LOSING = ("type", "schema.data_type", "schema.max_length", "schema.numeric_precision", "schema.numeric_scale")
WORDS = {"collections": "collection", "fields": "field", "systemFields": "system field", "relations": "relation"}


def _whole(entry: dict, kind: str) -> bool:
    """Whether the whole entry is new (N) or removed (D), rather than a part of it."""
    return any(change["kind"] == kind and not change.get("path") for change in entry["diff"])


def _place(entry: dict) -> str:
    return f"{entry['collection']}.{entry['field']}" if entry.get("field") else entry["collection"]


def _path(change: dict) -> str:
    return ".".join(map(str, change.get("path") or []))


def _replaced(diff: dict) -> set[str]:
    """Fields to remove and create again: a field with a column cannot become one without, or the reverse."""
    fields = diff.get("fields", [])
    return {_place(f) for f in fields if _whole(f, "D")} & {_place(f) for f in fields if _whole(f, "N")}


def additions(diff: dict) -> dict[str, list[dict]]:
    """The part of a difference that removes nothing. Directus would delete objects that the snapshot does not have."""
    gone = _replaced(diff)
    return {
        part: [
            entry
            for entry in diff.get(part, [])
            if not _whole(entry, "D") and not (_whole(entry, "N") and entry.get("field") and _place(entry) in gone)
        ]
        for part in WORDS
    }


def removals(diff: dict) -> list[str]:
    """Objects that the instance has and the snapshot lacks, by name."""
    gone = _replaced(diff)
    return [
        f"{word} {_place(entry)}"
        for part, word in WORDS.items()
        for entry in diff.get(part, [])
        if _whole(entry, "D") and _place(entry) not in gone
    ]


def names(diff: dict) -> list[str]:
    """Every difference by name, such as "field articles.title: created"."""
    found = []
    for part, word in WORDS.items():
        for entry in diff.get(part, []):
            if _whole(entry, "N"):
                what = "created"
            elif _whole(entry, "D"):
                what = "removed"
            else:
                what = f"{', '.join(sorted({_path(change) for change in entry['diff']}))} corrected"
            found.append(f"{word} {_place(entry)}: {what}")
    return found


def losses(diff: dict) -> list[str]:
    """Changes of existing columns that can lose data, by name. `removals` has the removed objects."""
    gone, found = _replaced(diff), []
    for entry in diff.get("fields", []):
        if _whole(entry, "D"):
            found += [f"field {_place(entry)} would be removed and created again"] * (_place(entry) in gone)
            continue
        for change in entry["diff"]:
            path, before, after = _path(change), change.get("lhs"), change.get("rhs")
            if change["kind"] != "E" or path not in LOSING:
                continue
            if path == "schema.max_length" and (after is None or (before is not None and after >= before)):
                continue
            found.append(f"field {_place(entry)}: {path} from {_word(before)} to {_word(after)}")
    return found


def _word(value: t.Any) -> str:
    return "null" if value is None else str(value)


def problem_with(snapshot: t.Any) -> str:
    """Why a value is not a snapshot, or an empty string."""
    for part in ("collections", "fields", "relations"):
        if not isinstance(snapshot, dict) or not isinstance(snapshot.get(part), list):
            return f"the schema file is not a snapshot of Directus: it has no list of {part}"
    collections = {item.get("collection") for item in snapshot["collections"]}
    for item in [*snapshot["fields"], *snapshot["relations"]]:
        name = str(item.get("collection"))
        if name not in collections and not name.startswith("directus_"):
            return f"the schema file has a field {name}.{item.get('field')}, but no collection {name}"
    return ""


class Comparison:
    """The difference between a running Directus and a snapshot, and how to apply it."""

    def __init__(self, directus: Directus, snapshot: dict, force: bool = False) -> None:
        """`force`: compare even if the snapshot is of another version. Raises DirectusProblem."""
        if problem := problem_with(snapshot):
            raise DirectusProblem(f"{problem[0].upper()}{problem[1:]}.")
        self.directus, self.snapshot, self.force = directus, snapshot, force
        self.hash = ""
        self.diff: dict = {}
        self.look()

    def look(self) -> None:
        try:
            answer = self.directus.ask("POST", "/schema/diff", self.snapshot, {"force": "true"} if self.force else None)
        except Refused as error:
            if "version" in str(error) and not self.force:
                raise DirectusProblem(
                    f"The schema file was created by Directus {self.snapshot.get('directus')}, which is not the version"
                    " that is running. Take a new snapshot (directus_schema.yml), or force it with"
                    " openmates_directus_schema_force: true."
                ) from None
            raise
        self.hash, self.diff = (answer["hash"], answer["diff"]) if answer else ("", {})

    def apply(self, remove: bool = False, data_loss: bool = False) -> list[str]:
        """Apply the difference and return it by name. Directus does it in one transaction.

        `remove`: also remove objects that the snapshot lacks. `data_loss`: also make changes that can lose data.
        Raises DirectusProblem, with nothing applied, if either is needed and not given.
        """
        self.refuse_losses(remove, data_loss)
        wanted = self.wanted(remove, data_loss)
        applied = names(wanted)
        if applied:
            parts = {part: wanted.get(part, []) for part in WORDS}
            self.directus.ask("POST", "/schema/apply", {"hash": self.hash, "diff": parts})
            self.look()
            left = names(self.diff if remove else additions(self.diff))
            if left:
                raise DirectusProblem(f"The schema still differs from the file after the run: {'; '.join(left)}.")
        return applied

    def wanted(self, remove: bool = False, data_loss: bool = False) -> dict[str, list[dict]]:
        """The part of the difference to apply."""
        if remove:
            return self.diff
        return _with_losses(self.diff) if data_loss else additions(self.diff)

    def refuse_losses(self, remove: bool, data_loss: bool) -> None:
        lost = losses(self.diff) + [f"{what} would be removed" for what in (removals(self.diff) if remove else [])]
        if lost and not data_loss:
            raise DirectusProblem(
                f"The schema file would change objects with data: {'; '.join(lost)}. The schema was not changed. See"
                " directus_schema.yml, which lists the changes and applies them with"
                " -e directus_schema_data_loss=true."
            )


def _with_losses(diff: dict) -> dict[str, list[dict]]:
    """As `additions`, with the fields that must be created again."""
    gone = _replaced(diff)
    return {
        part: [
            entry
            for entry in diff.get(part, [])
            if not _whole(entry, "D") or (entry.get("field") and _place(entry) in gone)
        ]
        for part in WORDS
    }

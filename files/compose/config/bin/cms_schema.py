"""The schema files in the image of OpenMates' cms-setup, and how they differ from what the last set-up has made.

cms-setup.py imports it. As a program it needs nothing but PyYAML and can be given to the image's Python on standard
input, so that a version's schema is known before anything of that version is on the host:

    python3 - EXPECTED COMMAND...

EXPECTED: the file that the last set-up has written; COMMAND: the command of the image's own program. Prints a JSON
object: `same`, whether the set-up would have nothing to do, and the `collections` and `fields` that it would add.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import yaml

FOLDER = "/usr/src/app/schemas"


class Invalid(Exception):
    """Why schema files cannot be used, as a sentence for the operator."""


@dataclasses.dataclass
class Schema:
    """The declarations of the image's files.

    OpenMates v0.14 creates only the first collection of a file with several, later versions create all: `more` has the
    others, which count once the program has named them.
    """

    first: dict[str, list[str]]
    more: dict[str, list[str]]
    files: dict[Path, set[str]]
    digest: str

    def expected(self, named: Iterable[str]) -> dict[str, list[str]]:
        return self.first | {name: self.more[name] for name in named if name in self.more}

    def left(self, lacking: Iterable[str], unfinished: set[str]) -> list[Path]:
        """The files that another pass must process; all of them if that is unknown."""
        found = [file for file, names in self.files.items() if names & set(lacking) or file.name in unfinished]
        return found or list(self.files)


def fields_of(collection: object) -> list[str]:
    fields = collection.get("fields") if isinstance(collection, dict) else None
    return list(map(str, fields)) if isinstance(fields, dict) else []


def read_schema(folder: Path, program: Iterable[str] = ()) -> Schema:
    """Raises Invalid. `program`: arguments of the command; files among them count too."""
    files = sorted({*folder.glob("*.yml"), *folder.glob("*.yaml")})
    if not files:
        raise Invalid(f"the image has no schema files in {folder}: it is not OpenMates' cms-setup, or a newer one.")
    digest = hashlib.sha256()
    first: dict[str, list[str]] = {}
    more: dict[str, list[str]] = {}
    names: dict[Path, set[str]] = {}
    for file in files:
        text = file.read_bytes()
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(text).digest())
        try:
            declared = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise Invalid(f"the image's schema file {file.name} is no YAML: {' '.join(str(error).split())}") from None
        if not isinstance(declared, dict):
            raise Invalid(f"the image's schema file {file.name} declares no collections.")
        names[file] = set(map(str, declared))
        for number, (name, collection) in enumerate(declared.items()):
            (more if number else first)[str(name)] = fields_of(collection)
    for argument in program:
        with contextlib.suppress(OSError):
            digest.update(hashlib.sha256(Path(argument).read_bytes()).digest())
    return Schema(first, more, names, digest.hexdigest())


def read_expected(file: Path) -> dict:
    """The content that an earlier run wrote, or empty."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("collections"), dict):
            return found
    return {"source": "", "digest": "", "collections": {}}


def additions(schema: Schema, before: dict) -> dict[str, list[str]]:
    """The collections and the fields of existing ones that the files declare and the last set-up did not make."""
    made: dict[str, list[str]] = before["collections"]
    declared = schema.first | {name: schema.more[name] for name in schema.more if name in made}
    known = {name: made.get(name, []) for name in declared if name in made or name.startswith("directus_")}
    return {
        "collections": sorted(declared.keys() - known.keys()),
        "fields": sorted(f"{name}.{field}" for name in known for field in {*declared[name]} - {*known[name]}),
    }


def main(expected: str, *command: str) -> int:
    before = read_expected(Path(expected))
    try:
        schema = read_schema(Path(os.environ.get("SCHEMAS_DIR", FOLDER)), command)
    except Invalid as problem:
        print(problem, file=sys.stderr)
        return 1
    print(json.dumps({"same": schema.digest == before["digest"], **additions(schema, before)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a server that OpenMates' own installer made can be taken over, and what that means: see docs/move.md."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator, Mapping

#: What a new server records: the data is being put there; it is there, and proven.
IMPORTING, IMPORTED = "importing", "imported"
#: The order of bytes in the database. What a dump in another encoding becomes depends on its rows.
ENCODING = "UTF8"
MIB = 1 << 20
SPARE = 256 * MIB
#: A database with its indexes beside the present one, compared with its size.
BESIDE = 2
VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?$")
#: Settings of the installer that this project makes itself, or takes from the inventory by other names.
TAKEN_CARE_OF = re.compile(
    r"SECRET__|OPENMATES_IMAGE|DATABASE_|DIRECTUS_|DRAGONFLY_PASSWORD|OPENOBSERVE_|SERVER_ENVIRONMENT|GIT_WORK_DIR|DOCKER_GID"
    r"|CACHE_|CELERY_|CLEAR_CACHE|CORE_SIDECAR_URL|TUNNEL_|DEPLOY_|[A-Z_]+_(WORKER_)?(MEMORY_LIMIT|CONCURRENCY)$|LOG_LEVEL"
)


def plan(old: Mapping[str, t.Any], new: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What stands against an import, and what an operator should know of it.

    ``old``: C(name), and what its server C(look)s like. ``new``: the same, with C(problem) of its services, C(release)
    of the declared api, C(word), the name of the server whose data may be replaced, C(record) of an earlier import and
    C(move), the state of a move.

    Returns C(problems), C(notes), and C(done) if an earlier import has ended.
    """
    looked = old["look"]
    done = new["record"].get("state") == IMPORTED and new["record"].get("from") == old["name"] and not new["word"]
    if done:
        return {"problems": [], "notes": [], "done": True}
    problems = [f"{old['name']}: {problem.rstrip('.')}" for problem in looked["problems"]]
    problems += [f"{new['name']}: {problem.rstrip('.')}" for problem in _new(old, new)]
    if "database" in looked and "database" in new["look"]:
        problems += _databases(old, new)
        problems += _room(old, new)
    return {"problems": problems, "notes": list(_notes(looked, new["look"])), "done": False}


def _new(old: Mapping[str, t.Any], new: Mapping[str, t.Any]) -> Iterator[str]:
    yield from ([new["problem"]] if new["problem"] else new["look"]["problems"])
    if new["move"] not in ("", "arrived"):
        yield "it takes part in a move. End that first (docs/move.md)"
    record = new["record"]
    begun = record.get("state") == IMPORTING
    if begun and record.get("from") != old["name"]:
        yield f"an import from {record.get('from')} has not ended. Repeat that one, or remove its data with remove.yml"
    if new["word"] not in ("", new["name"]):
        yield f"-e import_replace names {new['word']}. To replace the data of this server, name it"
    users = new["look"].get("database", {}).get("users", 0)
    if users and not begun and new["word"] != new["name"]:
        yield (
            f"it holds data that would be replaced: {users} users. If that is meant, add"
            f" -e import_replace={new['name']}"
        )
    here, there = _version(new["release"]), _version(old["look"].get("release", ""))
    if here and there and here < there:
        yield (
            f"it declares OpenMates {new['release']}, and {old['name']} runs {old['look']['release']}, whose data an"
            f" older version does not know. Deploy that there first: deploy.yml -e version={old['look']['release']}"
        )


def _version(text: str) -> tuple[int, ...] | None:
    found = VERSION.match(text)
    return tuple(int(part or 0) for part in found.groups()) if found else None


def _databases(old: Mapping[str, t.Any], new: Mapping[str, t.Any]) -> Iterator[str]:
    there, here = old["look"]["database"], new["look"]["database"]
    if there["encoding"] != ENCODING:
        yield (
            f"{old['name']}: its database {there['name']} has the encoding {there['encoding']}. Only {ENCODING}, which"
            " the installer makes, can be taken over: dump it, and restore it there into a database of that encoding"
        )
    if there["major"] > here["major"]:
        yield (
            f"{new['name']}: its PostgreSQL {here['major']} is older than the {there['major']} of {old['name']}. Set"
            f" openmates_services.cms-database.image to PostgreSQL {there['major']} or later, on a server without data"
        )
    if unknown := sorted(set(there["migrations"]) - set(here["migrations"])):
        yield (
            f"{new['name']}: its Directus is older than that of {old['name']}, whose tables have changes that it lacks:"
            f" {', '.join(unknown[:3])}. Declare a later one: openmates_images.directus"
        )


def _room(old: Mapping[str, t.Any], new: Mapping[str, t.Any]) -> Iterator[str]:
    database = old["look"]["database"]["bytes"]
    volumes = sum(one["bytes"] for one in old["look"]["volumes"].values())
    free = new["look"]["free"]
    for place, needed in (("staging", database + volumes), ("docker", database * BESIDE + volumes)):
        if free[place] < needed + SPARE:
            folder = {"staging": "/var/lib/openmates-import", "docker": "Docker's directory"}[place]
            yield (
                f"{new['name']}: the disk of {folder} has {free[place] // MIB} MiB free, and the import needs"
                f" {(needed + SPARE) // MIB} MiB there. Free some space, or use a larger disk"
            )


def _notes(there: Mapping[str, t.Any], here: Mapping[str, t.Any]) -> Iterator[str]:
    """What is not refused, and matters."""
    database = there.get("database", {})
    if others := database.get("others"):
        yield f"Not copied, because OpenMates does not use them: the databases {', '.join(others)}."
    known = here.get("database", {}).get("collections", [])
    if lacking := sorted(set(database.get("collections", [])) - set(known)):
        yield f"The new server's schema lacks the collections {', '.join(lacking)}. They are copied as they are."
    if names := [name for name in there.get("environment", []) if not TAKEN_CARE_OF.match(name)]:
        yield f"Compare with the inventory what the old .env sets: {', '.join(names)}."

#!/usr/bin/python3
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases of this server: what was rolled out when, by whom, and how to get back to it. See docs/deploy.md.

A release is the images that the services run, by their ids, and the rendered configuration, without secrets. Directus's
schema at that time is noted beside it. Root only:

    openmates-release list [--json]                 the releases, the newest first; * marks the current one
    openmates-release show ID                       a release, and whether Directus's schema has changed since
    openmates-release record --json '{...}'         note that the project's files and images were rolled out
    openmates-release confirm ID RESULT             note the result; after `ok` remove what is too old
    openmates-release restore ID                    put a release's configuration and images in place; starts nothing
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, "/usr/local/lib/openmates")
import stored_schema

STATE = Path("/var/lib/openmates/releases")
STACK = Path("/opt/openmates")  # the role writes openmates_directory here
KEEP = 5
SHOWN = 50  # changes of the schema in a record
#: Not configuration: secrets stay what they are, whatever release runs.
LEFT_OUT = {"secrets", ".vault-init", ".vault-root", ".vault-wipe"}
FORMAT = "%Y%m%dT%H%M%SZ"


class Problem(Exception):
    """Why nothing was done, in one sentence."""


def docker(*arguments: str) -> str:
    """Output of a Docker command in the project's directory. Raises Problem."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, cwd=STACK)
    if done.returncode:
        raise Problem(f"`docker {' '.join(arguments[:2])}` failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def image(reference: str) -> dict | None:
    """Docker's description of an image, or None if the host does not have it."""
    done = subprocess.run(["docker", "image", "inspect", reference], capture_output=True, text=True, check=False)
    return json.loads(done.stdout)[0] if done.returncode == 0 else None


class Release:
    """One release: a directory with release.json and the rendered files."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.id = directory, directory.name

    @property
    def facts(self) -> dict:
        return json.loads((self.directory / "release.json").read_text())

    def write(self, facts: dict) -> None:
        new = self.directory / "release.json.new"
        new.write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
        new.replace(self.directory / "release.json")

    @property
    def files(self) -> Path:
        return self.directory / "files"

    @property
    def schema(self) -> stored_schema.Schema | None:
        """Directus's schema when the release was recorded; None if it is not known."""
        file = self.directory / "schema.json"
        return json.loads(file.read_text()) if file.exists() else None

    def configuration(self) -> dict[str, bytes]:
        """The rendered files by their path in the project's directory."""
        return {
            str(path.relative_to(self.files)): path.read_bytes() for path in self.files.rglob("*") if path.is_file()
        }


def releases() -> list[Release]:
    """All releases, the newest first; without one whose recording was cut off."""
    return [Release(file.parent) for file in sorted(STATE.glob("*/release.json"), reverse=True)]


def named(name: str) -> Release:
    """The release of that id, or the last one before the current that works: `previous`. Raises Problem."""
    known = releases()
    if name == "previous":
        now = current()
        older = [r for r in known if r.facts["result"] == "ok" and (not now or r.id < now.id)]
        if now and now.facts.get("restored"):  # after a rollback: before the release that was returned to
            older = [r for r in older if r.id < now.facts["restored"]]
        # A run that did not end has left files that are not recorded, so the last record is what was before it; unless
        # that run was itself a rollback.
        left = now and now.facts["result"] == "ok" and now.configuration() != configuration()
        if left and not (older and older[0].configuration() == configuration()):
            return now
        if not older:
            raise Problem("there is no earlier release that was verified")
        return older[0]
    for release in known:
        if release.id == name:
            return release
    raise Problem(f"there is no release {name}; there are: {', '.join(r.id for r in known) or 'none'}")


def current() -> Release | None:
    """The release that was recorded last: what the server runs."""
    known = releases()
    return known[0] if known else None


def configuration() -> dict[str, bytes]:
    """The rendered files by their path in the project's directory."""
    found = {}
    for path in sorted(STACK.rglob("*")):
        name = path.relative_to(STACK)
        if path.is_file() and name.parts[0] not in LEFT_OUT:
            found[str(name)] = path.read_bytes()
    return found


def images() -> dict[str, dict]:
    """The image of each service: what the files name, and which one that is on this host."""
    found = {}
    for name, service in json.loads(docker("compose", "config", "--format", "json"))["services"].items():
        here = image(service["image"]) or {}
        found[name] = {
            "reference": service["image"],
            "id": here.get("Id", ""),
            "digests": here.get("RepoDigests") or [],
        }
    return found


def record(given: dict) -> dict:
    """Note what was rolled out, unless it is what the current release is already."""
    files, used = configuration(), images()
    digest = hashlib.sha256(json.dumps(used, sort_keys=True).encode())
    for name, content in files.items():
        digest.update(f"\0{name}\0".encode() + content)
    last = current()
    if last and last.facts["fingerprint"] == digest.hexdigest():
        facts = last.facts
        if facts["origin"] != given["origin"]:  # the inventory has caught up with what was deployed, or the reverse
            last.write(facts | {"origin": given["origin"]})
        return {"id": last.id, "new": False}
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = time.strftime(FORMAT, time.gmtime())
    while (STATE / name).exists():  # one per second
        time.sleep(0.2)
        name = time.strftime(FORMAT, time.gmtime())
    release = Release(STATE / name)
    for path, content in files.items():
        copy = release.files / path
        copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        copy.write_bytes(content)
        copy.chmod((STACK / path).stat().st_mode & 0o777)
    schema = stored_schema.read(STACK)
    if schema is not None:
        (release.directory / "schema.json").write_text(json.dumps(schema))
    facts = {"time": time.time(), "fingerprint": digest.hexdigest(), "images": used, "result": "not verified"}
    facts["schema"] = {"dump": "", **(given.get("schema") or {}), **changes(last.schema if last else None, schema)}
    release.write(given | facts)
    return {"id": release.id, "new": True}


def changes(before: stored_schema.Schema | None, after: stored_schema.Schema | None) -> dict:
    """Whether a schema differs from an earlier one, and in what; `changed` is None if one of them is not known."""
    if before is None or after is None:
        return {"changed": None, "what": []}
    what = stored_schema.differences(before, after)
    more = [f"and {len(what) - SHOWN} more"] if len(what) > SHOWN else []
    return {"changed": bool(what), "what": what[:SHOWN] + more}


def since(release: Release) -> dict:
    """How Directus's schema has changed since a release, with the dump from before the first change, if it exists."""
    now, later = current(), [other for other in reversed(releases()) if other.id > release.id]
    schemas = [other.facts.get("schema") or {} for other in later]
    dumps = [schema["dump"] for schema in schemas if schema.get("dump") and schema.get("changed") is not False]
    return {
        **changes(release.schema, stored_schema.read(STACK) or (now.schema if now else None)),
        "dump": next((dump for dump in dumps if Path(dump).exists()), ""),
    }


def confirm(name: str, result: str, keep: int) -> list[str]:
    """Note how a release turned out. What is too old is removed, if it turned out well; the removed releases."""
    release = named(name)
    release.write(release.facts | {"result": result})
    return prune(keep) if result == "ok" else []


def prune(keep: int) -> list[str]:
    """Keep the newest verified releases, and what is newer than the oldest of them; remove others and their images."""
    known = releases()
    good = [release for release in known if release.facts["result"] == "ok"]
    oldest = good[keep - 1].id if len(good) >= keep else ""
    removed = [release for release in known if release.id < oldest]
    kept = [release for release in known if release not in removed]
    # What a rollback may return to has to stay, however old it is.
    protected = {release.facts.get("restored") for release in kept}
    removed = [release for release in removed if release.id not in protected]
    wanted = {entry["id"] for r in known if r not in removed for entry in r.facts["images"].values()}
    for old in {entry["id"] for r in removed for entry in r.facts["images"].values()} - wanted - {""}:
        # Without force: Docker refuses it for an image that a container uses, or that has another name as well.
        for tag in (image(old) or {}).get("RepoTags") or [old]:
            subprocess.run(["docker", "image", "rm", tag], capture_output=True, check=False)
    for release in removed:
        shutil.rmtree(release.directory)
    return [release.id for release in removed]


def restore(release: Release) -> dict:
    """Put a release's files and images in place. Raises Problem before anything is changed."""
    facts = release.facts
    lost: dict[str, str] = {}
    for service, entry in facts["images"].items():
        if entry["id"] and image(entry["id"]):
            continue
        why = "it came from no registry"
        for digest in entry["digests"]:
            try:
                docker("pull", "--quiet", digest)
                break
            except Problem as problem:
                why = str(problem)
        if not image(entry["id"]):
            lost[f"{entry['reference']} of {service}"] = why
    if lost:
        reasons = "; ".join(f"{what}: {why}" for what, why in lost.items())
        raise Problem(f"images of release {release.id} are not on this host and cannot be pulled: {reasons}")
    for entry in facts["images"].values():
        if (image(entry["reference"]) or {}).get("Id") != entry["id"]:
            docker("tag", entry["id"], entry["reference"])
    wanted = {str(path.relative_to(release.files)) for path in release.files.rglob("*") if path.is_file()}
    for name in sorted(wanted):
        source, target = release.files / name, STACK / name
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}.new")
        new.write_bytes(source.read_bytes())
        new.chmod(source.stat().st_mode & 0o777)
        new.replace(target)
    for name in set(configuration()) - wanted:
        (STACK / name).unlink()
    return {"id": release.id, "schema": facts.get("schema") or {}, "images": facts["images"]}


def schema_note(schema: dict) -> str:
    """What a release did to Directus's schema; empty if that is nothing."""
    changed, what = schema.get("changed"), schema.get("what") or []
    dump = f", dump {schema['dump']}" if schema.get("dump") else ""
    if changed:
        return f"schema changed: {', '.join(what[:5])}{f' and {len(what) - 5} more' if len(what) > 5 else ''}{dump}"
    return f"schema may have changed{dump}" if changed is None and dump else ""


def table() -> str:
    """The releases for an operator."""
    now = current()
    rows = []
    for release in releases():
        facts = release.facts
        versions = sorted({entry["reference"] for name, entry in facts["images"].items() if name in ("api", "cms")})
        schema = facts.get("schema") or {}
        notes = [f"returned to {facts['restored']}"] if facts.get("restored") else []
        notes += [schema_note(schema)] if schema_note(schema) else []
        by = f"{facts.get('operator') or '?'} at {facts.get('commit') or 'no commit'}"
        mark = "*" if now and release.id == now.id else " "
        rows.append(f"{mark} {release.id}  {facts['result']:<12}  {facts['origin']:<9}  {by}  {' '.join(versions)}")
        rows += [f"    {note}" for note in notes]
    return "\n".join(rows) or "There is no release yet."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("list", "show", "record", "confirm", "restore"):
        verb = verbs.add_parser(name)
        if name == "list":
            verb.add_argument("--json", action="store_true")
        if name == "record":
            verb.add_argument("--json", type=json.loads, required=True)
        if name in ("show", "confirm", "restore"):
            verb.add_argument("release", help="an id, or `previous`")
        if name == "confirm":
            verb.add_argument("result", choices=["ok", "failed"])
            verb.add_argument("--keep", type=int, default=KEEP)
    options = parser.parse_args()
    os.umask(0o022)  # the configuration is read by the services' users; the releases' own directory is root's
    try:
        if options.verb == "list":
            found = [{"id": release.id} | release.facts for release in releases()]
            print(json.dumps(found) if options.json else table())
        elif options.verb == "show":
            release = named(options.release)
            print(json.dumps({"id": release.id} | release.facts | {"since": since(release)}))
        elif options.verb == "record":
            print(json.dumps(record(options.json)))
        elif options.verb == "confirm":
            print(json.dumps({"removed": confirm(options.release, options.result, options.keep)}))
        else:
            print(json.dumps(restore(named(options.release))))
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

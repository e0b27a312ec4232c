"""The program that keeps the releases of a server, with a script in Docker's place."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "roles/release/files/openmates-release.py"
sys.path.insert(0, str(FILE.parent))  # on the host, the module beside it is where the program looks
spec = importlib.util.spec_from_file_location("openmates_release", FILE)
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)

DOCKER = """#!{python}
import json, sys
from pathlib import Path
file = Path({folder!r}) / "images.json"
images = json.loads(file.read_text())  # reference or digest -> id
words = sys.argv[1:]
if words[:2] == ["compose", "config"]:
    text = (Path({folder!r}) / "stack/docker-compose.yml").read_text()
    print(json.dumps({{"services": {{"api": {{"image": text.split()[-1]}}}}}}))
elif words[0] == "compose" and "psql" in words:
    schema = Path({folder!r}) / "schema.txt"
    print(schema.read_text()) if schema.exists() else sys.exit("service is not running")
elif words[:2] == ["image", "inspect"]:
    name = words[2]
    found = images.get(name) or (name if name in images.values() else "")
    if not found:
        sys.exit("No such image: " + name)
    tags = [tag for tag, value in images.items() if value == found and not tag.startswith("registry/")]
    print(json.dumps([{{"Id": found, "RepoTags": tags, "RepoDigests": ["registry/" + found]}}]))
elif words[:2] == ["image", "rm"]:
    images.pop(words[2], None)
    file.write_text(json.dumps(images))
elif words[0] == "tag":
    images[words[2]] = words[1]
    file.write_text(json.dumps(images))
elif words[0] == "pull":
    sys.exit("not found")
"""


class Server:
    """A host: its project's directory and its images."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stack = folder, folder / "stack"
        self.images({"api:v1": "sha256:1", "api:v2": "sha256:2"})
        self.declare("api:v1", "one")

    def images(self, found: dict[str, str] | None = None) -> dict[str, str]:
        file = self.folder / "images.json"
        if found is not None:
            file.write_text(json.dumps(found))
        return json.loads(file.read_text())

    def schema(self, **collections: list[str]) -> None:
        """Directus's schema from now on: the fields of each collection. A field of another type: `title:text`."""
        rows = ["migration 20240101A\t"]
        for collection, fields in collections.items():
            rows.append(f"collection {collection}\tx")
            for field in fields:
                name, _, kind = field.partition(":")
                rows += [f"column {collection}.{name}\t{kind}", f"field {collection}.{name}\tx"]
        (self.folder / "schema.txt").write_text("\n".join(rows))

    def declare(self, image: str, setting: str) -> None:
        """What site.yml writes."""
        for name, text in (
            ("docker-compose.yml", f"image: {image}"),
            ("config/bin/x.sh", setting),
            ("secrets/api/A", "x"),
        ):
            (self.stack / name).parent.mkdir(parents=True, exist_ok=True)
            (self.stack / name).write_text(text)
        (self.stack / "config/bin/x.sh").chmod(0o755)

    def deploy(self, image: str, setting: str, result: str = "ok", keep: int = 5, **given: object) -> str:
        self.declare(image, setting)
        name = program.record({"origin": "inventory", **given})["id"]
        program.confirm(name, result, keep)
        return name


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    (tmp_path / "docker").write_text(DOCKER.format(python=sys.executable, folder=str(tmp_path)))
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(program, "STACK", tmp_path / "stack")
    monkeypatch.setattr(program, "STATE", tmp_path / "releases")
    clock = iter(range(1_000_000, 2_000_000))
    monkeypatch.setattr(program.time, "strftime", lambda form, when: f"2026{next(clock)}")
    return Server(tmp_path)


def test_a_release_is_images_and_configuration_without_secrets(server: Server) -> None:
    name = server.deploy("api:v1", "one", operator="ada", commit="abc")
    [release] = program.releases()
    assert release.id == name
    assert release.facts["images"] == {
        "api": {"reference": "api:v1", "id": "sha256:1", "digests": ["registry/sha256:1"]}
    }
    assert (release.facts["operator"], release.facts["commit"], release.facts["result"]) == ("ada", "abc", "ok")
    kept = {str(path.relative_to(release.files)) for path in release.files.rglob("*") if path.is_file()}
    assert kept == {"docker-compose.yml", "config/bin/x.sh"}


def test_what_changes_nothing_is_no_release(server: Server) -> None:
    first = server.deploy("api:v1", "one")
    assert program.record({"origin": "inventory"}) == {"id": first, "new": False}
    server.images(server.images() | {"api:v1": "sha256:9"})  # the tag was moved
    assert program.record({"origin": "inventory"})["new"]


def test_a_release_that_the_inventory_declares_by_now_is_the_inventorys(server: Server) -> None:
    name = server.deploy("api:v2", "one", origin="version")
    program.record({"origin": "inventory"})
    assert program.named(name).facts["origin"] == "inventory"


def test_a_rollback_brings_back_files_and_images_and_leaves_secrets(server: Server) -> None:
    first = server.deploy("api:v1", "one")
    (server.stack / "config/new.yml").write_text("of the second")
    server.deploy("api:v2", "two")
    server.images({"api:v1": "sha256:other", "api:v2": "sha256:2", "registry/sha256:1": "sha256:1"})
    program.restore(program.named("previous"))
    assert program.named("previous").id == first
    assert (server.stack / "docker-compose.yml").read_text() == "image: api:v1"
    script = server.stack / "config/bin/x.sh"
    assert script.read_text() == "one" and script.stat().st_mode & 0o777 == 0o755
    assert not (server.stack / "config/new.yml").exists()
    assert (server.stack / "secrets/api/A").read_text() == "x"
    assert server.images()["api:v1"] == "sha256:1"


def test_a_release_whose_image_is_gone_is_refused_before_anything_changes(server: Server) -> None:
    first = server.deploy("api:v1", "one")
    server.deploy("api:v2", "two")
    server.images({"api:v2": "sha256:2"})
    with pytest.raises(program.Problem, match=r"cannot be pulled: api:v1 of api: .+"):
        program.restore(program.named(first))
    assert (server.stack / "config/bin/x.sh").read_text() == "two"


def test_the_previous_release_is_the_last_one_that_was_verified(server: Server) -> None:
    first = server.deploy("api:v1", "one")
    server.deploy("api:v1", "broken", result="failed")
    server.deploy("api:v2", "two")
    assert program.named("previous").id == first


def test_after_a_run_that_did_not_end_the_previous_release_is_the_last_that_was_recorded(server: Server) -> None:
    server.deploy("api:v1", "one")
    second = server.deploy("api:v2", "two")
    server.declare("api:v3", "three")  # and killed, before it was recorded
    assert program.named("previous").id == second
    program.restore(program.named("previous"))
    assert (server.stack / "docker-compose.yml").read_text() == "image: api:v2"
    assert program.record({"origin": "rollback", "restored": second}) == {"id": second, "new": False}


def test_a_rollback_that_did_not_end_is_repeated_to_the_same_release(server: Server) -> None:
    first = server.deploy("api:v1", "one")
    server.deploy("api:v2", "two")
    program.restore(program.named("previous"))  # and killed, before it was recorded
    assert program.named("previous").id == first


def test_two_rollbacks_in_a_row_go_back_twice(server: Server) -> None:
    first = server.deploy("api:v1", "one")
    second = server.deploy("api:v1", "two")
    server.deploy("api:v2", "three")
    server.deploy("api:v1", "two", origin="rollback", restored=second)
    assert program.named("previous").id == first


def test_there_may_be_no_release_to_return_to(server: Server) -> None:
    server.deploy("api:v1", "one")
    with pytest.raises(program.Problem, match="no earlier release"):
        program.named("previous")
    with pytest.raises(program.Problem, match="there is no release x; there are: 2026"):
        program.named("x")


def test_old_releases_go_with_their_images_and_what_a_rollback_needs_stays(server: Server) -> None:
    server.images({f"api:v{number}": f"sha256:{number}" for number in range(1, 7)})
    names = [server.deploy(f"api:v{number}", "x", keep=2) for number in range(1, 5)]
    assert [release.id for release in program.releases()] == [names[3], names[2]]
    assert set(server.images()) == {"api:v3", "api:v4", "api:v5", "api:v6"}  # the last two are none of ours


def test_images_that_a_kept_release_shares_stay(server: Server) -> None:
    for setting in ("a", "b", "c"):
        server.deploy("api:v1", setting, keep=1)
    assert len(program.releases()) == 1
    assert "api:v1" in server.images()


def test_a_failed_release_removes_nothing(server: Server) -> None:
    server.deploy("api:v1", "one", keep=1)
    server.deploy("api:v2", "two", result="failed", keep=1)
    assert len(program.releases()) == 2


def test_a_recording_that_was_cut_off_is_no_release(server: Server) -> None:
    server.deploy("api:v1", "one")
    (program.STATE / "20269999999/files").mkdir(parents=True)
    assert len(program.releases()) == 1
    assert program.table().startswith("* 2026")


# ---------------------------------------------------------------- Directus's schema


def test_a_release_says_whether_it_changed_the_schema_whatever_was_dumped(server: Server) -> None:
    dump = str(server.folder / "before.dump")
    server.schema(chats=["id"])
    first = server.deploy("api:v1", "one", schema={"dump": dump})
    second = server.deploy("api:v1", "two", schema={"dump": dump})
    server.schema(chats=["id", "title"], tasks=["id", "text"])
    third = server.deploy("api:v2", "three", schema={"dump": dump})
    schemas = [program.named(name).facts["schema"] for name in (first, second, third)]
    assert [schema["changed"] for schema in schemas] == [None, False, True]
    assert schemas[2] == {"dump": dump, "changed": True, "what": ["chats.title: created", "tasks: created"]}
    notes = [line.strip() for line in program.table().splitlines() if line.startswith("    ")]
    assert notes == [
        f"schema changed: chats.title: created, tasks: created, dump {dump}",
        f"schema may have changed, dump {dump}",  # the first, which can be compared with none
    ]


def test_what_has_changed_since_a_release_is_named_with_the_dump_of_before(server: Server) -> None:
    dumps = [server.folder / f"{number}.dump" for number in range(3)]
    for dump in dumps:
        dump.touch()
    server.schema(chats=["id"])
    first = server.deploy("api:v1", "one", schema={"dump": str(dumps[0])})
    second = server.deploy("api:v1", "two", schema={"dump": str(dumps[1])})  # changes nothing
    server.schema(chats=["id:uuid"])
    third = server.deploy("api:v2", "three", schema={"dump": str(dumps[2])})
    expected = {"changed": True, "what": ["chats.id: changed"], "dump": str(dumps[2])}
    assert [program.since(program.named(name)) for name in (first, second)] == [expected, expected]
    assert program.since(program.named(third)) == {"changed": False, "what": [], "dump": ""}
    dumps[2].unlink()
    assert program.since(program.named(first))["dump"] == ""


def test_a_change_by_hand_after_the_last_release_counts(server: Server) -> None:
    server.schema(chats=["id", "title"])
    name = server.deploy("api:v1", "one")
    server.schema(chats=["id"])
    assert program.since(program.named(name))["what"] == ["chats.title: removed"]


def test_a_schema_that_cannot_be_read_is_not_known_and_no_obstacle(server: Server) -> None:
    first = server.deploy("api:v1", "one")
    assert program.named(first).facts["schema"] == {"dump": "", "changed": None, "what": []}
    server.schema(chats=["id"])
    second = server.deploy("api:v1", "two")
    assert program.since(program.named(first))["changed"] is None
    (server.folder / "schema.txt").unlink()  # the database is down now
    assert program.since(program.named(second)) == {"changed": False, "what": [], "dump": ""}


def test_names_of_differences() -> None:
    differences = program.stored_schema.differences
    before = {"column a.x": "1", "field a.x": "1", "column b.y": "1", "collection c": "1", "migration 1A": ""}
    after = {"column a.x": "1", "field a.x": "2", "relation a.z": "1", "collection c": "2", "migration 2A": ""}
    assert differences(before, after) == [
        *("a.x: changed", "a.z: created", "b: removed", "c: changed", "migration 1A: removed", "migration 2A: created"),
    ]
    assert differences(before, dict(before)) == []


def test_many_differences_are_counted(server: Server) -> None:
    server.schema(chats=["id"])
    server.deploy("api:v1", "one")
    server.schema(chats=["id", *(f"f{number:02}" for number in range(60))])
    what = program.named(server.deploy("api:v1", "two")).facts["schema"]["what"]
    assert (len(what), what[-2:]) == (51, ["chats.f49: created", "and 10 more"])

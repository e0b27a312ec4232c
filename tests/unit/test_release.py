"""The program that keeps the releases of a server, with a script in Docker's place."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "roles/release/files/openmates-release.py"
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
    server.deploy("api:v2", "two")
    (server.stack / "config/new.yml").write_text("of the second")
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
    with pytest.raises(program.Problem, match="api:v1 of api"):
        program.restore(program.named(first))
    assert (server.stack / "config/bin/x.sh").read_text() == "two"


def test_the_previous_release_is_the_last_one_that_was_verified(server: Server) -> None:
    first = server.deploy("api:v1", "one")
    server.deploy("api:v1", "broken", result="failed")
    server.deploy("api:v2", "two")
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

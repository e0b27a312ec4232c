"""Taking over a server of OpenMates' own installer: what is refused, what is stopped in which order, what is copied."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.plugin_utils import import_plan
from rendering import ROOT

sys.path[:0] = [str(ROOT / "roles/import/files"), str(ROOT / "roles/backup/files")]
from openmates_backup.problem import Problem  # noqa: E402
from openmates_import import export, installer, server, vault_export  # noqa: E402

GIB = 1 << 30


def old(**database: object) -> dict:
    about = {"name": "directus", "major": 13, "encoding": "UTF8", "bytes": GIB, "migrations": ["1", "2"], "users": 900}
    return {
        "name": "old1",
        "look": {
            "problems": [],
            "release": "v0.14.0",
            "database": {**about, "collections": ["chats"], "others": [], **database},
            "vault": {"files": 10, "bytes": 4096},
            "volumes": {"cms-uploads": {"path": "/x", "bytes": GIB}},
            "environment": ["SECRET__OPENAI__API_KEY", "DIRECTUS_SECRET", "FRONTEND_URLS", "SIGNUP_LIMIT"],
        },
    }


def new(users: int = 0, free: int = 100 * GIB, **other: object) -> dict:
    database = {"major": 17, "migrations": ["1", "2", "3"], "users": users, "collections": ["chats", "users"]}
    look = {"problems": [], "database": database, "free": {"staging": free, "docker": 100 * GIB}}
    return {
        **{"name": "prod1", "look": look, "problem": "", "release": "v0.14.0", "word": "", "record": {}, "move": ""},
        **other,
    }


def test_an_empty_provisioned_server_takes_over_everything() -> None:
    found = import_plan.plan(old(), new())
    assert (found["problems"], found["done"]) == ([], False)
    assert found["notes"] == ["Compare with the inventory what the old .env sets: FRONTEND_URLS, SIGNUP_LIMIT."]


@pytest.mark.parametrize(
    ("there", "here", "words"),
    [
        (old(encoding="SQL_ASCII"), new(), "has the encoding SQL_ASCII. Only UTF8"),
        (old(major=18), new(), "its PostgreSQL 17 is older than the 18 of old1"),
        (old(migrations=["1", "9"]), new(), "its Directus is older than that of old1, whose tables have changes"),
        (
            old(),
            new(users=1),
            "it holds data that would be replaced: 1 users. If that is meant, add -e import_replace=prod1",
        ),
        (old(), new(word="prod2"), "-e import_replace names prod2"),
        (old(), new(release="v0.13.9"), "Deploy that there first: deploy.yml -e version=v0.14.0"),
        (old(), new(move="arriving"), "it takes part in a move"),
        (old(), new(problem="it has no Compose files"), "prod1: it has no Compose files"),
        (old(), new(record={"state": "importing", "from": "old2"}), "an import from old2 has not ended"),
        (old(), new(free=GIB), "MiB free, and the import needs 2304 MiB there"),
        (old(bytes=60 * GIB), new(), "the disk of Docker's directory has 102400 MiB free"),
        ({"name": "old1", "look": {"problems": ["No Docker."]}}, new(), "old1: No Docker"),
    ],
)
def test_what_cannot_be_taken_over_is_refused_with_the_remedy(there: dict, here: dict, words: str) -> None:
    [problem] = import_plan.plan(there, here)["problems"]
    assert words in problem
    assert not problem.endswith(".")


def test_all_reasons_are_given_at_once() -> None:
    there = old(encoding="LATIN1", major=18)
    there["look"]["problems"] = ["The unseal key cannot be read."]
    assert len(import_plan.plan(there, new(users=9, release="v0.1"))["problems"]) == 5


@pytest.mark.parametrize(
    ("record", "word", "users", "refused", "done"),
    [
        ({"state": "importing", "from": "old1"}, "", 900, False, False),  # killed: repeated without a word
        ({"state": "imported", "from": "old1"}, "", 900, False, True),  # what was written since must stay
        ({"state": "imported", "from": "old1"}, "prod1", 900, False, False),
        ({"state": "imported", "from": "old2"}, "", 900, True, False),
    ],
)
def test_a_repeated_import_goes_on_and_one_that_has_ended_is_not_repeated(record, word, users, refused, done) -> None:
    found = import_plan.plan(old(), new(users=users, record=record, word=word))
    assert (bool(found["problems"]), found["done"]) == (refused, done)


def test_what_is_left_out_is_said() -> None:
    notes = import_plan.plan(old(others=["grafana"], collections=["chats", "notes"]), new())["notes"]
    assert "the databases grafana" in notes[0] and "lacks the collections notes" in notes[1]


# ---------------------------------------------------------------- the old server


def container(service: str, project: str = "openmates-core", running: bool = True, **more: object) -> dict:
    labels = {"project": project, "service": service, "project.working_dir": "/home/x/openmates/backend/core"}
    return {
        "Id": f"{project}-{service}",
        "Name": f"/{service}",
        "Image": "sha256:1",
        "State": {"Running": running},
        "Config": {
            "Labels": {f"com.docker.compose.{name}": value for name, value in labels.items()},
            "Env": ["POSTGRES_USER=directus", "POSTGRES_PASSWORD=a-secret"],
            "Image": more.get("image", "postgres:13-alpine"),
        },
        "Mounts": more.get("mounts", []),
    }


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict]:
    """The containers that Docker has; a test adds some."""
    found: list[dict] = []

    def answer(verb: str, *arguments: str) -> str:
        if verb == "inspect":
            return json.dumps([one for one in found if one["Id"] in arguments])
        wanted = [argument.partition("label=")[2] for argument in arguments if "label=" in argument]
        labelled = [one for one in found if all(_has(one, label) for label in wanted)]
        return "\n".join(one["Id"] for one in labelled)

    def _has(one: dict, label: str) -> bool:
        name, _, value = label.partition("=")
        return one["Config"]["Labels"].get(name) == value

    monkeypatch.setattr(installer, "_docker", answer)
    monkeypatch.setattr(installer, "STOPPED", tmp_path / "stopped.json")
    return found


@pytest.mark.parametrize(
    ("projects", "wanted", "words"),
    [
        ([], "", "there is none"),
        (["openmates"], "", "a server of this project already: move.yml"),
        (["one", "two"], "", "there are one, two. `sudo docker compose ls --all`"),
        (["one", "two"], "three", "there is none named three"),
    ],
)
def test_a_server_of_another_kind_is_refused(docker, projects, wanted, words) -> None:
    docker += [container("cms-database", project) for project in projects]
    [problem] = installer.look(wanted)["problems"]
    assert words in problem


def test_the_project_can_be_named(docker) -> None:
    docker += [container("cms-database", "one"), container("cms-database", "two"), container("api", "two")]
    assert set(installer.Installer("two").services) == {"cms-database", "api"}


def test_requests_end_first_and_what_workers_need_last(docker) -> None:
    names = ("cache", "vault", "app-ai-worker", "cms", "api", "cms-database", "task-worker", "webapp", "openobserve")
    docker += [container(name) for name in names] + [container("vault-setup", running=False)]
    first, between, last = installer.Installer().order()
    assert set(first) == {"api", "webapp"} and set(last) == {"cms", "cache"}
    assert set(between) == {"app-ai-worker", "task-worker", "openobserve"}, "neither the database nor Vault"


def test_a_killed_stop_knows_the_way_back(docker, monkeypatch) -> None:
    docker += [container(name) for name in ("cms-database", "api", "cms")]
    asked: list[list[str]] = []
    monkeypatch.setattr(installer.commands, "output", lambda command, _: asked.append(command))
    assert installer.Installer().stop() == ["api", "cms"]
    assert [command[-1] for command in asked] == ["api", "cms"]
    docker[:] = [container("cms-database"), container("api", running=False), container("cms", running=False)]
    assert installer.Installer().stop() == ["api", "cms"]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("image", "release"),
    [
        ("ghcr.io/glowingkitty/openmates-api:v0.14.0", "v0.14.0"),
        ("registry.example:5000/openmates-api", ""),  # a port is no version
        ("openmates-core-api", ""),
    ],
)
def test_the_version_is_that_of_the_image(docker, image, release) -> None:
    docker += [container("cms-database"), container("api", image=image)]
    assert installer.Installer().release == release


def test_what_lacks_is_named_all_at_once_and_no_secret(docker, tmp_path, monkeypatch) -> None:
    storage = tmp_path / "vault/core"
    storage.mkdir(parents=True)
    docker += [
        container("cms-database", running=False),
        container("vault", mounts=[{"Destination": "/vault/file", "Source": str(tmp_path / "vault")}]),
    ]
    monkeypatch.setattr(installer, "_updates", lambda: iter(["a timer would start its services again"]))
    found = installer.look()
    assert [problem[:40] for problem in found["problems"]] == [
        "Its service cms-database does not run. S",
        "The unseal key of its Vault cannot be re",
        "a timer would start its services again",
    ]
    assert "a-secret" not in json.dumps(found)


def test_only_names_of_settings_are_read_from_the_env_file(docker, tmp_path) -> None:
    docker.append(container("cms-database"))
    docker[0]["Config"]["Labels"]["com.docker.compose.project.working_dir"] = str(tmp_path / "backend/core")
    (tmp_path / ".env").write_text("# a comment\nSIGNUP_LIMIT=5\nEMPTY=\nQUOTED=\"\"\nDIRECTUS_SECRET='a-secret'\n")
    assert installer._names(installer.Installer()) == ["DIRECTUS_SECRET", "SIGNUP_LIMIT"]


# ---------------------------------------------------------------- files and marks


def test_files_are_the_same_on_the_other_side(tmp_path: Path) -> None:
    folder, there = tmp_path / "uploads", tmp_path / "there"
    (folder / "a folder").mkdir(parents=True)
    (folder / "a folder/cat.jpg").write_bytes(b"\xff\xd8" * 2000)
    (folder / "empty").touch()
    (folder / "link").symlink_to("/etc/passwd")
    there.mkdir()
    (there / "of the new server").write_text("goes")
    about = export.pack(folder, tmp_path / "uploads.tar")
    assert (about["files"], about["content"]) == (2, 4000)
    assert server.put_files(tmp_path / "uploads.tar", there, about) == {"files": 2, "bytes": 4000}
    assert sorted(path.name for path in there.rglob("*")) == ["a folder", "cat.jpg", "empty"]
    with pytest.raises(Problem, match="are not those of the old server"):
        server.put_files(tmp_path / "uploads.tar", there, {**about, "listing": "0"})


def test_a_copy_that_was_cut_short_replaces_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(server, "RECEIVED", tmp_path)
    (tmp_path / "database.dump").write_bytes(b"half")
    with pytest.raises(Problem, match="Nothing was replaced"):
        server.Server._check_copy({"file": "/elsewhere/database.dump", "sha256": "0"})


def test_a_key_is_not_exportable_because_it_was_exported() -> None:
    made = vault_export.base64.b64encode(json.dumps({"policy": {"exportable": True, "keys": {"1": 2**70}}}).encode())
    marked = vault_export.remarked(made.decode(), {"exportable": False, "allow_plaintext_backup": False})
    policy = json.loads(vault_export.base64.b64decode(marked))["policy"]
    assert policy == {"exportable": False, "allow_plaintext_backup": False, "keys": {"1": 2**70}}
    with pytest.raises(Problem, match="in an unknown form"):
        vault_export.remarked("AAAA", {})

"""What cms-setup will do to Directus's schema is announced: cms_schema.py in its image, and the role directus."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_release_role import evaluate

READER = Path(__file__).parents[2] / "files/compose/config/bin/cms_schema.py"
FILES = {
    "chats.yml": "chats: {fields: {id: {}, title: {}}}\n",
    "tasks.yml": "tasks: {fields: {id: {}}}\ntask_notes: {fields: {id: {}}}\n",
}
IMAGE = "registry.test/cms-setup:v2"


class Image:
    """The folder of schema files in an image, and the program that is given to its Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "schemas").mkdir()
        (folder / "setup_schemas.py").write_text("print('sets up')\n")
        self.files(**FILES)

    def files(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / "schemas" / name).write_text(text)

    def compare(self, known: dict[str, list[str]], digest: str = "x") -> subprocess.CompletedProcess:
        expected = self.folder / "expected.json"
        expected.write_text(json.dumps({"digest": digest, "collections": known}))
        return subprocess.run(
            [sys.executable, "-", expected, "python", "setup_schemas.py"],
            stdin=READER.open(), capture_output=True, text=True, check=False, cwd=self.folder,
            env=os.environ | {"SCHEMAS_DIR": str(self.folder / "schemas")},
        )  # fmt: skip

    def found(self, known: dict[str, list[str]], digest: str = "x") -> dict:
        done = self.compare(known, digest)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def digest(self) -> str:
        """As cms-setup writes it once it has applied the files."""
        code = "import sys; from cms_schema import *; print(read_schema(Path('schemas'), ['setup_schemas.py']).digest)"
        environment = os.environ | {"PYTHONPATH": str(READER.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=self.folder, env=environment
        ).stdout.strip()


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


def test_the_same_files_and_program_change_nothing(image: Image) -> None:
    known = {"chats": ["id", "title"], "tasks": ["id"]}
    assert image.found(known, image.digest) == {"same": True, "collections": [], "fields": []}
    before = image.digest
    (image.folder / "setup_schemas.py").write_text("print('sets up in another way')\n")
    assert image.found(known, before)["same"] is False


def test_new_collections_and_fields_are_named(image: Image) -> None:
    found = image.found({"chats": ["id"], "of another version": ["id"]})
    assert found == {"same": False, "collections": ["tasks"], "fields": ["chats.title"]}


def test_directus_own_collections_are_there_already(image: Image) -> None:
    image.files(**{"files.yml": "directus_files: {fields: {checksum: {}}}\n"})
    found = image.found({"chats": ["id", "title"], "tasks": ["id"]})
    assert (found["collections"], found["fields"]) == ([], ["directus_files.checksum"])


def test_a_further_collection_of_a_file_counts_where_the_program_makes_it(image: Image) -> None:
    assert image.found({"chats": ["id", "title"], "tasks": ["id"], "task_notes": []})["fields"] == ["task_notes.id"]


def test_a_set_up_that_has_not_completed_is_not_the_same(image: Image) -> None:
    assert image.found({"chats": ["id", "title"], "tasks": ["id"]}, "")["same"] is False


def test_files_that_cannot_be_read_give_no_result(image: Image) -> None:
    image.files(**{"chats.yml": "{"})
    done = image.compare({})
    assert (done.returncode, done.stdout) == (1, "") and "chats.yml is no YAML" in done.stderr


# ---------------------------------------------------------------- the announcement


@pytest.fixture
def announced() -> Callable[..., str]:
    def text(difference: dict | None, image_changes: bool = False, failure: str = "") -> str:
        result = {"rc": 0, "stdout": json.dumps(difference)} if difference is not None else {"skipped": True}
        result = {"rc": 1, "stdout": "", "stderr_lines": ["first", failure]} if failure else result
        lines = evaluate(
            "directus", "{{ directus_schema_forecast }}", role_path="/x", directus_schema_compared=result,
            directus_setup_image=IMAGE, directus_image_changes=image_changes,
        )  # fmt: skip
        return " ".join(lines)

    return text


def test_no_change_is_announced_as_none(announced: Callable[..., str]) -> None:
    text = announced({"same": True, "collections": [], "fields": []})
    assert text == f"OpenMates' collections do not change: {IMAGE} has the schema files of the last set-up."


def test_a_change_is_announced_by_name_with_the_dump(announced: Callable[..., str]) -> None:
    text = announced({"same": False, "collections": ["tasks"], "fields": [f"chats.f{number}" for number in range(22)]})
    assert "changes: cms-setup creates the collections tasks." in text
    assert "creates the fields chats.f0, chats.f1," in text and "chats.f19 and 2 more." in text
    assert "A rollback does not undo that. The database is dumped before, to /var/backups/openmates/directus." in text


def test_other_differences_and_an_unknown_one_may_change_it(announced: Callable[..., str]) -> None:
    assert "may change: the schema files" in announced({"same": False, "collections": [], "fields": []})
    assert "may change: cms-setup runs, and what it will do is not known" in announced(None)


def test_a_comparison_that_fails_is_announced_with_its_reason(announced: Callable[..., str]) -> None:
    text = announced(None, failure="chats.yml is no YAML")
    assert "is not known beforehand. Its schema files cannot be compared: chats.yml is no YAML" in text


def test_another_image_of_directus_is_announced_too(announced: Callable[..., str]) -> None:
    text = announced({"same": True, "collections": [], "fields": []}, image_changes=True)
    assert "Directus's own tables may change: its image does. A rollback does not undo that." in text


def test_a_container_that_failed_is_no_result() -> None:
    failed = {"rc": 125, "stdout": "", "stderr": "No such image"}
    found = evaluate("directus", "{{ directus_schema_difference }}", role_path="/x", directus_schema_compared=failed)
    assert found == {}

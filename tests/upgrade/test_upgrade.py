"""Upgrade from Directus 11.16 to the current version, with data: nothing is lost, and a dump was made before.

Slow: the earlier Directus has to be built (lab/directus_before.sh). `make upgrade-proof` does both.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "directus"))
from real import ROOT, SAMPLE, Api, Stack, docker

BEFORE = "openmates-lab/directus-before:latest"
SCRIPTS = ROOT / "files/compose/config/cms-setup"


def set_up(stack: Stack, folder: Path, image: str, force: bool) -> str:
    """Run cms-setup in that image; returns its output."""
    for script in SCRIPTS.glob("*.mjs"):
        (folder / script.name).write_text(script.read_text())
    (folder / "setup.json").write_text(json.dumps({"schema": SAMPLE, "force": force}))
    folder.chmod(0o755)
    stack.image = image
    done = stack.once("node", "/openmates/cms-setup.mjs", options=("--volume", f"{folder}:/openmates:ro"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def before(tmp_path: Path) -> Iterator[Stack]:
    """A Directus 11.16 with articles, a role and a user."""
    stack = Stack(tmp_path / "secrets", "openmates-directus-upgrade")
    try:
        stack.start_stores()
        (tmp_path / "setup").mkdir()
        assert "Directus 11.16." in set_up(stack, tmp_path / "setup", BEFORE, force=True)
        stack.start_cms()
        yield stack
    finally:
        stack.remove()


def contents(admin: Api) -> dict[str, list]:
    paths = ("/items/articles?fields=title,author.name,tags.tag.name&sort=title", "/roles?fields=name&sort=name")
    return {path: admin.call("GET", path) for path in paths}


def test_an_upgrade_keeps_the_data(before, tmp_path):
    stack, present = before, Stack(tmp_path / "unused").image
    admin = Api(stack.url).log_in(stack.environment["ADMIN_EMAIL"], stack.admin_password)
    for number in range(50):
        item = {
            "title": f"article {number:02}",
            "author": {"name": f"author {number}"},
            "tags": [{"tag": {"name": "t"}}],
        }
        admin.call("POST", "/items/articles", item)
    admin.call("POST", "/roles", {"name": "By hand"})
    kept = contents(admin)
    assert len(kept["/items/articles?fields=title,author.name,tags.tag.name&sort=title"]) == 50

    docker("stop", f"{stack.name}-cms")
    assert "Directus 11.17." in set_up(stack, tmp_path / "setup", present, force=False)
    stack.start_cms()
    admin = Api(stack.url).log_in(stack.environment["ADMIN_EMAIL"], stack.admin_password)
    assert admin.call("GET", "/server/info")["version"].startswith("11.17.")
    assert contents(admin) == kept

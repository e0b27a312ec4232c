"""Every link and every path that the documentation names leads somewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
from generator.links import anchors, broken, documents, links, masked, replaced  # noqa: E402

#: A path of the project in backquotes: below one of its folders, without a placeholder.
NAMED = re.compile(
    r"`((?:docs|extensions|files|inventories|lab|playbooks|plugins|roles|tests|contract)/[\w./@-]+)(?:::\w+)?`"
)
#: Made by a run, in the operator's inventory.
MADE = ("inventories/vault-keys", "inventories/vault-snapshots")


def test_no_link_is_broken() -> None:
    assert broken(ROOT) == []
    assert sum(len(list(links((ROOT / name).read_text()))) for name in documents(ROOT)) > 40


@pytest.mark.parametrize("name", [name for name in documents(ROOT) if name.name != "CHANGELOG.md"], ids=str)
def test_every_path_that_is_named_exists(name: Path) -> None:
    text = masked((ROOT / name).read_text(), inline=False)
    named = [path for path in NAMED.findall(text) if not path.startswith(MADE)]
    assert [path for path in named if not any((base / path).exists() for base in (ROOT, (ROOT / name).parent))] == []


@pytest.mark.parametrize(
    ("target", "is_broken"),
    [
        ("other.md", False),
        ("other.md#a-heading-with-code", False),
        ("other.md#again-1", False),
        ("#here", False),
        ("https://example.com/gone", False),
        ("gone.md", True),
        ("other.md#gone", True),
        ("#gone", True),
        ("../outside.md", True),
        ("/other.md", True),
        ("data.yml#anchor", True),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, target: str, is_broken: bool) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (tmp_path / "outside.md").write_text("# Outside\n")
    (root / "data.yml").write_text("{}\n")
    (root / "other.md").write_text("# A heading with `code`\n\n## Again\n\n## Again\n")
    (root / "page.md").write_text(f"# Here\n\nA [link]({target}).\n")
    assert broken(root) == ([f"page.md: {target}"] if is_broken else [])


def test_code_has_no_links_and_no_headings() -> None:
    text = "# One\n\n`[a](b.md)` and [c](d.md)\n\n```sh\n# Two\n[e](f.md)\n```\n"
    assert [found[1] for found in links(text)] == ["d.md"]
    assert anchors(text) == {"one"}
    assert replaced(text, str.upper) == text.replace("(d.md)", "(D.MD)")


def test_other_projects_in_the_folder_are_left_out(tmp_path: Path) -> None:
    for name in ("page.md", ".venv/lib/page.md", "collections/page.md", "roles/a/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# Page\n")
    assert documents(tmp_path) == [Path("page.md"), Path("roles/a/README.md")]

"""The website has every document, the files that they link to and each plugin, and needs no other host."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
from generator import plugins, search, website  # noqa: E402
from generator.links import documents, links  # noqa: E402


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("website")
    website.stage(ROOT, folder)
    return folder


def contents(entries: list | dict | str) -> list[str]:
    """The pages that a table of contents names."""
    if isinstance(entries, str):
        return [entries]
    return [name for entry in (entries if isinstance(entries, list) else entries.values()) for name in contents(entry)]


def test_every_document_and_plugin_is_in_the_table_of_contents(staged: Path) -> None:
    named = contents(yaml.safe_load((staged / "mkdocs.yml").read_text())["nav"])
    modules = {f"plugins/module/{path.stem}.md" for path in (ROOT / "plugins/modules").glob("*.py")}
    assert {str(name) for name in documents(ROOT)} | modules <= set(named)
    assert [name for name in named if not (staged / "pages" / name).is_file()] == []


def test_every_link_leads_to_a_page(staged: Path) -> None:
    pages = staged / "pages"
    for page in pages.rglob("*.md"):
        for found in links(page.read_text()):
            path = found[1].partition("#")[0]
            target = page.parent / path if path else page
            assert target.suffix == ".md" and target.is_file(), f"{page}: {found[1]}"
    sources = [path.read_text() for path in pages.glob("roles/settings/defaults/**/*.md")]
    assert any("\nopenmates_ssh_port:" in text for text in sources)


def test_a_folder_that_is_linked_becomes_a_page_with_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "pages", dict)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.yml").write_text("a: 1\n")
    (tmp_path / "README.md").write_text("# Home\n\n[All](data) and [one](data/a.yml).\n")
    found = website.pages(tmp_path)
    assert found["README.md"] == "# Home\n\n[All](data.md) and [one](data/a.yml.md).\n"
    assert found["data/a.yml.md"].splitlines()[:4] == ["# data/a.yml", "", "`" * 8 + "yaml", "a: 1"]
    assert "\n## a.yml\n" in found["data.md"]


def test_a_page_of_an_earlier_call_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "pages", dict)
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/gone.md").write_text("# Gone\n")
    website.stage(ROOT, tmp_path)
    assert not (tmp_path / "pages/gone.md").exists()
    assert (tmp_path / "pages/README.md").exists()


def test_ansibles_markup_becomes_markdown() -> None:
    assert plugins.markup("C(a), O(b.c) of RV(d[].e); B(f) I(g) V(h(i)) BV(j)") == (
        "`a`, `b.c` of `d[].e`; **f** **g** `h(i)` BV(j)"
    )


def test_a_plugins_page_has_its_options_examples_and_return_values() -> None:
    option = {"type": "list", "elements": "dict", "required": True, "description": "The O(files)."}
    option["suboptions"] = {"path": {"type": "str", "default": "/", "description": ["One.", "Two."]}}
    doc = {"short_description": "Write files", "description": ["It writes."], "options": {"files": option}}
    returned = {"changed": {"type": "bool", "returned": "always", "description": "Whether it wrote."}}
    page = plugins.page("writer", {"doc": doc, "examples": "\n- writer:\n", "return": returned})
    for line in (
        "# writer",
        "Write files.",
        "| `files` | list of dict | required | The `files`. |",
        '| `files.path` | str | `"/"` | One. Two. |',
        "- writer:",
        "| `changed` | bool | always | Whether it wrote. |",
    ):
        assert f"\n{line}\n" in f"\n{page}\n", line


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<script src="https://cdn.example.com/a.js"></script>', True),
        ("<link rel='stylesheet' href='//fonts.example.com/a.css'>", True),
        ('<img alt="x" src="http://example.com/a.png">', True),
        ("@font-face { src: url(https://fonts.example.com/a.woff2) }", True),
        ('<script src="js/a.js"></script><link rel="stylesheet" href="css/a.css"><img src="a.png">', False),
        ('<a href="https://example.com/">elsewhere</a>', False),
        ('<link rel="canonical" href="https://example.com/">', False),
        ("@font-face { src: url(../fonts/a.woff2) }", False),
    ],
)
def test_what_a_page_loads_from_another_host_is_found(tmp_path: Path, text: str, found: bool) -> None:
    (tmp_path / "page.html").write_text(text)
    assert bool(website.loaded_from_elsewhere(tmp_path)) is found


def test_the_search_finds_parts_of_names(tmp_path: Path) -> None:
    index = tmp_path / "search_index.json"
    text = "Set openmates_ssh_port or vm.unprivileged_userfaultfd."
    index.write_text(json.dumps({"config": {}, "docs": [{"title": "Ports", "location": "a.html", "text": text}]}))
    search.extend(index)
    [section] = json.loads(index.read_text())["docs"]
    assert section["text"].startswith(text)
    words = set(section["text"].removeprefix(text).split())
    assert {"openmates", "ssh", "port", "ssh_port", "userfaultfd", "unprivileged_userfaultfd"} <= words
    assert "Set" not in words

"""The folder that MkDocs makes the website of: the Markdown files, what they link to, and pages of the plugins."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath

import yaml

from generator import plugins
from generator.links import documents, links, replaced

#: What a page must not load from elsewhere: it has to work without the Internet.
LOADED = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\bsrc=[\"'](?:https?:)?//[^>]*>"
    r"|<link\b(?![^>]*rel=[\"']?canonical)[^>]*\bhref=[\"'](?:https?:)?//[^>]*>"
    r"|url\([\"']?(?:https?:)?//[^)]*\)"
)
LANGUAGES = {".yml": "yaml", ".yaml": "yaml", ".py": "python", ".sh": "sh"}
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


def pages(root: Path) -> dict[str, str]:
    """The text of each page by its path."""
    texts = {str(name): (root / name).read_text() for name in documents(root)}
    sources = {target for name, text in texts.items() for target in _sources(root, name, text)}
    found = {
        name: replaced(text, lambda target, name=name: _moved(target, name, sources)) for name, text in texts.items()
    }
    return found | {f"{name}.md": _source_page(root, name) for name in sources} | plugins.pages()


def _target(name: str, target: str) -> str:
    """The path, below the project's root, that a link in the file `name` leads to."""
    parts: list[str] = []
    for part in PurePosixPath(name).parent.joinpath(target.partition("#")[0]).parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _sources(root: Path, name: str, text: str) -> list[str]:
    """The files other than Markdown, and the folders, that a text links to."""
    targets = [_target(name, found[1]) for found in links(text)]
    return [target for target in targets if not target.endswith(".md") and (root / target).exists()]


def _moved(target: str, name: str, sources: set[str]) -> str:
    return f"{target}.md" if _target(name, target) in sources else target


def _source_page(root: Path, name: str) -> str:
    """A page with a file, or with each file of a folder."""
    path, fence = root / name, "`" * 8
    parts = [f"# {name}"]
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file():
            title = f"\n## {file.name}\n" if path.is_dir() else ""
            parts.append(f"{title}\n{fence}{LANGUAGES.get(file.suffix, 'text')}\n{file.read_text()}\n{fence}")
    return "\n".join(parts) + "\n"


def navigation(texts: dict[str, str]) -> list[dict]:
    """The table of contents: operators first, then roles and plugins, then developers."""

    def entries(pattern: str) -> list[dict[str, str]]:
        names = [name for name in texts if re.fullmatch(pattern, name)]
        return sorted(({TITLE.search(texts[name])[1]: name} for name in names), key=lambda entry: next(iter(entry)))

    return [
        {"openmates.server": "README.md"},
        {"Operating": entries(r"docs/[^/]+\.md")},
        {"Roles": entries(r"roles/[^/]+/README\.md")},
        *({title: entries(rf"plugins/{kind}/.*")} for kind, title in plugins.KINDS.items()),
        {"Project": entries(r"[A-Z]+\.md(?<!README\.md)|lab/.*\.md")},
    ]


def stage(root: Path, folder: Path) -> None:
    """Write the pages and MkDocs' configuration into a folder, in place of what an earlier call left there."""
    texts = pages(root)
    shutil.rmtree(folder / "pages", ignore_errors=True)
    for name, text in texts.items():
        path = folder / "pages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.copy(root / "docs/website.css", folder / "pages")
    settings = yaml.safe_load((root / "docs/mkdocs.yml").read_text())
    settings |= {"docs_dir": "pages", "site_dir": "site", "nav": navigation(texts)}
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(settings, sort_keys=False))


def loaded_from_elsewhere(site: Path) -> list[str]:
    """What the pages and style sheets of a site load from other hosts, each as `file: element`."""
    files = [path for path in sorted(site.rglob("*")) if path.suffix in (".html", ".css")]
    return [f"{path.relative_to(site)}: {found[0]}" for path in files for found in LOADED.finditer(path.read_text())]

"""What the documentation tells an operator to run, and what it says a run prints, is so."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
from generator.links import documents  # noqa: E402

#: On a server, the administrator reaches these through sudo only.
PRIVILEGED = r"(?:docker compose |journalctl |ausearch |nft list)"
SOURCES = [path for name in ("roles", "plugins", "playbooks", "files", "lab") for path in (ROOT / name).rglob("*")]


def commands(text: str) -> list[str]:
    """Commands in backquotes, and the lines of blocks of commands; after `sudo -i` a block is root's."""
    found = []
    for block in re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        found += block.partition("sudo -i")[0].splitlines()
    return found + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("name", [name for name in documents(ROOT) if name.name != "CHANGELOG.md"], ids=str)
def test_commands_that_need_root_are_given_with_sudo(name: Path) -> None:
    assert [line for line in commands((ROOT / name).read_text()) if re.match(PRIVILEGED, line)] == []


def test_a_command_without_sudo_is_found() -> None:
    text = "See `docker compose ps`.\n\n```sh\njournalctl -u x\nsudo -i\nnft list\n```\n`docker compose` is not one.\n"
    assert [line for line in commands(text) if re.match(PRIVILEGED, line)] == ["journalctl -u x", "docker compose ps"]


def test_the_messages_that_the_readme_explains_are_printed() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## When it fails")[2].partition("\n## ")[0]
    symptoms = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    quoted = [part for text in symptoms for found in re.findall(r"\*([^*]+)\*", text) for part in found.split(" ... ")]
    texts = [path.read_text(errors="ignore") for path in SOURCES if path.is_file()]
    printed = re.sub(r"\s+", " ", re.sub(r'"\s*\n\s*f?"', "", "\n".join(texts)))
    assert len(quoted) > 6
    assert [part for part in quoted if part not in printed] == []

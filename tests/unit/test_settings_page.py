"""The page of settings is what the role `settings` declares."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "lab"))
import settings_page  # noqa: E402


def test_the_page_is_up_to_date():
    assert settings_page.PAGE.read_text() == settings_page.page(), "run lab/settings_page.py"


def test_a_comment_belongs_to_the_entry_below_it():
    text = """\
# A file.

# ---------------------------------------------------------------- names
# The first,
# in two lines.
openmates_one: ""
openmates_two: [a]

# Of something else.

openmates_three: "{{ openmates_one }}"
"""
    one, two, three = settings_page.settings(text)
    assert (one.section, one.comment, one.default) == ("names", "The first, in two lines.", "")
    assert (two.comment, settings_page.default_of(two.default)) == ("", '`["a"]`')
    assert (three.comment, settings_page.default_of(three.default)) == ("", "follows from other settings")
    assert settings_page.default_of("") == '`""`' and settings_page.default_of(True) == "`true`"

"""The generated pages are what the roles' data says, and the generator reads that data as it is written."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
from generator import readme, settings  # noqa: E402
from generator.options import field_table, type_of, variable_table  # noqa: E402
from generator.outputs import COMMAND, outputs, stale, write  # noqa: E402
from generator.role import Role, roles, variables  # noqa: E402
from generator.table import default, table  # noqa: E402

PAGES = {"docs/settings.md", "docs/hardening.md", "docs/outages.md"}


def test_the_generated_pages_are_up_to_date() -> None:
    assert stale(ROOT) == [], f"run {COMMAND}"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The roles and pages of the project, to change."""
    for name in ("roles", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


CHANGES = [
    ("roles/settings/defaults/**/*.yml", "openmates_log_level: info", "openmates_log_level: debug", "docs/settings.md"),
    ("roles/hardening/defaults/main.yml", 'kernel.sysrq, value: "0"', 'kernel.sysrq, value: "1"', "docs/hardening.md"),
    ("roles/hardening/meta/hardening.yml", "Do without it for kdump", "Do without it", "docs/hardening.md"),
    (
        "roles/base/defaults/main.yml",
        "{name: telnetd, reason: Logins",
        "{name: telnetd, reason: No logins",
        "docs/hardening.md",
    ),
    (
        "roles/base/defaults/main.yml",
        "base_journal_retention: 90day",
        "base_journal_retention: 30day",
        "docs/hardening.md",
    ),
    ("roles/ssh/vars/main.yml", 'MaxAuthTries: "3"', 'MaxAuthTries: "4"', "docs/hardening.md"),
    ("roles/docker/defaults/main.yml", "userland-proxy: false", "userland-proxy: true", "docs/hardening.md"),
    ("roles/hardening/defaults/main.yml", "shell_timeout: 1800", "shell_timeout: 3600", "docs/hardening.md"),
    ("roles/heal/defaults/main.yml", "heal_project: openmates", "heal_project: other", "roles/heal/README.md"),
    ("roles/heal/meta/argument_specs.yml", "description: ", "description: In short, ", "roles/heal/README.md"),
    ("roles/heal/README.md", "| variable |", "| name |", "roles/heal/README.md"),
]


@pytest.mark.parametrize(("name", "old", "new", "page"), CHANGES, ids=[f"{c[0]}-{c[2]}" for c in CHANGES])
def test_a_change_of_the_data_makes_its_page_stale_and_the_command_renews_it(
    copy: Path, name: str, old: str, new: str, page: str
) -> None:
    [path] = [path for path in copy.glob(name) if old in path.read_text()]
    path.write_text(path.read_text().replace(old, new))
    assert page in stale(copy)
    assert page in write(copy)
    assert stale(copy) == []


def test_an_exception_of_something_that_is_not_there_is_an_error(copy: Path) -> None:
    path = copy / "roles/hardening/meta/hardening.yml"
    path.write_text(path.read_text().replace("  kernel.sysrq:", "  kernel.gone:"))
    with pytest.raises(ValueError, match=r"kernel\.gone"):
        outputs(copy)


def test_a_readme_without_the_markers_is_an_error(copy: Path) -> None:
    path = copy / "roles/heal/README.md"
    path.write_text(path.read_text().replace(readme.END, ""))
    with pytest.raises(ValueError, match=re.escape("roles/heal/README.md")):
        outputs(copy)


def test_every_role_has_a_page() -> None:
    names = {path.parent.name for path in ROOT.glob("roles/*/tasks")}
    assert {role.name for role in roles(ROOT)} == names
    assert {str(path) for path in outputs(ROOT)} == PAGES | {f"roles/{name}/README.md" for name in names - {"settings"}}


@pytest.mark.parametrize("role", roles(ROOT), ids=lambda role: role.name)
def test_every_variable_has_a_description(role: Role) -> None:
    described = {name for name, option in role.options.items() if option.get("description")}
    described |= {variable.name for variable in role.variables if variable.comment}
    assert {variable.name for variable in role.variables} <= described


def test_a_comment_belongs_to_the_entry_below_it() -> None:
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
    one, two, three = variables(text)
    assert (one.section, one.comment, one.default) == ("names", "The first, in two lines.", "")
    assert (two.comment, default(two.default, "x")) == ("", '`["a"]`')
    assert (three.comment, default(three.default, "x")) == ("", "derived from others")
    assert default("", "x") == '`""`' and default(True, "x") == "`true`"
    assert default({"a": "{{ b }}"}, "x") == "[see there](x)"
    assert default("a" * 61, "x") == default("a\nb", "x") == "[see there](x)"


def test_a_cell_keeps_to_its_line_and_column() -> None:
    assert table(("a", "b"), [("x|y", "two\n lines ")]) == "| a | b |\n|---|---|\n| x\\|y | two lines |"


def test_the_type_names_elements_and_choices() -> None:
    assert type_of({"type": "list", "elements": "dict"}) == "list of dict"
    assert type_of({"choices": ["a", "b"]}) == "str: `a`, `b`"


def test_fields_of_a_structured_option_are_listed_with_their_path() -> None:
    inner = {"limit": {"type": "int", "default": 3, "description": "How many."}}
    option = {
        "options": {
            "name": {"required": True, "description": "Its name."},
            "sub": {"type": "dict", "description": "More.", "options": inner},
        }
    }
    rows = field_table("openmates_x", option).splitlines()
    assert rows[0] == "Fields of `openmates_x`:"
    assert rows[4:] == [
        "| `name` | str | required | Its name. |",
        "| `sub` | dict |  | More. |",
        "| `sub.limit` | int | `3` | How many. |",
    ]
    assert field_table("openmates_x", {"type": "str"}) == ""


def test_variables_without_a_default_come_first(tmp_path: Path) -> None:
    for name, data in {
        "defaults/main.yml": {"r_b": 1},
        "meta/argument_specs.yml": {
            "argument_specs": {
                "main": {"options": {"r_b": {"type": "int", "description": "B."}}},
                "other": {"options": {"r_a": {"required": True, "description": "A."}, "r_c": {"description": "C."}}},
            }
        },
    }.items():
        path = tmp_path / "roles/r" / name
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(data))
    assert variable_table(Role(tmp_path, "r")).splitlines()[2:] == [
        "| `r_a` | str | required | A. |",
        "| `r_c` | str | none | C. |",
        "| `r_b` | int | `1` | B. |",
    ]


def test_defaults_may_be_a_folder_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "roles/r/defaults/main"
    folder.mkdir(parents=True)
    (folder / "a.yml").write_text("---\n# A.\nr_a: 1\n")
    (folder / "b.yml").write_text(f"---\n# B.\nr_b: {'b' * 61}\n")
    role = Role(tmp_path, "r")
    assert [(variable.name, variable.file) for variable in role.variables] == [
        ("r_a", "defaults/main/a.yml"),
        ("r_b", "defaults/main/b.yml"),
    ]
    assert "| [see there](defaults/main/b.yml) | B. |" in variable_table(role)
    assert role.data == {"r_a": 1, "r_b": "b" * 61}


def test_the_fields_of_services_that_may_be_set_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "roles/settings/meta/service.yml"
    path.parent.mkdir(parents=True)
    fields = {
        "memory": {"type": "str", "description": "Its limit.", "settable": True},
        "uid": {"description": "Its user."},
    }
    path.write_text(yaml.safe_dump(fields))
    text = settings.service_fields(Role(tmp_path, "settings"))
    assert "\n| `memory` | str | Its limit. |\n" in text and "uid" not in text
    path.write_text("{}\n")
    assert settings.service_fields(Role(tmp_path, "settings")) == ""

"""docs/hardening.md names what the roles' data says, with the same reasons, and the data is well-formed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/hardening.md").read_text()
BASE = yaml.safe_load((ROOT / "roles/base/defaults/main.yml").read_text())
HARDENING = yaml.safe_load((ROOT / "roles/hardening/defaults/main.yml").read_text())
ARCH = yaml.safe_load((ROOT / "roles/hardening/vars/main.yml").read_text())["hardening_audit_arch"]
AUDIT_TEMPLATE = (ROOT / "roles/hardening/templates/etc/audit/rules.d/openmates.rules.j2").read_text()
#: Heading of a table -> what has to stand in its first column.
TABLES = {
    "Packages that are added": {
        item["name"] for item in [*BASE["base_own_packages"], *HARDENING["hardening_packages"]]
    },
    "Packages that are removed": {item["name"] for item in BASE["base_unneeded_packages"]},
    "Kernel (role hardening)": {item["name"] for item in HARDENING["hardening_sysctl"]},
    "Modules that are never loaded": {
        name for item in HARDENING["hardening_blocked_modules"] for name in item["names"]
    },
    "Files": {item["path"] for item in HARDENING["hardening_permissions"]},
}


@pytest.mark.parametrize("heading", TABLES)
def test_a_table_lists_what_is_declared_and_nothing_else(heading: str) -> None:
    _, found, section = PAGE.partition(f"# {heading}\n")
    assert found
    rows = re.findall(r"^\| (`.*?) \|", section.partition("\n#")[0], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == TABLES[heading]


def test_every_reason_stands_on_the_page() -> None:
    lists = (
        ("base_own_packages", "base_unneeded_packages", "base_held_packages"),
        ("hardening_sysctl", "hardening_blocked_modules", "hardening_packages", "hardening_lines"),
    )
    items = [
        item for data, names in zip((BASE, HARDENING), lists, strict=True) for name in names for item in data[name]
    ]
    items += [*HARDENING["hardening_permissions"], *HARDENING["hardening_audit_rules"], *HARDENING["hardening_watched"]]
    assert [item for item in items if item["reason"] not in PAGE] == []


def test_values_of_kernel_settings_stand_on_the_page() -> None:
    for item in HARDENING["hardening_sysctl"]:
        value = item["value"].replace("|", "\\|")
        assert f"| `{item['name']}` | `{value}` |" in PAGE


def test_options_of_sshd_stand_on_the_page() -> None:
    groups = yaml.safe_load((ROOT / "roles/ssh/vars/main.yml").read_text())["ssh_lines"]
    lines = [f"{name} {value.strip()}" for group in groups for name, value in group["options"].items()]
    literal = [line for line in lines if "{{" not in line]
    assert len(literal) > 30
    assert [line for line in literal if f"\n{line}\n" not in PAGE] == []


def test_nothing_is_declared_twice() -> None:
    names = [item["name"] for item in HARDENING["hardening_sysctl"]]
    paths = [item["path"] for item in HARDENING["hardening_permissions"]]
    modules = [name for item in HARDENING["hardening_blocked_modules"] for name in item["names"]]
    for several in (names, paths, modules):
        assert len(several) == len(set(several))


@pytest.mark.parametrize("name", ["net.ipv4.ip_forward", "user.max_user_namespaces", "net.ipv6.conf.*.accept_ra"])
def test_what_breaks_docker_is_not_there(name: str) -> None:
    assert name not in {item["name"] for item in HARDENING["hardening_sysctl"]}


def test_docker_keeps_its_modules() -> None:
    needed = {"overlay", "bridge", "br_netfilter", "veth", "vxlan", "ip_vs", "nf_tables", "macvlan", "ipvlan", "zram"}
    assert not needed & TABLES["Modules that are never loaded"]


@pytest.mark.parametrize("rule", [rule for item in HARDENING["hardening_audit_rules"] for rule in item["rules"]])
def test_audit_rules_are_for_both_architectures_and_have_a_key(rule: str) -> None:
    assert re.fullmatch(r"-a always,exit -F arch=b64( -[SF] [a-z0-9_,=<>!/.-]+)+ -F key=[a-z0-9-]+", rule)
    # Calls that aarch64 does not have: the file would be refused there as a whole.
    calls = {call for part in re.findall(r"-S (\S+)", rule) for call in part.split(",")}
    assert not calls & {
        "open",
        "creat",
        "unlink",
        "rename",
        "chmod",
        "chown",
        "lchown",
        "mkdir",
        "rmdir",
        "link",
        "stime",
    }


@pytest.mark.parametrize("architecture", ["aarch64", "x86_64"])
def test_auditctl_is_not_asked_for_calls_that_the_processor_lacks(architecture: str) -> None:
    """Of a rule with perm= and an architecture, auditctl names the calls, some of which aarch64 does not have."""
    variables = {
        **HARDENING,
        "hardening_audit_arch": trust_as_template(ARCH),
        "ansible_facts": {"architecture": architecture},
    }
    text = Templar(DataLoader(), variables).template(trust_as_template(AUDIT_TEMPLATE), escape_backslashes=False)
    plain = [rule for item in HARDENING["hardening_audit_rules"] for rule in item["rules"]]
    rendered = [rule for rule in text.splitlines() if rule.startswith("-a ") and "arch=b32" not in rule]
    if architecture == "x86_64":
        assert rendered == plain
        return
    of_files = [bool(re.search("-F (dir|path)=", rule)) and "perm=x" not in rule for rule in plain]
    assert sum(of_files) > 10
    expected = [
        rule.replace(" -F arch=b64", "") if of_file else rule for rule, of_file in zip(plain, of_files, strict=True)
    ]
    assert rendered == expected

"""Settings: their types, the names that are refused, and that the project reads each through its converted value."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.openmates.server.plugins.plugin_utils.settings import names, reading
from ansible_collections.openmates.server.plugins.plugin_utils.settings.conversion import ConversionError, convert
from ansible_collections.openmates.server.plugins.plugin_utils.verb_arguments import names_in

ROOT = Path(__file__).parents[2]
SPECS = reading.specifications(ROOT)
DEFAULTS = reading.defaults(ROOT, DataLoader())
SERVICES = DEFAULTS["openmates_services"]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
WIRING = sorted((ROOT / "playbooks/group_vars").rglob("*.yml"))
PROJECT = names_in([*WIRING, *ROOT.glob("roles/*/defaults/**/*.yml"), *ROOT.glob("roles/*/vars/*.yml")])
WIRED = names.settings_by_role_variable("\n".join(file.read_text() for file in WIRING))


# --- types --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "value", "converted"),
    [
        ({"type": "bool"}, "false", False),
        ({"type": "bool"}, "Yes", True),
        ({"type": "bool"}, True, True),
        ({"type": "int"}, "22", 22),
        ({"type": "int"}, 22, 22),
        ({"type": "str"}, 1000, "1000"),
        ({"type": "str"}, "", ""),
        ({"type": "list", "elements": "str"}, '["192.0.2.0/24", "2001:db8::/32"]', ["192.0.2.0/24", "2001:db8::/32"]),
        ({"type": "list", "elements": "str"}, "[192.0.2.0/24]", ["192.0.2.0/24"]),
        ({"type": "list", "elements": "str"}, "192.0.2.1,192.0.2.2", ["192.0.2.1", "192.0.2.2"]),
        ({"type": "list", "elements": "str"}, "", []),
        ({"type": "list", "elements": "dict"}, '[{"name": "app-one"}]', [{"name": "app-one"}]),
        ({"type": "dict"}, '{"providers/openai": {"api_key": "x"}}', {"providers/openai": {"api_key": "x"}}),
        ({"type": "dict"}, "", {}),
        ({"type": "str", "choices": ["a", "b"]}, "b", "b"),
        ({"type": "list", "elements": "str", "choices": ["a", "b"]}, "b,a", ["b", "a"]),
    ],
)
def test_a_value_is_converted_to_its_type(spec: dict, value: object, converted: object) -> None:
    result = convert(spec, value)
    assert result == converted
    assert type(result) is type(converted)


@pytest.mark.parametrize(
    ("spec", "value", "words"),
    [
        ({"type": "bool"}, "ture", "must be true or false, not `ture`"),
        ({"type": "int"}, "twenty", "must be a whole number, not `twenty`"),
        ({"type": "int"}, True, "must be a whole number"),
        ({"type": "str"}, 1.10, "must be text in quotation marks, not `1.1`"),
        ({"type": "str"}, False, "must be text in quotation marks, not `False`"),
        ({"type": "str"}, ["a"], "must be text in quotation marks"),
        ({"type": "list", "elements": "str"}, {"a": 1}, "must be a list of text"),
        ({"type": "list", "elements": "dict"}, ["a"], "must be a list of mappings"),
        (
            {"type": "list", "elements": "str"},
            "[a",
            "must be a list of text, not `[a` (with -e name=value, a space ends",
        ),
        ({"type": "dict"}, "canary", "must be a mapping"),
        ({"type": "dict"}, None, "must not be empty"),
        ({"type": "str", "choices": ["a", "b"]}, "c", "must be one of a, b, not `c`"),
        ({"type": "list", "elements": "str", "choices": ["a"]}, ["c"], "must be a list of a"),
        ({"type": "str", "no_log": True}, 45954944846776, "must be text in quotation marks: unquoted digits"),
    ],
)
def test_a_value_of_another_type_is_refused(spec: dict, value: object, words: str) -> None:
    with pytest.raises(ConversionError) as error:
        convert(spec, value)
    assert words in str(error.value)


@pytest.mark.parametrize("value", ["canary", ["canary"], {"a": "canary"}, 3.5])
@pytest.mark.parametrize("kind", ["int", "bool"])
def test_the_value_of_a_secret_is_not_shown(kind: str, value: object) -> None:
    with pytest.raises(ConversionError) as error:
        convert({"type": kind, "no_log": True}, value)
    assert "canary" not in str(error.value) and "3.5" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("openmates_vault_engine", "valut", "must be one of vault, openbao, not `valut`"),
        ("openmates_log_level", "verbose", "must be one of debug, info, warning, error, not `verbose`"),
        ("openmates_probe_families", ["ipv5"], "must be a list of ipv4, ipv6"),
        ("openmates_vault_unseal", "me", "must be one of host, operator, not `me`"),
        (
            "openmates_signup_mode",
            "open",
            "must be one of invite_only, domain_allowlist, invite_and_domain, not `open`",
        ),
    ],
)
def test_a_setting_with_a_fixed_set_of_values_takes_no_other(name: str, value: object, words: str) -> None:
    with pytest.raises(ConversionError) as error:
        convert(SPECS[name], value)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("openmates_admin_password", 73519462840571, "must be text in quotation marks"),
        ("openmates_directus_login_attempts", "never", "must be a whole number, not `never`"),
        ("openmates_directus_login_attempts", True, "must be a whole number"),
        ("openmates_vault_seeds", ["providers/sample"], "must be a mapping"),
        ("openmates_ssh_keys", {"admin": "ssh-ed25519 AAAA"}, "must be a list of text"),
        ("openmates_ssh_port", "ssh", "must be a whole number, not `ssh`"),
        ("openmates_apps", {"app-a": {}}, "must be a list of mappings"),
        ("openmates_apps", ["app-a"], "must be a list of mappings"),
        ("openmates_host_memory_mb", "8G", "must be a whole number, not `8G`"),
        ("openmates_min_memory_mb", "much", "must be a whole number, not `much`"),
        ("openmates_min_disk_gb", "20 GB", "must be a whole number, not `20 GB`"),
        ("openmates_cookie_domain", True, "must be text in quotation marks, not `True`"),
        ("openmates_ssh_user", ["admin"], "must be text in quotation marks"),
        ("openmates_version", 0.14, "must be text in quotation marks, not `0.14`"),
        ("openmates_cms_setup_timeout", "1h", "must be a whole number, not `1h`"),
        ("openmates_signup_limit", "many", "must be a whole number, not `many`"),
        ("openmates_worker_queues", {"email": 1}, "must be a list of text"),
        ("openmates_backend_environment", ["A=1"], "must be a mapping"),
        ("openmates_vault_pgp_keys", {"one": "bQ=="}, "must be a list of text"),
    ],
)
def test_preflight_gets_no_setting_of_another_type(name: str, value: object, words: str) -> None:
    with pytest.raises(ConversionError) as error:
        convert(SPECS[name], value)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "name", [f"openmates_{name}" for name in ("ssh_sources", "frontend_urls", "worker_queues", "signup_domains")]
)
def test_a_list_may_be_one_text(name: str) -> None:
    assert convert(SPECS[name], "one.test,two.test") == ["one.test", "two.test"]


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("openmates_log_levle", "Did you mean openmates_log_level?"),
        ("openmates_cahce_password", "Did you mean openmates_cache_password?"),
        ("openmates_admin_mail", "Did you mean openmates_admin_email?"),
        ("openmates_qqqq", "roles/settings/defaults/main has all of them"),
        ("openmates_origins", "derive it from other settings. Remove it"),
        ("openmates_exposure", "derive it from other settings. Remove it"),
        ("openmates_ready_path", "no such setting any more"),
        ("openmates_ready_path", "openmates_health_path"),
        ("openmates_images", "Set openmates_services: {cms: {image: ...}} instead"),
        ("openmates_memory", "Set openmates_services: {cms: {memory: ...}} instead"),
        ("openmates_ports", "Set openmates_services: {cms: {host_port: ...}} instead"),
        ("openmates_tools", "Set openmates_services: {cms: {address: ..., tunnel: ...}} instead"),
        ("openmates_proxy_protocol", "cannot read the PROXY protocol. Switch it off"),
        ("openmates_proxy_protocol", "openmates_trusted_proxies"),
        ("verify_families", "is called openmates_probe_families now"),
        ("ssh_penalty_exempt", "variable of the role ssh"),
        ("ssh_penalty_exempt", "Set openmates_ssh_penalty_exempt instead."),
        ("base_timezone", "Set openmates_timezone instead."),
        ("base_timezon", "resembles base_timezone"),
        ("stack_exclude", "there is no setting for it"),
        ("vault_url", "there is no setting for it"),
    ],
)
def test_a_name_that_is_no_setting_is_refused(name: str, words: str) -> None:
    assert words in names.problem_of(name, SPECS, PROJECT, ROLES, WIRED)


@pytest.mark.parametrize(
    "name", [*SPECS, "vault_database_password", "docker_users", "ansible_host", "lab_state", "ssh_port_of_the_office"]
)
def test_settings_and_variables_of_other_projects_are_accepted(name: str) -> None:
    assert names.problem_of(name, SPECS, PROJECT, ROLES, WIRED) == ""


def test_an_old_name_leads_to_a_setting_that_exists() -> None:
    assert set(names.RENAMED.values()) <= set(SPECS)
    assert not (names.RENAMED.keys() | names.REMOVED.keys()) & SPECS.keys()


# --- the specification --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_a_setting_has_a_type_a_default_and_a_sentence(name: str) -> None:
    spec = SPECS[name]
    assert name.startswith(names.PREFIX)
    assert spec["description"].endswith(".")
    if name not in DEFAULTS:
        assert "Required" in spec["description"]
    elif "{{" not in json.dumps(DEFAULTS[name]):
        assert convert(spec, DEFAULTS[name]) == DEFAULTS[name]
        assert "default" not in spec or spec["default"] == DEFAULTS[name]
    else:
        assert "default" not in spec


def test_no_setting_is_called_as_what_else_is_in_the_result_of_the_task() -> None:
    others = {
        "named",
        "places",
        "unresolved",
        "changed",
        "failed",
        "skipped",
        "msg",
        "warnings",
        "exception",
        "invocation",
        "diff",
    }
    assert not {names.PREFIX + other for other in others} & SPECS.keys()


def test_every_default_has_a_specification() -> None:
    assert DEFAULTS.keys() <= SPECS.keys()


def test_what_a_setting_decides_is_no_setting_itself() -> None:
    wiring = names_in(WIRING)
    assert not wiring & SPECS.keys()
    assert all(name.startswith((names.PREFIX, "ansible_", *(f"{role}_" for role in ROLES))) for name in wiring)


READERS = [
    *(ROOT / "files/compose").rglob("*.j2"),
    *(ROOT / "playbooks").rglob("*.yml"),
    *(ROOT / "playbooks").rglob("*.j2"),
    *(file for file in ROOT.glob("roles/*/*/*.yml") if file.parts[-3] != "settings"),
    *(ROOT / "roles").rglob("*.j2"),
    *ROOT.glob("lab/tasks/*.yml"),
]


def expressions(file: Path) -> str:
    return "\n".join(re.findall(r"\{\{.*?\}\}|\{%.*?%\}|when: [^\n]*", file.read_text(), re.DOTALL))


def test_the_project_reads_converted_values_only() -> None:
    """The exception is how Ansible connects, which is worked out before the settings are read."""
    raw = {
        (str(file.relative_to(ROOT)), name)
        for file in READERS
        for name in re.findall(r"\bopenmates_\w+", expressions(file))
        if name in SPECS and f"'{name}'" not in expressions(file)
    }
    connection = {f"openmates_{name}" for name in ("ssh_user", "ssh_port", "ssh_bastion", "known_hosts_file")}
    allowed = {("playbooks/group_vars/all/connection.yml", name) for name in connection}
    assert raw == allowed


def test_every_setting_is_read_and_nothing_else_is() -> None:
    read = {f"{names.PREFIX}{name}" for file in READERS for name in re.findall(r"\bsettings\.(\w+)", expressions(file))}
    judged_only = {
        f"openmates_{name}"
        for name in (
            *("adopt_volumes", "domain_elsewhere", "host_memory_mb", "min_memory_mb", "min_disk_gb"),
            "plaintext_secrets",
        )
    }
    read -= {
        "openmates_named",
        "openmates_unresolved",
        "openmates_places",
        "openmates_plaintext",
    }  # the rest of the task's result
    assert read <= SPECS.keys()
    read |= set(re.findall(r"\bopenmates_\w+", expressions(ROOT / reading.DEFAULTS / "services.yml")))
    assert SPECS.keys() - read == judged_only | {"openmates_version"}

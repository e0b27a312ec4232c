"""Ansible reads a setting from every place that an operator may use, and refuses what is none."""

from __future__ import annotations

import base64
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.openmates.server.plugins.lookup import servers

ROOT = Path(__file__).parents[2]
SOURCES = ["192.0.2.0/24", "2001:db8::/32"]
SERVICES_FILE = ROOT / "roles/settings/defaults/main/services.yml"
DEFAULT_SERVICES = yaml.safe_load(SERVICES_FILE.read_text())["openmates_services"]
DEFAULT_SERVICES["promtail"]["memory"] = "128M"  # by default, which a template decides
HOSTS = {"prod": {"hosts": {"server": {"ansible_host": "192.0.2.7"}}}}
PROBE = """
- name: Show what the settings decide
  hosts: "{{ query('openmates.server.servers') }}"
  gather_facts: false
  tasks:
    - name: Read the settings
      ansible.builtin.import_role: {name: openmates.server.settings, public: true, rolespec_validate: false}
    - name: Show them
      ansible.builtin.debug:
        msg: "SHOWN {{ inventory_hostname }} {{ shown | to_json | b64encode }}"
      vars:
        shown:
          settings: "{{ settings }}"
          firewall_sources: "{{ firewall_sources }}"
          ports: ["{{ firewall_tcp_ports }}", "{{ verify_expected_ports }}"]
"""
JUDGE = """
- name: Judge the settings
  hosts: "{{ query('openmates.server.servers') }}"
  connection: local
  gather_facts: false
  vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  tasks:
    - name: Read the settings
      ansible.builtin.import_role: {name: openmates.server.settings, public: true, rolespec_validate: false}
    - name: Judge them
      ansible.builtin.import_role: {name: openmates.server.preflight}
"""


class Operator:
    """A directory of an operator's own, with a playbook that shows the settings of its servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "inventory"
        self.inventory.mkdir()
        (folder / "password").write_text("a throwaway password")
        (folder / "playbooks").mkdir()
        (folder / "playbooks/probe.yml").write_text(PROBE)
        (folder / "playbooks/judge.yml").write_text(JUDGE)
        (folder / "playbooks/group_vars").symlink_to(ROOT / "playbooks/group_vars")
        self.write("hosts.yml", HOSTS)

    def write(self, name: str, content: object) -> None:
        file = self.inventory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))

    def run(
        self, *arguments: str, inventory: str = "inventory", playbook: str = "probe"
    ) -> subprocess.CompletedProcess:
        command = [Path(sys.executable).parent / "ansible-playbook", f"playbooks/{playbook}.yml", *arguments]
        return self.command(*command, *(["-i", inventory] if inventory else []))

    def command(self, *command: str | Path) -> subprocess.CompletedProcess:
        return subprocess.run(
            command,
            cwd=self.folder,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_VAULT_PASSWORD_FILE": str(self.folder / "password"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_INVENTORY": "/dev/null",
                "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def shown(self, *arguments: str) -> dict[str, dict]:
        """What the settings of each server are, and what one of them decides for a role."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        found = re.findall(r"SHOWN\s+(\S+)\s+(\S+)", done.stdout)
        return {host: json.loads(base64.b64decode(text)) for host, text in found}

    def refused(self, *arguments: str, **options: str) -> str:
        done = self.run(*arguments, **options)
        output = re.sub(r"\s+", " ", done.stdout + done.stderr)
        assert done.returncode != 0, output
        assert "SHOWN" not in output
        return output


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


OVERRIDE = {"task-worker": {"memory": "1536M"}, "cms": {"host_port": 9055}}
VALUES = {"openmates_log_level": "debug", "openmates_ssh_sources": SOURCES, "openmates_services": OVERRIDE}
PLACES = {
    "group_vars/all": {"group_vars/all.yml": VALUES},
    "group_vars/prod": {"group_vars/prod.yml": VALUES},
    "host_vars": {"host_vars/server.yml": VALUES},
    "vars in hosts.yml": {"hosts.yml": {"all": {"vars": VALUES, "children": HOSTS}}},
    "INI inventory": {
        "hosts.yml": "",
        "hosts.ini": "[prod]\nserver ansible_host=192.0.2.7\n"
        f"[all:vars]\nopenmates_log_level=debug\nopenmates_ssh_sources={json.dumps(SOURCES)}\n"
        f"openmates_services={json.dumps(OVERRIDE)}\n",
    },
    "-e": {},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_setting_takes_effect_wherever_it_is_set(operator: Operator, place: str) -> None:
    for name, content in PLACES[place].items():
        operator.write(name, content)
    command_line = [part for name in VALUES for part in ("-e", f"{name}={_text(VALUES[name])}")]
    shown = operator.shown(*(command_line if place == "-e" else []))["server"]
    assert shown["settings"]["log_level"] == "debug"
    assert shown["settings"]["ssh_sources"] == SOURCES
    assert shown["firewall_sources"] == {"22": SOURCES}
    services = shown["settings"]["services"]
    assert services["task-worker"]["memory"] == "1536M"
    assert services["cms"]["host_port"] == "9055", "of another type in the inventory"
    assert shown["settings"]["directus_public_url"] == "http://localhost:9055", "a default that refers to a service"
    for name, fields in DEFAULT_SERVICES.items():
        assert services[name].keys() | {"secrets"} == services["vault"].keys()
        assert services[name]["memory"] == OVERRIDE.get(name, {}).get("memory", fields["memory"])


@pytest.mark.parametrize("kind", ["group_vars/prod.yml", "hosts.ini", "-e", "-e @file"])
def test_fields_of_services_are_merged_from_every_place(operator: Operator, kind: str) -> None:
    operator.write("group_vars/all/one.yml", {"openmates_services": {"api": {"memory": "1G"}, "cms": {"memory": "1G"}}})
    operator.write("group_vars/all/two.yml", {"openmates_services": {"cms": {"memory": "700M", "tunnel": False}}})
    mine = {"loki": {"memory": "{{ openmates_services.api.memory }}"}, "cms": {"memory": "800M"}}
    arguments = []
    if kind == "hosts.ini":
        operator.write("hosts.yml", "")
        operator.write("hosts.ini", f"[prod]\nserver openmates_services='{json.dumps(mine)}'\n")
    elif kind == "-e":
        arguments = ["-e", json.dumps({"openmates_services": mine})]
    elif kind == "-e @file":
        operator.write("more.json", json.dumps({"openmates_services": mine}))
        arguments = ["-e", "@inventory/more.json"]
    else:
        operator.write(kind, {"openmates_services": mine})
    services = operator.shown(*arguments)["server"]["settings"]["services"]
    found = {name: services[name]["memory"] for name in ("api", "cms", "loki", "cache")}
    assert found == {"api": "1G", "cms": "800M", "loki": "1G", "cache": DEFAULT_SERVICES["cache"]["memory"]}
    assert services["cms"]["tunnel"] is False and services["vault"]["tunnel"] is True


def test_what_is_no_field_of_a_service_is_refused_with_its_line_and_the_nearest_name(operator: Operator) -> None:
    operator.write(
        "group_vars/prod.yml",
        "openmates_services:\n"
        "  task-wroker: {memory: 1G}\n"
        "  api:\n"
        "    memroy: 1G\n"
        "    user: 0:0\n"
        "    memory: [1G]\n"
        "  vault: {host_port: 8200, tunnel: perhaps}\n"
        "  cms: 1G\n"
        "openmates_memory: {cms: 1G}\n",
    )
    operator.write("host_vars/server.yml", {"openmates_services": {"cache": {"memory": None, "exposure": "published"}}})
    output = operator.refused()
    file = "inventory/group_vars/prod.yml"
    for words in (
        f"openmates_services.task-wroker in {file}:2 names no service. Did you mean task-worker?",
        f"openmates_services.api.memroy in {file}:4 is no field of a service. Did you mean memory?",
        f"openmates_services.api.user in {file}:5 follows from the Compose files: set image, memory, host_port only.",
        f"openmates_services.api.memory in {file}:6 must be text in quotation marks.",
        f"openmates_services.vault.host_port in {file}:7 follows from the Compose files: set image, memory, address, "
        "tunnel only.",
        f"openmates_services.vault.tunnel in {file}:7 must be true or false, not `perhaps`.",
        f"openmates_services.cms in {file}:8 must be a mapping, such as {{memory: 1G}}.",
        f"openmates_memory in {file}:9: there is no such setting any more. Set openmates_services: {{cms: {{memory:",
        "openmates_services.cache.memory in inventory/host_vars/server.yml:",
        "must not be empty",
        "openmates_services.cache.exposure in inventory/host_vars/server.yml:",
    ):
        assert words in output


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[1G]", "openmates_services in the command line (-e) must be a mapping"),
        ("{{not_there}}", "openmates_services in the command line (-e) cannot be evaluated: 'not_there' is undefined."),
    ],
)
def test_a_value_that_is_no_mapping_of_services_is_refused(operator: Operator, value: str, words: str) -> None:
    assert words in operator.refused("-e", f"openmates_services={value}")


def test_fields_of_one_command_line_are_not_dropped_without_a_message(operator: Operator) -> None:
    one, two = ({"openmates_services": {name: {"memory": "1G"}}} for name in ("api", "cms"))
    operator.write("one.json", json.dumps(one))
    operator.write("two.yml", two)
    given = {"one": [json.dumps(one), "@inventory/one.json"], "two": [json.dumps(two), "@inventory/two.yml"]}
    for first, second in zip(given["one"], reversed(given["two"]), strict=True):
        output = operator.refused("-e", first, "-e", second)
        assert "openmates_services is set in the command line (-e) twice. Set it once." in output
    output = operator.refused("-e", "@inventory/one.json", "-e", "@inventory/two.yml")
    assert "openmates_services is set in the command line (-e) twice. Set it once." in output


def test_a_field_that_the_play_sets_counts_besides_those_of_the_inventory(operator: Operator) -> None:
    operator.write("group_vars/prod.yml", {"openmates_services": {"api": {"memory": "2G"}, "cms": {"memory": "1G"}}})
    play = PROBE.replace("  tasks:\n", "  vars: {openmates_services: {api: {memory: 3G}}}\n  tasks:\n", 1)
    (operator.folder / "playbooks/probe.yml").write_text(play)
    services = operator.shown()["server"]["settings"]["services"]
    assert (services["api"]["memory"], services["cms"]["memory"]) == ("3G", "1G")


def test_fields_are_not_merged_where_ansible_takes_places_in_another_order(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.write("hosts.yml", {"prod": {**HOSTS["prod"], "vars": {"openmates_services": {"api": {"memory": "1G"}}}}})
    operator.write("group_vars/prod.yml", {"openmates_services": {"api": {"memory": "2G"}}})
    assert operator.shown()["server"]["settings"]["services"]["api"]["memory"] == "2G"
    order = "all_plugins_inventory,all_inventory,groups_plugins_inventory,all_plugins_play,groups_plugins_play"
    monkeypatch.setenv("ANSIBLE_PRECEDENCE", f"{order},groups_inventory")
    output = operator.refused()
    assert re.search(
        r"openmates_services is set in inventory/hosts.yml:\d+ and inventory/group_vars/prod.yml:1. "
        "Set it in one of them.",
        output,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def test_text_is_converted_to_the_type_of_the_setting(operator: Operator) -> None:
    operator.write("hosts.yml", "")
    operator.write(
        "hosts.ini",
        "[prod]\nserver openmates_directus_cache=false openmates_pids_limit=300\n"
        '[prod:vars]\nopenmates_backend_environment={"A": "b"}\n',
    )
    apps = [{"name": "app-pdf", "kind": "worker", "queues": ["app_images"]}]
    arguments = ["-e", "openmates_ssh_port=2222", "-e", "openmates_require_ipv6=no"]
    shown = operator.shown(*arguments, "-e", f"openmates_apps={_text(apps)}")["server"]
    settings = shown["settings"]
    assert settings["directus_cache"] is False
    assert settings["require_ipv6"] is False
    assert (settings["pids_limit"], settings["ssh_port"]) == (300, 2222)
    assert shown["ports"] == [[2222], [2222]], "the firewall opens what verify expects"
    assert settings["backend_environment"] == {"A": "b"}
    assert settings["apps"] == apps
    assert "app_images" not in settings["worker_queues"], "a default that refers to a setting finds the converted value"
    assert "app_ai" in settings["worker_queues"]


def test_what_is_no_setting_is_refused_with_its_file_and_the_nearest_name(operator: Operator) -> None:
    operator.write("group_vars/all.yml", {"openmates_log_levle": "debug", "openmates_origins": []})
    operator.write("group_vars/prod.yml", "\nssh_penalty_exempt: [192.0.2.1]\nvault_database_password: x\n")
    operator.write("host_vars/server.yml", {"verify_require_ipv6": True, "openmates_ready_path": "/ready"})
    operator.write("hosts.yml", {"prod": {"hosts": HOSTS["prod"]["hosts"], "vars": {"openmates_ssh_port": "twenty"}}})
    output = operator.refused("-e", "openmates_vault_unsael=host", "-e", "vault_token_period=3h")
    for words in (
        "openmates_log_levle in inventory/group_vars/all.yml:1: there is no such setting. "
        "Did you mean openmates_log_level?",
        "openmates_origins in inventory/group_vars/all.yml:2: the playbooks derive it",
        "ssh_penalty_exempt in inventory/group_vars/prod.yml:2: it is a variable of the role ssh, which only the "
        "playbooks set. Set openmates_ssh_penalty_exempt instead.",
        "verify_require_ipv6 in inventory/host_vars/server.yml:2: it is a variable of the role verify, which only the "
        "playbooks set. Set openmates_require_ipv6 instead.",
        "openmates_ready_path in inventory/host_vars/server.yml:1: there is no such setting any more.",
        "openmates_ssh_port in inventory/hosts.yml:6 must be a whole number, not `twenty`.",
        "openmates_vault_unsael in the command line (-e): there is no such setting. "
        "Did you mean openmates_vault_unseal?",
    ):
        assert words in output
    assert "vault_database_password" not in output and "vault_token_period" not in output


def test_a_misspelt_prefix_is_refused_wherever_it_is_set(operator: Operator) -> None:
    operator.write("group_vars/all.yml", {"openmate_log_level": "debug", "openstack_domain": "x", "log_level": "x"})
    operator.write("host_vars/server.yml", {"openmates-ssh-sources": SOURCES})
    output = operator.refused("-e", "opnmates_ssh_port=2222", "-e", "mates_domain=x")
    for words in (
        "openmate_log_level in inventory/group_vars/all.yml:2: there is no such setting. "
        "Did you mean openmates_log_level?",
        "openmates-ssh-sources in inventory/host_vars/server.yml:1: there is no such setting. "
        "Did you mean openmates_ssh_sources?",
        "opnmates_ssh_port in the command line (-e): there is no such setting. Did you mean openmates_ssh_port?",
    ):
        assert words in output
    assert "openstack_domain" not in output and "mates_domain in" not in output


def test_secrets_are_never_shown(operator: Operator) -> None:
    operator.write("group_vars/all.yml", "openmates_vault_seeds: canary\nopenmates_grafana_password: [canary]\n")
    output = operator.refused("-vvv")
    assert "openmates_vault_seeds in inventory/group_vars/all.yml:1 must be a mapping." in output
    assert "openmates_grafana_password in inventory/group_vars/all.yml:2 must be text" in output
    assert "canary" not in output
    operator.write(
        "group_vars/all.yml", "openmates_vault_seeds: {a: {b: canary}}\nopenmates_grafana_password: canary\n"
    )
    done = operator.run("-vvvv")
    assert "SHOWN" in done.stdout, done.stdout + done.stderr
    assert "canary" not in done.stdout + done.stderr


def test_secrets_in_plaintext_are_refused_with_the_command_that_encrypts_them(operator: Operator) -> None:
    file, encrypt = "group_vars/prod/secrets.yml", Path(sys.executable).parent / "ansible-vault"
    value = {
        "openmates_grafana_password": "kD8sQ2wE5rT7yU9i",
        "openmates_vault_seeds": {"providers/x": {"api_key": "Zk2xY7Qw"}},
    }
    operator.write(file, value)
    operator.write("group_vars/prod/main.yml", {"openmates_cache_password": "Zk2xY7Qw5tRb9Lm4"})
    output = operator.refused(playbook="judge")
    for words in (
        f"openmates_grafana_password, openmates_vault_seeds in inventory/{file}: in plaintext, for every reader",
        f"Run `ansible-vault encrypt inventory/{file}`",
        "openmates_cache_password in inventory/group_vars/prod/main.yml: in plaintext",
        f"Move it: `ansible-vault edit inventory/{file}`",
    ):
        assert words in output
    assert "kD8sQ2" not in output and "Zk2xY7" not in output
    assert "plaintext" not in operator.refused("-e", "openmates_plaintext_secrets=true", playbook="judge")

    operator.command(encrypt, "encrypt", f"inventory/{file}")
    done = operator.command(encrypt, "encrypt_string", "Zk2xY7Qw5tRb9Lm4", "--name", "openmates_cache_password")
    operator.write("group_vars/prod/main.yml", done.stdout)
    operator.write(
        "host_vars/server/one.yml", {"openmates_database_password": "{{ lookup('ansible.builtin.env', 'NO_SUCH') }}"}
    )
    operator.write(
        "host_vars/server/two.yml", {"openmates_vault_seeds": {"providers/y": {"url": "https://y.example.test"}}}
    )
    assert "plaintext" not in operator.refused("-e", "openmates_admin_password=Zk2xY7Qw5tRb9Lm4", playbook="judge")


def test_preflight_judges_the_converted_values_and_names_what_is_missing(operator: Operator) -> None:
    operator.write("group_vars/prod.yml", {"openmates_backend_environment": {"A": "{{ my_missing_name }}"}})
    operator.write("host_vars/server.yml", "\nopenmates_services: {loki: {image: grafana/loki}, api: {memory: 9Q}}\n")
    arguments = ["-e", "openmates_domain=localhost", "-e", "openmates_directus_login_attempts=-1"]
    output = operator.refused(*arguments, playbook="judge")
    for words in (
        "openmates_admin_email in inventory/group_vars/prod/main.yml: it is not set",
        "openmates_domain in the command line (-e): 'localhost' is not a domain name",
        "openmates_directus_login_attempts in the command line (-e): -1 is not a number of logins",
        "openmates_services.loki.image in inventory/host_vars/server.yml:2: grafana/loki is a tag that its publisher",
        "openmates_services.api.memory in inventory/host_vars/server.yml:2: '9Q' is not a memory limit",
        "openmates_backend_environment in inventory/group_vars/prod.yml:1: it cannot be evaluated: "
        "'my_missing_name' is undefined",
        f"`ansible-playbook {ROOT}/playbooks/secrets.yml -i inventory` makes it",
    ):
        assert words in output
    assert "openmates_acme_email" not in output, "its default refers to a setting that is named already"


def test_one_wrong_server_does_not_stop_the_others(operator: Operator) -> None:
    hosts = {"server": {}, "wrong": {"openmates_log_level": "loud"}}
    operator.write("hosts.yml", {"prod": {"hosts": hosts}})
    done = operator.run()
    assert "SHOWN server" in done.stdout
    assert re.search(
        r"openmates_log_level in inventory/hosts.yml:\d+ must be one of debug, info", done.stdout + done.stderr
    )
    assert done.returncode != 0


@pytest.mark.parametrize(
    ("hosts", "arguments", "inventory", "words"),
    [
        ("", [], "localhost,", "The inventory localhost, has no server"),
        ({"prod": {"hosts": {}}, "dev": None}, [], "inventory", "groups prod and dev are missing or empty"),
        ({"other": {"hosts": {"bastion": None}}}, [], "inventory", "groups prod and dev are missing or empty"),
        ("", [], "", "Name an inventory with -i"),
        (
            {**HOSTS, "other": {"hosts": {"bastion": None}}},
            ["--limit", "bastion"],
            "inventory",
            "bastion selects no server",
        ),
        (HOSTS, ["--limit", "servre"], "inventory", "no hosts to target"),
    ],
    ids=["localhost", "empty groups", "other hosts only", "no inventory", "limit to another host", "limit to nothing"],
)
def test_a_run_without_a_server_is_an_error(
    operator: Operator, hosts: object, arguments: list[str], inventory: str, words: str
) -> None:
    operator.write("hosts.yml", hosts)
    assert words in operator.refused(*arguments, inventory=inventory)


FILES = ("known_hosts_file", "vault_keys_file", "vault_snapshots", "directus_schema")


@pytest.mark.parametrize(
    ("arguments", "project"),
    [
        (["inventory"], "."),
        (["inventory/"], "."),
        (["inventory/hosts.yml"], "."),
        (["link"], "."),
        (["inventory", "more.yml"], "."),
        (["more.yml", "inventory"], "."),
        (["elsewhere/hosts.yml"], "elsewhere"),
    ],
    ids=str,
)
def test_the_files_of_an_inventory_are_in_its_project(operator: Operator, arguments: list[str], project: str) -> None:
    """However the inventory is named. In the last case it has no directory of its own in its project."""
    (operator.folder / "more.yml").write_text(yaml.safe_dump({"other": {"hosts": {"bastion": None}}}))
    (operator.folder / "link").symlink_to("inventory")
    operator.write("../elsewhere/hosts.yml", HOSTS)
    operator.write("../elsewhere/ansible.cfg", "")
    named = [part for source in arguments[1:] for part in ("-i", source)]
    done = operator.run(*named, inventory=arguments[0])
    assert done.returncode == 0, done.stdout + done.stderr
    [(_, text)] = re.findall(r"SHOWN\s+(\S+)\s+(\S+)", done.stdout)
    settings = json.loads(base64.b64decode(text))["settings"]
    name = "prod" if project == "elsewhere" else "link" if arguments == ["link"] else "inventory"
    found = [str(Path(settings[file]).relative_to((operator.folder / project).resolve())) for file in FILES]
    assert found == ["known_hosts", f"vault-keys/{name}/server.yml", f"vault-snapshots/{name}", f"directus/{name}.json"]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        (".", ". is no inventory, but the root of a project"),
        (
            "several",
            "is in several/prod, whose group_vars Ansible does not read with -i several. Name that inventory",
        ),
    ],
)
def test_a_directory_that_is_no_inventory_is_refused(operator: Operator, named: str, words: str) -> None:
    operator.write("../several/prod/hosts.yml", HOSTS)
    operator.write("../ansible.cfg", "")
    assert words in operator.refused(inventory=named)


def test_a_command_that_does_not_read_the_settings_can_connect_all_the_same(operator: Operator) -> None:
    message = "msg={{ ansible_user }}:{{ ansible_port }}"
    command = [Path(sys.executable).parent / "ansible", "server", "-i", "inventory", "--playbook-dir", "playbooks"]
    done = operator.command(*command, "-m", "ansible.builtin.debug", "-a", message)
    defaults = yaml.safe_load((ROOT / "roles/settings/defaults/main/main.yml").read_text())
    login = f"{defaults['openmates_ssh_user']}:{defaults['openmates_ssh_port']}"
    assert login in done.stdout, done.stdout + done.stderr


def test_the_project_names_no_default_inventory_and_lets_servers_fail_one_by_one() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "ansible.cfg")
    assert not {"inventory", "any_errors_fatal"} & set(config["defaults"])


def test_an_ansible_cfg_that_ansible_ignores_is_named(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    (operator.folder / "ansible.cfg").write_text((ROOT / "ansible.cfg").read_text())
    operator.folder.chmod(0o777)
    assert operator.run().returncode == 0, "ANSIBLE_CONFIG names one"
    command = [Path(sys.executable).parent / "ansible-playbook", "playbooks/probe.yml", "-i", "inventory"]
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(ROOT / "collections"))
    for mode in (0o777, 0o755):
        operator.folder.chmod(mode)
        done = operator.command("env", "-u", "ANSIBLE_CONFIG", *command)
        output = re.sub(r"\s+", " ", done.stdout + done.stderr)
        found = f"Ansible ignores {operator.folder}/ansible.cfg, because any user may write to that directory" in output
        assert found == (mode == 0o777), output


def test_hosts_that_are_no_servers_are_left_alone(operator: Operator) -> None:
    operator.write(
        "hosts.yml",
        {**HOSTS, "dev": {"hosts": {"trial": None}}, "other": {"hosts": {"bastion": None, "localhost": None}}},
    )
    assert set(operator.shown()) == {"server", "trial"}


@pytest.mark.parametrize(
    "name", ["ansible_port", "ansible_ssh_port", "ansible_ssh_extra_args", "ansible_scp_extra_args"]
)
@pytest.mark.parametrize("place", ["hosts.yml", "group_vars/all.yml", "-e"])
def test_a_connection_that_the_settings_do_not_know_is_refused(operator: Operator, place: str, name: str) -> None:
    value = "2202" if "port" in name else "-v"
    if place == "hosts.yml":
        operator.write(place, {"prod": {"hosts": {"server": {"ansible_host": "192.0.2.7", name: value}}}})
    elif place != "-e":
        operator.write(place, {name: value})
    instead = "openmates_ssh_port" if "port" in name else "ansible_ssh_common_args"
    output = operator.refused(*(["-e", f"{name}={value}"] if place == "-e" else []))
    assert re.search(rf"{name} in \S.*?: the playbooks set it. Set {instead} instead", output)


@pytest.mark.parametrize("name", ["b c", "a,b", "all&prod", "we*", "../x", "-l", "!a"])
def test_a_server_whose_name_ansible_takes_for_a_pattern_is_refused(operator: Operator, name: str) -> None:
    operator.write("hosts.yml", {"prod": {"hosts": {name: {"ansible_host": "192.0.2.7"}}}})
    assert "has a server named" in operator.refused()


@pytest.mark.parametrize("name", ["server", "openmates-prod.example.org", "192.0.2.7", "2001:db8::7", "Web_1"])
def test_names_of_hosts_are_names_of_servers(name: str) -> None:
    assert servers._is_host_name(name)


def test_a_secret_that_is_no_template_is_not_quoted(operator: Operator) -> None:
    for value in ("Xy{% hunter2", "Xy{{ hunter2 | nope }}", "{# hunter2"):
        operator.write("group_vars/prod.yml", {"openmates_grafana_password": value})
        output = operator.refused()
        assert "hunter2" not in output and "put !unsafe before a text with {{, {% or {#" in output


def test_a_secret_with_the_marks_of_a_template_is_refused_without_a_character_of_it(operator: Operator) -> None:
    """Ansible's own messages quote what it takes for a variable; a comment it would drop silently."""
    operator.write(
        "group_vars/prod.yml",
        {
            "openmates_grafana_password": "Xy{{hunter1}}ab-9",
            "openmates_database_password": "Xy{#hunter2#}ab-9",
            "openmates_cache_password": "Xy{{2345678}}ab-9",
            "openmates_vault_seeds": {"providers/x": {"enforce": {"k": "Xy{#hunter3#}"}}},
        },
    )
    output = operator.refused()
    assert not re.search(r"hunter|2345678", output)
    for name in ("database_password", "cache_password", "vault_seeds"):
        assert re.search(
            rf"openmates_{name} in \S+ would lose a part of its value: put !unsafe before a text", output
        ), name
    operator.write("group_vars/prod.yml", {"openmates_grafana_password": "Xy{{hunter1}}ab-9"})
    output = operator.refused(playbook="judge")
    assert "hunter" not in output
    assert re.search(r"openmates_grafana_password in \S+: it contains {{, {% or {#.*?Put !unsafe before", output)


def test_a_secret_may_refer_to_another_variable(operator: Operator) -> None:
    operator.write(
        "group_vars/prod.yml",
        {"mine": "f8Wq0ZkX2bRtLm{#x", "openmates_grafana_password": "{{ 'a' ~ inventory_hostname }}"},
    )
    assert operator.shown()["server"]["settings"]["grafana_password"] == "aserver"


def test_a_bastion_that_cannot_be_reached_is_named_with_its_setting(operator: Operator) -> None:
    """With genuine ssh, which keeps what the bastion's ssh says to itself as long as it shares connections."""
    operator.write("group_vars/prod.yml", {"openmates_ssh_bastion": "me@127.0.0.1:1"})
    program = Path(sys.executable).parent / "ansible-playbook"
    done = operator.command(program, ROOT / "playbooks/verify.yml", "-i", "inventory")
    output = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert "because its bastion me@127.0.0.1:1 has no SSH server on that port" in output, output
    assert "(openmates_ssh_bastion)" in output


#: Records how it is called. The connection to the server goes on with the genuine ssh, which calls this one again, from
#: a shell, for the way through the bastion.
SSH = """#!{python}
import json, os, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
if "-W" not in sys.argv:
    os.execv({genuine!r}, sys.argv)
sys.exit(255)
"""
ODD = 'my projects, 100%h o\'clock "x" \\'


@pytest.mark.parametrize("inventory", ["an operator's", "the lab's"])
def test_a_project_can_be_in_a_directory_with_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inventory: str
) -> None:
    """ssh reads the names of its files, and so does the ssh that a shell starts for the bastion."""
    folder = tmp_path / ODD
    folder.mkdir()
    operator = Operator(folder)
    log, fake = tmp_path / "calls", tmp_path / "bin/ssh"
    fake.parent.mkdir()
    fake.write_text(SSH.format(python=sys.executable, log=str(log), genuine=shutil.which("ssh")))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    if inventory == "the lab's":
        (folder / ".lab").mkdir()
        operator.write("hosts.yml", (ROOT / "inventories/lab/hosts.yml").read_text().replace("/../../.lab", "/../.lab"))
        server, known, key = "prod1", folder / ".lab/known_hosts", folder / ".lab/id_ed25519"
    else:
        operator.write("hosts.yml", {"prod": {"hosts": {"server": {"ansible_host": "127.0.0.1"}}}})
        server, known, key = "server", folder / "known_hosts", None
        known.touch()
    command = [Path(sys.executable).parent / "ansible", server, "-i", "inventory", "--playbook-dir", "playbooks"]
    given = ["-e", "ansible_host=127.0.0.1", "-e", "openmates_ssh_bastion=me@127.0.0.1:1"]
    done = operator.command(*command, "-m", "ansible.builtin.raw", "-a", "true", *given)
    assert log.exists(), done.stdout + done.stderr
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert [("-W" in call) for call in calls[:2]] == [False, True], done.stdout + done.stderr
    assert calls[1][:2] == ["-W", "[127.0.0.1]:22"], "what ssh itself replaces"
    monkeypatch.undo()
    for call in calls[:2]:
        options = subprocess.run(["ssh", "-G", *call], capture_output=True, text=True, check=True).stdout
        assert f"userknownhostsfile {known}" in options
        # ssh replaces %% later in this one.
        assert not key or f"identityfile {str(key).replace('%', '%%')}\n" in options


#: Those for servers: new creates an inventory and has none, and scan does without.
VERBS = sorted(path for path in (ROOT / "playbooks").glob("*.yml") if path.name not in ("new.yml", "scan.yml"))
#: Tasks that judge the arguments and make settings of them.
ON_CONTROLLER = {"ansible.builtin.set_fact", "ansible.builtin.assert"}


@pytest.mark.parametrize("verb", VERBS, ids=lambda path: path.name)
def test_a_verb_is_for_the_servers_and_reads_the_settings_first(verb: Path) -> None:
    plays = [play for play in yaml.safe_load(verb.read_text()) if "ansible.builtin.import_playbook" not in play]
    assert plays and {play["hosts"] for play in plays} == {"{{ query('openmates.server.servers') }}"}
    for play in plays[:1]:  # a later one goes on, after a playbook that is imported
        arguments, settings, *others = [task for task in play["tasks"] if not ON_CONTROLLER & task.keys()]
        assert settings["ansible.builtin.import_role"] == {
            "name": "settings",
            "public": True,
            "rolespec_validate": False,
        }
        if any("tags" in task for task in others):
            assert arguments["tags"] == settings["tags"] == "always"


@pytest.mark.parametrize("verb", VERBS, ids=lambda path: path.name)
def test_a_verb_finds_the_login_user_before_it_connects(verb: Path) -> None:
    """Which also says why a server lets no one in. Ansible's own message is `UNREACHABLE`, with ssh's last words."""
    for play in yaml.safe_load(verb.read_text())[:1]:
        if not play.get("become"):
            continue
        assert play["gather_facts"] is False
        tasks = [task for task in play["tasks"] if not ON_CONTROLLER & task.keys()]
        roles = [task.get("ansible.builtin.import_role", {"name": ""})["name"] for task in tasks]
        # Ahead of login, tasks are on the controller only.
        assert set(roles[1 : roles.index("login")]) <= {"settings", "preflight", "bootstrap", "remove"}


@pytest.mark.parametrize("verb", ["unseal", "vault_snapshot", "vault_root", "rotate", "directus_schema"])
def test_a_verb_names_the_cause_of_a_failed_login(operator: Operator, verb: str) -> None:
    operator.write("group_vars/prod.yml", {"openmates_ssh_port": 1})
    operator.write("hosts.yml", {"prod": {"hosts": {"server": {"ansible_host": "127.0.0.1"}}}})
    arguments = ["-e", "vault_rotate_path=providers/x"] if verb == "rotate" else []
    program = Path(sys.executable).parent / "ansible-playbook"
    done = operator.command(program, ROOT / f"playbooks/{verb}.yml", "-i", "inventory", *arguments)
    output = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert "server (127.0.0.1, port 1) has no SSH server on that port" in output and "UNREACHABLE" not in output

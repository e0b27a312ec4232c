"""Renders the Compose files by Ansible's templar with the project's group_vars, and reads them like Compose."""

from __future__ import annotations

import re
import secrets
import sys
from pathlib import Path

import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible.vars.manager import VariableManager
from ansible_collections.openmates.server.plugins.action.host_files import ActionModule
from ansible_collections.openmates.server.plugins.module_utils import keyed_digest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from contract.render import with_settings  # noqa: E402

SECRET_NAMES = (
    *("openmates_admin_password", "openmates_database_password", "openmates_cache_password"),
    *("openmates_directus_secret", "openmates_internal_api_token", "openmates_grafana_password"),
    "openmates_first_invite_code",
)
SECRETS = {name: secrets.token_urlsafe(30) for name in SECRET_NAMES}
HOST_KEY = secrets.token_bytes(keyed_digest.KEY_BYTES)


class Unsafe(str):
    """A text of the inventory that is not a template, whatever it holds: `!unsafe`."""


class InventoryDumper(yaml.SafeDumper):
    """Writes values as an inventory holds them."""


def _unsafe(dumper: yaml.SafeDumper, text: Unsafe) -> yaml.ScalarNode:
    """Only where it is needed: Ansible takes digits behind !unsafe for a number, even in quotation marks."""
    tag = "!unsafe" if any(mark in text for mark in ("{{", "{%", "{#")) else "tag:yaml.org,2002:str"
    return dumper.represent_scalar(tag, str(text), style='"')


InventoryDumper.add_representer(Unsafe, _unsafe)


def templar(environment: str, tmp_path: Path, root: Path = ROOT, **settings: object) -> Templar:
    """Ansible's templar with the variables of a host of that environment. ``root``: the project, or a copy of it."""
    variables = {
        **SECRETS,
        "openmates_admin_email": "operator@openmates.org",
        "openmates_domain": "api.example.test",
        "openmates_frontend_urls": ["https://web.example.test", "https://www.example.test"],
        **settings,
    }
    loader, found = variables_of(environment, tmp_path, root, variables)
    return Templar(loader, with_settings(root, loader, found))


def variables_of(
    environment: str, tmp_path: Path, root: Path, variables: dict[str, object]
) -> tuple[DataLoader, dict[str, object]]:
    """The variables of a host in an inventory that sets these; the settings are not read yet."""
    hosts = {"server": {"ansible_host": variables.get("ansible_host", "198.51.100.99")}}
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({environment: {"hosts": hosts}}))
    group_vars = tmp_path / "group_vars" / environment
    group_vars.mkdir(parents=True, exist_ok=True)
    (group_vars / "main.yml").write_text(yaml.dump(variables, Dumper=InventoryDumper))
    loader = DataLoader()
    loader.set_basedir(str(root / "playbooks"))
    manager = InventoryManager(loader, sources=[str(tmp_path)])
    variable_manager = VariableManager(loader=loader, inventory=manager)
    return loader, variable_manager.get_vars(host=manager.get_host("server"))


def render(
    environment: str, tmp_path: Path, key: bytes = HOST_KEY, root: Path = ROOT, **settings: object
) -> dict[str, str]:
    """Every file of files/compose for a host of that environment, by path below the stack's directory."""
    host = templar(environment, tmp_path, root, **settings)
    secret_files = host.template(trust_as_template("{{ stack_secret_files }}"))
    contents = {file["path"]: file["content"] for file in secret_files}
    host.available_variables["secret_digests"] = keyed_digest.by_directory(contents, key)
    action = ActionModule(None, None, None, host._loader, host, None)
    exclude = ["docker-compose.override.yml"] if environment == "prod" else []
    files = action._render(root / "files/compose", exclude, host.available_variables)
    return {file["path"]: file["content"] for file in files}


def merged(files: dict[str, str]) -> dict:
    """The services as Compose sees them: .env filled in, the override's ports added."""
    environment = dict(line.split("=", 1) for line in files[".env"].splitlines() if "=" in line and line[0] != "#")

    def load(name: str) -> dict:
        filled = re.sub(r"\$\{(\w+)(:-\w+)?\}", lambda match: environment[match[1]], files.get(name, "services: {}"))
        return yaml.safe_load(filled)["services"]

    services = load("docker-compose.yml")
    for name, override in load("docker-compose.override.yml").items():
        if "ports" in override:
            services[name]["ports"] = override["ports"]
    return services

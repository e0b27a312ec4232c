"""Render a checkout of this project as a server of each kind gets it, and print that as JSON.

Run as a program of its own, because Ansible takes the collection, filters included, from one checkout per process:
`python render.py PROJECT`, with ANSIBLE_CONFIG naming that checkout's ansible.cfg.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.vars.manager import VariableManager

# A server as an operator would declare it, with more than one frontend. Nothing here is resolved or contacted.
FRONTENDS = ["https://chat.example.org", "https://www.example.org"]
SERVER = {
    "openmates_admin_email": "operator@example.org",
    "openmates_domain": "api.example.org",
    "openmates_frontend_urls": FRONTENDS,
}
OPENMATES_CMS_SETUP = "ghcr.io/glowingkitty/openmates-cms-setup:v0.0.0"
KINDS = {
    "prod": ("prod", {}),
    "dev": ("dev", {}),
    # Another image must not be judged by the default: what a server with OpenMates' own one-shot gets.
    "prod with OpenMates' cms-setup": ("prod", {"openmates_cms_setup_image": OPENMATES_CMS_SETUP}),
}


def main(project: Path) -> None:
    init_plugin_loader([str(project / "collections")])
    sys.stdout.write(json.dumps({kind: render(project, *declared) for kind, declared in KINDS.items()}))


def render(project: Path, environment: str, settings: dict) -> dict:
    """Files of the stack by path, the Caddyfile, and the variables that the comparison reads."""
    from ansible_collections.openmates.server.plugins.action.host_files import ActionModule

    with tempfile.TemporaryDirectory() as folder:
        inventory = Path(folder)
        hosts = {environment: {"hosts": {"server": {"ansible_host": "198.51.100.99"}}}}
        (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
        group = inventory / "group_vars" / environment
        group.mkdir(parents=True)
        (group / "main.yml").write_text(yaml.safe_dump({**_secrets(project), **SERVER, **settings}))
        loader = DataLoader()
        loader.set_basedir(str(project / "playbooks"))
        manager = InventoryManager(loader, sources=[str(inventory)])
        variables = VariableManager(loader=loader, inventory=manager).get_vars(host=manager.get_host("server"))
        variables = {**_role_defaults(project, loader), **with_settings(project, loader, variables)}
        evaluate = Templar(loader, variables).template
        services = variables["settings"]["services"].items()
        secrets = {name: service["secrets"] for name, service in services if service["secrets"]}
        variables["secret_digests"] = dict.fromkeys(secrets, "made on the server")
        files = ActionModule(None, None, None, loader, Templar(loader, variables), None)._render(
            project / "files/compose", ["docker-compose.override.yml"] if environment == "prod" else [], variables
        )
        caddy = {name: evaluate(value) for name, value in variables.items() if name.startswith("caddy_")}
        caddy = {**yaml.safe_load((project / "roles/caddy/defaults/main.yml").read_text()), **caddy}
        template = trust_as_template((project / "roles/caddy/templates/Caddyfile.j2").read_text())
        return {
            "files": {file["path"]: file["content"] for file in files},
            "secrets": {service: sorted(names) for service, names in secrets.items()},
            "caddyfile": Templar(loader, {**variables, **caddy}).template(template),
        }


def with_settings(project: Path, loader: DataLoader, variables: dict) -> dict:
    """The variables with those of the role settings, as a play has them."""
    from ansible_collections.openmates.server.plugins.plugin_utils.settings import reading

    defaults = reading.defaults(project, loader)
    given, services = variables.keys(), defaults["openmates_services"]
    overrides = [variables["openmates_services"]] if "openmates_services" in variables else []
    variables = {**defaults, **variables}
    specifications = reading.specifications(project)
    settings = reading.read(specifications, variables, given, Templar(loader, variables), services, overrides)
    if settings.wrong:
        raise ValueError(f"settings: {settings.wrong}")
    return {**variables, "settings": settings.short}


def _role_defaults(project: Path, loader: DataLoader) -> dict:
    """The defaults of the other roles, which site.yml imports, so that each is visible in all of the play."""
    paths = [path for path in sorted(project.glob("roles/*/defaults/main.yml")) if path.parts[-3] != "settings"]
    loaded = [loader.load_from_file(str(path), trusted_as_template=True) for path in paths]
    return {name: value for defaults in loaded for name, value in defaults.items()}


def _secrets(project: Path) -> dict[str, str]:
    """A value for every setting that has no default: those are the secrets that an inventory holds."""
    from ansible_collections.openmates.server.plugins.plugin_utils.settings import reading

    defaults = reading.defaults(project, DataLoader())
    return {name: "not-a-secret" for name in reading.specifications(project) if name not in defaults}


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

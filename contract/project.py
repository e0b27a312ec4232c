"""Our side: what a server gets, rendered from the templates and variables of a checkout of this project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cached_property
from pathlib import Path

import yaml

from contract import compose
from contract.findings import ContractError

COMPOSE = "files/compose/docker-compose.yml.j2"
POLICIES = "roles/vault/files/policies"


class Project:
    def __init__(self, root: Path, kinds: dict[str, dict]) -> None:
        self.root, self._kinds = root, kinds
        self._services: dict[str, dict[str, compose.Service]] = {}

    @classmethod
    def of(cls, root: Path) -> Project:
        if not (root / COMPOSE).is_file():
            raise ContractError(f"--project {root} has no {COMPOSE}: it is not a checkout of this project.")
        return cls(root, _rendered(root.resolve()))

    def services(self, kind: str = "prod") -> dict[str, compose.Service]:
        """Services by name; variables that .env fills in are filled in."""
        if kind in self._services:
            return self._services[kind]
        files = self._kinds[kind]["files"]
        values = dict(line.split("=", 1) for line in files.get(".env", "").splitlines() if re.match(r"\w+=", line))
        text = re.sub(
            r"\$\{(\w+)(:-[^}]*)?\}", lambda found: values.get(found[1], found[0]), files["docker-compose.yml"]
        )
        return self._services.setdefault(kind, compose.services(text, COMPOSE))

    @cached_property
    def known_services(self) -> dict[str, compose.Service]:
        return self.services()

    def environment(self, service: str, kind: str = "prod") -> dict[str, str]:
        """Variables of a service as its program sees them: set, or exported from a secret's file."""
        found = self.services(kind).get(service)
        values = dict(found.environment) if found else {}
        for name in [name for name in values if name.endswith("_FILE")]:
            values.setdefault(name.removesuffix("_FILE"), "(secret)")
        return values | {name: "(secret)" for name in self._kinds[kind]["secrets"].get(service, [])}

    def file(self, path: str, kind: str = "prod") -> str:
        return self._kinds[kind]["files"].get(path, "")

    @cached_property
    def programs(self) -> str:
        """The text of our own programs that run in OpenMates' containers."""
        files = self._kinds["prod"]["files"]
        return "\n".join(text for path, text in files.items() if path.startswith("config/bin/"))

    @cached_property
    def cms_setup_kind(self) -> str:
        """The kind of server whose cms-setup is OpenMates' own."""
        service = self.services("prod").get("cms-setup")
        own = service is not None and compose.repository(service.image) == "openmates-cms-setup"
        return "prod" if own else "prod with OpenMates' cms-setup"

    @property
    def caddyfile(self) -> str:
        return self._kinds["prod"]["caddyfile"]

    @cached_property
    def policies(self) -> dict[str, str]:
        """HCL by file, of the policies that the api's token has."""
        defaults = yaml.safe_load((self.root / "roles/vault/defaults/main.yml").read_text())
        names = defaults.get("vault_token_policies") or []
        return {f"{POLICIES}/{name}.hcl": (self.root / POLICIES / f"{name}.hcl").read_text() for name in names}


def _rendered(root: Path) -> dict[str, dict]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
        "ANSIBLE_VAULT_PASSWORD_FILE": os.devnull,  # nothing encrypted is read
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("render.py")), str(root)],
        cwd=root, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode:
        raise ContractError(f"{root} cannot be rendered: {result.stderr.strip()[-2000:]}")
    return json.loads(result.stdout)

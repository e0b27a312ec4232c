"""OpenMates' side: its Compose services, its code by the image it runs in, its Dockerfiles and its .env.example."""

from __future__ import annotations

import re
from functools import cache, cached_property

from contract import compose
from contract.python_code import Module
from contract.source import Tree

COMPOSE_FILES = ("backend/core/docker-compose.selfhost.yml", "backend/core/docker-compose.yml")
# The code that runs in a service, and the Dockerfile of the image that OpenMates publishes for it.
BACKEND = ("api", "task-worker", "task-scheduler")
CODE = {
    "api": ("backend/core/api/", "backend/shared/", "backend/apps/"),
    "cms-setup": ("backend/core/directus/setup/",),
}
DOCKERFILES = {
    "openmates-api": "backend/core/api/Dockerfile.selfhost",
    "openmates-cms-setup": "backend/core/directus/Dockerfile.setup.selfhost",
    "openmates-directus": "backend/core/directus/Dockerfile",
    "openmates-vault-setup": "backend/core/vault/setup/Dockerfile",
}
_NOT_THE_PRODUCT = re.compile(r"/(tests?|testing|scripts|migrations_archive)/|/(test_[^/]*|[^/]*_test|conftest)\.py$")


@cache
def _module(path: str, text: str) -> Module:
    """Two versions have most of their files in common."""
    return Module(path, text)


class Upstream:
    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._code: dict[str, list[Module]] = {}

    @cached_property
    def services(self) -> dict[str, compose.Service]:
        """By name. The file for published images counts; the one for a checkout adds services and variables."""
        found: dict[str, compose.Service] = {}
        for path in COMPOSE_FILES:
            if path in self.tree:
                for name, service in compose.services(self.tree.load(path), path).items():
                    known = found.setdefault(name, service)
                    known.environment = {**service.environment, **known.environment}
                    known.env_file = known.env_file or service.env_file
        return found

    @cached_property
    def example(self) -> dict[str, bool]:
        """Names in .env.example: True where the line counts, False where it is commented out."""
        if ".env.example" not in self.tree:
            return {}
        lines = re.findall(r"^(#?) ?([A-Z][A-Z0-9_]+)=", self.tree.load(".env.example"), re.MULTILINE)
        return {name: not comment for comment, name in sorted(lines, reverse=True)}

    def code(self, part: str) -> list[Module]:
        if part not in self._code:
            paths = self.tree.under(*CODE[part], suffix=".py")
            self._code[part] = [
                _module(path, self.tree.load(path)) for path in paths if not _NOT_THE_PRODUCT.search(f"/{path}")
            ]
        return self._code[part]

    def dockerfile(self, image: str) -> str:
        path = DOCKERFILES.get(compose.repository(image), "")
        return self.tree.load(path) if path in self.tree else ""

    def image_environment(self, image: str) -> dict[str, str]:
        """ENV of the image that a service has here."""
        lines = re.findall(r"^ENV\s+(\w+)[= ]\s*(.*)$", self.dockerfile(image), re.MULTILINE)
        return {name: value.strip().strip('"') for name, value in lines}

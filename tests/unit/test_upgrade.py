"""The Compose project of a server from before openmates_services is the same, so no container is recreated.

But for Directus's, whose environment marks since then what is text, whatever it looks like.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.openmates.server.plugins.action.host_files import config_digests
from rendering import SECRET_NAMES, merged, render

BEFORE = Path(__file__).parent / "before/catalogue.json"
KEY = b"no key of a host, just a fixture"
APPS = [
    {"name": "app-one", "image": "ghcr.io/x/one:1.0.0"},
    {"name": "app-pdf-worker", "kind": "worker", "queues": ["app_pdf"], "memory": "1536M"},
]
SERVERS = {
    "prod": ("prod", {"openmates_apps": APPS}),
    "dev": ("dev", {"openmates_apps": APPS, "openmates_source_directory": "/srv/OpenMates"}),
    "prod with a mirror, OpenBao and another user": (
        "prod",
        {
            "openmates_registry": "mirror.example.test",
            "openmates_vault_engine": "openbao",
            "openmates_backend_uid": 1234,
        },
    ),
    "dev with its own collections": (
        "dev",
        {
            "openmates_cms_setup_image": "",
            "openmates_directus_schema": "/nowhere/dev.json",
            "openmates_directus_domain": "cms.example.test",
            "openmates_directus_mail": {"host": "smtp.example.test"},
            "openmates_directus_mail_password": "fixture",
            "openmates_directus_secrets": {"LICENSE_KEY": "fixture"},
        },
    ),
}


def state(name: str, folder: Path) -> dict:
    """What Docker and Compose compare of a server's project, and the digest of each directory of configuration."""
    environment, settings = SERVERS[name]
    secrets = {secret: f"fixture of {secret}" for secret in SECRET_NAMES}
    files = render(environment, folder, key=KEY, **secrets, **settings)
    project = yaml.safe_load(files["docker-compose.yml"])
    override = yaml.safe_load(files.get("docker-compose.override.yml", "services: {}"))
    return {
        **{f"service {service}": definition for service, definition in merged(files).items()},
        **{f"override of {service}": definition for service, definition in override["services"].items()},
        **{f"volume {volume}": definition for volume, definition in project["volumes"].items()},
        **{f"network {network}": definition for network, definition in project["networks"].items()},
        **{f"config {directory}": digest for directory, digest in config_digests(files).items()},
    }


# What has changed since then: the backend logs in to Directus with an account of its own, Directus survives a fault of
# its client of the cache, and each line of a log names its service.
ACCOUNT = "operator+openmates@openmates.org"
SETUP = {"CMS_SETUP_ACCOUNT": ACCOUNT, "CMS_SETUP_ACCOUNT_SECRET": "/run/secrets/ACCOUNT_PASSWORD"}


def logs_in(part: dict) -> bool:
    """Whether a service has the account's password, or creates the account."""
    return bool({"DATABASE_ADMIN_EMAIL", "ADMIN_EMAIL"} & set(part.get("environment", {})))


def with_what_is_new(before: dict) -> dict:
    """The definitions of before, with the account, the service in log lines, and what made room for Alertmanager.

    Alertmanager itself is in no definition of before: see ``without_alertmanager``.
    """
    parts = json.loads(json.dumps(before))
    for name, limit, of_go in (("cadvisor", "96M", "74MiB"), ("grafana", "480M", "374MiB")):
        parts[f"service {name}"]["mem_limit"] = limit
        parts[f"service {name}"]["environment"]["GOMEMLIMIT"] = of_go
    for environment in (
        part["environment"] for name, part in parts.items() if name[:8] == "service " and logs_in(part)
    ):
        environment |= SETUP if "ADMIN_EMAIL" in environment else {"DATABASE_ADMIN_EMAIL": ACCOUNT}
    for part in (part for name, part in parts.items() if name[:8] == "service "):
        part["logging"]["options"]["labels"] = "com.docker.compose.service"
        if "DB_CLIENT" in part.get("environment", {}):  # Directus
            part["environment"]["LOG_HTTP_IGNORE_PATHS"] = "/server/ping"
    command = parts["service cms"].get("command", [])
    command[:] = [word.replace("node cli.js", "node --import /openmates/subscriber.mjs cli.js") for word in command]
    return parts


def without_alertmanager(parts: dict) -> dict:
    return {name: part for name, part in parts.items() if "alertmanager" not in name}


def without_labels(parts: dict) -> dict:
    return {
        name: {key: value for key, value in part.items() if key != "labels"} if name.startswith("service ") else part
        for name, part in parts.items()
        if not name.startswith("config ")
    }


def with_text_marked(parts: dict) -> dict:
    """The definitions with `string:` before each text that Directus would otherwise guess the type of."""
    marked = json.loads(json.dumps(parts))
    for part in marked.values():
        environment = part.get("environment", {}) if isinstance(part, dict) else {}
        if "DB_CLIENT" in environment:  # Directus
            names = [key for key in environment if key.endswith("_FILE") or key in ("EMAIL_SMTP_USER", "EMAIL_FROM")]
            environment |= {key: f"string:{environment[key]}" for key in names}
    return marked


@pytest.mark.parametrize("name", SERVERS)
def test_the_definitions_are_those_of_before(name: str, tmp_path: Path) -> None:
    before, after = json.loads(BEFORE.read_text())[name], without_alertmanager(state(name, tmp_path))
    assert without_labels(after) == with_text_marked(without_labels(with_what_is_new(before)))


@pytest.mark.parametrize("name", SERVERS)
def test_a_label_changes_with_the_configuration_that_the_service_mounts_only(name: str, tmp_path: Path) -> None:
    """Secrets take part in a label by file name and content, so those are the same as well, but for the account's."""
    before, after = json.loads(BEFORE.read_text())[name], state(name, tmp_path)
    changed = {part.removeprefix("config ") for part in before if part[:7] == "config " and before[part] != after[part]}
    for part in (part for part in before if part.startswith("service ") and "labels" in before[part]):
        volumes = [volume for volume in before[part]["volumes"] if isinstance(volume, str)]
        mounted = {volume.split("/")[2].split(":")[0] for volume in volumes if volume.startswith("./config/")}
        expected = bool(mounted & changed) or logs_in(before[part])
        assert (after[part]["labels"] != before[part]["labels"]) is expected, part

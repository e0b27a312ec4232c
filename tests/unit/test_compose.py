"""The Compose files, rendered through Ansible's own templar with the project's group_vars and read as Compose would."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.manager import VariableManager
from ansible_collections.openmates.server.plugins.action.file_tree import ActionModule

ROOT = Path(__file__).parents[2]

# Typed in from the service tables of the architecture guidelines.
SERVICES = {
    *("api", "cms", "grafana", "cms-database", "cache", "vault", "task-worker", "task-scheduler"),
    *("prometheus", "loki", "promtail", "cadvisor", "vault-setup", "cms-setup"),
}
ONE_SHOTS = {"vault-setup", "cms-setup"}
PORTS = {
    "prod": {"api": ["127.0.0.1:8000-8001:8000"]},
    "dev": {"api": ["8000:8000"], "cms": ["8055:8055"], "grafana": ["3001:3000"]},
}

SECRET_NAMES = (
    *("openmates_admin_password", "openmates_database_password", "openmates_cache_password"),
    *("openmates_directus_secret", "openmates_internal_api_token", "openmates_grafana_password"),
)
SECRETS = {name: secrets.token_urlsafe(30) for name in SECRET_NAMES}


def render(environment: str, tmp_path: Path, **settings: object) -> dict[str, str]:
    """Every file of files/compose for a host of that environment, by path below the stack's directory."""
    variables = {
        **SECRETS,
        "openmates_admin_email": "operator@openmates.org",
        "openmates_domain": "api.openmates.test",
        "openmates_frontend_urls": ["https://app.openmates.test", "https://www.openmates.test"],
        **settings,
    }
    hosts = {"server": {"ansible_host": "198.51.100.99"}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({environment: {"hosts": hosts}}))
    group_vars = tmp_path / "group_vars" / environment
    group_vars.mkdir(parents=True, exist_ok=True)
    (group_vars / "main.yml").write_text(yaml.safe_dump(variables))
    loader = DataLoader()
    loader.set_basedir(str(ROOT / "playbooks"))
    manager = InventoryManager(loader, sources=[str(tmp_path)])
    variable_manager = VariableManager(loader=loader, inventory=manager)
    host_variables = variable_manager.get_vars(host=manager.get_host("server"))
    action = ActionModule(None, None, None, loader, Templar(loader, host_variables), None)
    exclude = ["docker-compose.override.yml"] if environment == "prod" else []
    files = action._render(ROOT / "files/compose", exclude, host_variables)
    return {file["path"]: file["content"] for file in files}


def merged(files: dict[str, str]) -> dict:
    """The services as Compose sees them: .env filled in, the override's ports added."""
    environment = dict(line.split("=", 1) for line in files[".env"].splitlines() if "=" in line and line[0] != "#")

    def load(name: str) -> dict:
        filled = re.sub(r"\$\{(\w+)(:-\w+)?\}", lambda match: environment[match[1]], files.get(name, "services: {}"))
        return yaml.safe_load(filled)["services"]

    services = load("docker-compose.yml")
    for name, override in load("docker-compose.override.yml").items():
        services[name]["ports"] = override["ports"]
    return services


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_all_services_and_only_the_declared_ports(environment: str, tmp_path: Path) -> None:
    services = merged(render(environment, tmp_path))
    assert set(services) == SERVICES
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == PORTS[environment]


def test_production_has_no_override_file(tmp_path: Path) -> None:
    assert "docker-compose.override.yml" not in render("prod", tmp_path)


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_every_service_is_well_behaved(environment: str, tmp_path: Path) -> None:
    for name, service in merged(render(environment, tmp_path)).items():
        assert "container_name" not in service, name
        assert service["networks"] == ["openmates"], name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert service["restart"] == ("no" if name in ONE_SHOTS else "unless-stopped"), name
        assert ("healthcheck" in service) is (name not in ONE_SHOTS), name
        assert not any("docker.sock" in volume for volume in service.get("volumes", [])), name


def test_memory_limits_leave_room_for_the_host(tmp_path: Path) -> None:
    limits = [int(service["mem_limit"].removesuffix("M")) for service in merged(render("prod", tmp_path)).values()]
    assert len(limits) == len(SERVICES)
    assert sum(limits) <= 6.5 * 1024


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_no_secret_is_in_any_file_but_those_of_secrets(environment: str, tmp_path: Path) -> None:
    everything = "\n".join(render(environment, tmp_path).values())
    assert [name for name, value in SECRETS.items() if value in everything] == []


def test_a_changed_secret_or_configuration_recreates_just_the_services_that_mount_it(tmp_path: Path) -> None:
    def labels(**settings: object) -> dict:
        services = merged(render("prod", tmp_path, **settings))
        return {name: service.get("labels") for name, service in services.items()}

    before, after = labels(), labels(openmates_grafana_password=secrets.token_urlsafe(30))
    assert [name for name in before if before[name] != after[name]] == ["grafana"]


def test_apps_are_internal_and_known_to_the_backend(tmp_path: Path) -> None:
    apps = [{"name": "app-one", "image": "ghcr.io/x/one:1"}, {"name": "app-two", "image": "ghcr.io/x/two:1"}]
    services = merged(render("prod", tmp_path, openmates_apps=apps))
    assert set(services) == SERVICES | {"app-one", "app-two"}
    assert "ports" not in services["app-one"]
    urls = yaml.safe_load(services["api"]["environment"]["APP_URLS"])
    assert urls == {"app-one": "http://app-one:8000", "app-two": "http://app-two:8000"}


def test_images_come_from_the_mirror_when_one_is_set(tmp_path: Path) -> None:
    services = merged(render("prod", tmp_path, openmates_registry="mirror.openmates.test"))
    assert services["cms-database"]["image"].startswith("mirror.openmates.test/library/postgres:")
    assert all(service["image"].startswith("mirror.openmates.test/") for service in services.values())


@pytest.mark.parametrize(
    ("environment", "urls", "variable", "value"),
    [
        (
            "prod",
            ["https://one.openmates.test", "https://two.openmates.test"],
            "PRODUCTION_URL",
            "https://one.openmates.test",
        ),
        ("prod", [], "PRODUCTION_URL", "https://api.openmates.test"),
        ("dev", ["http://one:1", "http://two:2"], "FRONTEND_URLS", "http://one:1,http://two:2"),
        ("dev", [], "FRONTEND_URLS", "http://localhost:5173"),
    ],
)
def test_the_api_knows_where_browsers_may_call_it_from(
    environment: str, urls: list[str], variable: str, value: str, tmp_path: Path
) -> None:
    api = merged(render(environment, tmp_path, openmates_frontend_urls=urls))["api"]
    assert api["environment"][variable] == value


@pytest.mark.parametrize("engine", ["vault", "openbao"])
def test_both_vault_engines_find_their_configuration(engine: str, tmp_path: Path) -> None:
    files = render("prod", tmp_path, openmates_vault_engine=engine)
    vault = merged(files)["vault"]
    assert f"./config/vault:/{engine}/config:ro" in vault["volumes"]
    assert f'path    = "/{engine}/file"' in files["config/vault/vault.hcl"]
    for words, known_to in (("disable_mlock", "vault"), ('audit "file"', "openbao"), ("generate_root", "openbao")):
        assert (words in files["config/vault/vault.hcl"]) is (engine == known_to), words


@pytest.mark.parametrize(
    ("exposure", "expected"),
    [
        ({"cms": "proxy"}, {"cms": ["127.0.0.1:8055:8055"], "grafana": ["3001:3000"]}),
        ({"cms": "internal", "grafana": "internal"}, {}),
    ],
)
def test_one_line_of_exposure_decides_over_a_port(exposure: dict, expected: dict, tmp_path: Path) -> None:
    host_vars = tmp_path / "host_vars"
    host_vars.mkdir()
    everything = yaml.safe_load((ROOT / "playbooks/group_vars/dev.yml").read_text())["openmates_exposure"]
    (host_vars / "server.yml").write_text(yaml.safe_dump({"openmates_exposure": everything | exposure}))
    services = merged(render("dev", tmp_path))
    del services["api"]
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == expected

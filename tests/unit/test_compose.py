"""The Compose files, rendered through Ansible's own templar with the project's group_vars and read as Compose would."""

from __future__ import annotations

import json
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
    "dev": {
        "api": ["0.0.0.0:8000:8000", "[::]:8000:8000"],
        "cms": ["0.0.0.0:8055:8055", "[::]:8055:8055"],
        "grafana": ["0.0.0.0:3001:3000", "[::]:3001:3000"],
    },
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
    tmp_path.mkdir(exist_ok=True)
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
        assert list(service["networks"]) == ["openmates"], name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name
        assert service["restart"] == ("no" if name in ONE_SHOTS else "unless-stopped"), name
        assert ("healthcheck" in service) is (name not in ONE_SHOTS), name
        assert not any("docker.sock" in volume for volume in service.get("volumes", [])), name


@pytest.mark.parametrize("engine", ["vault", "openbao"])
def test_every_service_is_confined(engine: str, tmp_path: Path) -> None:
    apps = [{"name": "app-one", "image": "ghcr.io/x/one:1"}, {"name": "app-two", "image": "ghcr.io/x/two:1", "user": 5}]
    services = merged(render("dev", tmp_path, openmates_vault_engine=engine, openmates_apps=apps))
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["pids_limit"] == 256, name
        assert service["tmpfs"][0] == "/tmp", name
        assert re.fullmatch(r"\d+:\d+", service["user"]), name
        assert not {"cap_add", "privileged", "devices", "pid", "ipc", "network_mode"} & set(service), name
    assert services["app-two"]["user"] == "5:5"
    assert {name for name, service in services.items() if service["user"] == "0:0"} == {"promtail", "cadvisor"}


def test_the_secrets_belong_to_who_runs_the_service(tmp_path: Path) -> None:
    uids = yaml.safe_load((ROOT / "playbooks/group_vars/all/services.yml").read_text())["openmates_service_uids"]
    services = merged(render("prod", tmp_path))
    named = {name: uid for name, uid in uids.items() if isinstance(uid, int)}
    assert named == {name: int(services[name]["user"].split(":")[0]) for name in named}


def test_only_development_has_ipv6_for_containers(tmp_path: Path) -> None:
    subnets = {}
    for environment in ("prod", "dev"):
        network = yaml.safe_load(render(environment, tmp_path / environment)["docker-compose.yml"])["networks"][
            "openmates"
        ]
        subnets[environment] = (network["enable_ipv6"], [entry["subnet"] for entry in network["ipam"]["config"]])
    assert subnets["prod"] == (False, ["172.30.0.0/24"])
    assert subnets["dev"] == (True, ["172.30.0.0/24", "fd30:6f70:656e::/64"])


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
        ({"cms": "proxy"}, {"cms": ["127.0.0.1:8055:8055"], "grafana": ["0.0.0.0:3001:3000", "[::]:3001:3000"]}),
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


def test_directus_is_set_up_before_it_starts_and_knows_no_password_of_the_administrator(tmp_path: Path) -> None:
    files = render("prod", tmp_path)
    services = merged(files)
    assert services["cms"]["depends_on"]["cms-setup"] == {"condition": "service_completed_successfully"}
    assert services["cms-setup"]["command"] == ["node", "/openmates/cms-setup.mjs"]
    assert "ADMIN_PASSWORD_FILE" in services["cms-setup"]["environment"]
    assert not {name for name in services["cms"]["environment"] if name.startswith("ADMIN_")}
    assert yaml.safe_load(files["config/cms-setup/setup.json"]) == {"schema": None, "force": False}


def test_the_schema_file_of_the_inventory_is_handed_over_as_it_is(tmp_path: Path) -> None:
    schema = ROOT / "inventories/directus/lab.json"
    assert "{{title}}" in schema.read_text(), "something that looks like a template has to be in it"
    files = render("prod", tmp_path, openmates_directus_schema=str(schema))
    handed_over = json.loads(files["config/cms-setup/setup.json"])
    assert handed_over == {"schema": json.loads(schema.read_text()), "force": False}


def test_openmates_own_cms_setup_runs_after_directus(tmp_path: Path) -> None:
    image = "ghcr.io/glowingkitty/openmates-cms-setup:v0.14.0"
    services = merged(render("prod", tmp_path, openmates_cms_setup_image=image))
    setup, cms = services["cms-setup"], services["cms"]
    assert (setup["image"], setup["command"]) == (image, ["python", "setup_schemas.py"])
    assert setup["depends_on"] == {"cms": {"condition": "service_healthy"}}
    assert "cms-setup" not in cms["depends_on"]
    assert cms["command"] == ["sh", "-c", "node /openmates/cms-setup.mjs && exec node cli.js start"]
    assert "ADMIN_PASSWORD_FILE" in cms["environment"]


def test_directus_settings_come_from_the_inventory(tmp_path: Path) -> None:
    safe = merged(render("prod", tmp_path))["cms"]["environment"]
    assert safe["PUBLIC_URL"] == "http://localhost:8055"
    assert (safe["IP_TRUST_PROXY"], safe["RATE_LIMITER_ENABLED"], safe["TELEMETRY"]) == ("false", "true", "false")
    assert "172.30.0.0/24" in safe["IMPORT_IP_DENY_LIST"]
    assert merged(render("dev", tmp_path))["cms"]["environment"]["PUBLIC_URL"] == "http://198.51.100.99:8055"

    password, secret, licence = (secrets.token_urlsafe(20) for _ in range(3))
    settings = {
        "openmates_directus_domain": "cms.openmates.test",
        "openmates_directus_mail": {"host": "smtp.openmates.test", "from": "cms@openmates.test", "user": "mailer"},
        "openmates_directus_mail_password": password,
        "openmates_directus_storage": {"driver": "s3", "bucket": "b", "key": "k"},
        "openmates_directus_storage_secret": secret,
        "openmates_directus_environment": {"WEBSOCKETS_ENABLED": True},
        "openmates_directus_secrets": {"LICENSE_KEY": licence},
        "openmates_directus_rate_limit": 0,
        "openmates_directus_cache": False,
    }
    files = render("dev", tmp_path, **settings)
    environment = merged(files)["cms"]["environment"]
    assert {
        "PUBLIC_URL": "https://cms.openmates.test",
        "IP_TRUST_PROXY": "172.30.0.1",
        "SESSION_COOKIE_SECURE": "true",
        "EMAIL_TRANSPORT": "smtp",
        "EMAIL_SMTP_PORT": "587",
        "EMAIL_SMTP_SECURE": "false",
        "EMAIL_SMTP_PASSWORD_FILE": "/run/secrets/EMAIL_SMTP_PASSWORD",
        "STORAGE_LOCATIONS": "s3",
        "STORAGE_S3_SECRET_FILE": "/run/secrets/STORAGE_S3_SECRET",
        "LICENSE_KEY_FILE": "/run/secrets/LICENSE_KEY",
        "WEBSOCKETS_ENABLED": "true",
        "RATE_LIMITER_ENABLED": "false",
        "CACHE_ENABLED": "false",
    }.items() <= environment.items()
    everything = "\n".join(files.values())
    assert not [value for value in (password, secret, licence) if value in everything]

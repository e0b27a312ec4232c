"""The catalogue of services agrees with itself and with the Compose file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.openmates.server.plugins.plugin_utils.services import catalogue
from ansible_collections.openmates.server.plugins.plugin_utils.settings import reading
from rendering import ROOT, merged, render, templar

FIELDS = reading.specifications(ROOT)["openmates_services"]["fields"]
# Typed in from the architecture guidelines and from Compose: which service keeps which state.
VOLUMES = {
    "api": {"api-logs", "shared-cache"},
    "task-scheduler": {"celerybeat-data"},
    "cms": {"cms-uploads"},
    "cms-setup": {"cms-schema"},
    "cms-database": {"postgres-data"},
    "cache": {"cache-data"},
    "vault": {"vault-data"},
    "prometheus": {"prometheus-data"},
    "alertmanager": {"alertmanager-data"},
    "loki": {"loki-data"},
    "promtail": {"promtail-data"},
    "grafana": {"grafana-data"},
}


@pytest.fixture
def services(tmp_path: Path) -> dict[str, dict]:
    return templar("prod", tmp_path).available_variables["settings"]["services"]


def test_every_service_has_all_fields(services: dict[str, dict]) -> None:
    for name, service in services.items():
        assert set(service) == {*FIELDS, "exposure"}, name


def test_what_is_reached_has_what_it_takes(services: dict[str, dict]) -> None:
    for name, service in services.items():
        if service["host_port"] or service["tunnel"] or service["scrape"]:
            assert service["container_port"], name
        assert bool(service["address"]) is service["tunnel"], name
        assert service["metrics_path"].startswith("/"), name
    addresses = [service["address"] for service in services.values() if service["address"]]
    assert len(addresses) == len(set(addresses))


def test_compose_takes_user_address_and_state_from_the_catalogue(services: dict[str, dict], tmp_path: Path) -> None:
    files = render("prod", tmp_path)
    assert {name: set(service["volumes"]) for name, service in services.items() if service["volumes"]} == VOLUMES
    assert set(yaml.safe_load(files["docker-compose.yml"])["volumes"]) == set().union(*VOLUMES.values())
    for name, rendered in merged(files).items():
        service = services[name]
        assert rendered["user"] == service["user"], name
        assert rendered["restart"] == ("no" if service["one_shot"] else "unless-stopped"), name
        networks = rendered["networks"]
        given = networks["openmates"]["ipv4_address"] if isinstance(networks, dict) else ""
        assert given == service["address"], name
        mounted = {volume.split(":")[0] for volume in rendered.get("volumes", [])}
        assert set(service["volumes"]) <= mounted, name
        assert (f"./secrets/{name}" in mounted) is bool(service["secrets"]), name
        assert {about["owner"] for about in service["volumes"].values()} <= {"image", "chown"}, name
    database = merged(files)["cms-database"]["environment"]
    assert services["cms-database"]["databases"] == [database["POSTGRES_DB"]]


def test_a_field_is_checked_before_it_is_merged() -> None:
    services = {"api": {"image": "a", "memory": "1M", "user": "1"}, "cms": {"image": "b", "host_port": 1}}
    override = {"ap": {}, "api": {"memory": "2M", "host_port": 1, "user": "0", "imgae": "c"}, "cms": []}
    assert dict(catalogue.problems(services, override, FIELDS)) == {
        "openmates_services.ap": "names no service. Did you mean api?",
        "openmates_services.api.host_port": "follows from the Compose files: set image, memory only.",
        "openmates_services.api.user": "follows from the Compose files: set image, memory only.",
        "openmates_services.api.imgae": "is no field of a service. Did you mean image?",
        "openmates_services.cms": "must be a mapping, such as {memory: 1G}.",
    }


def test_the_last_override_counts_most_and_the_catalogue_stays_as_it_is() -> None:
    services = {"api": {"image": "a", "memory": "1M"}, "cms": {"image": "b"}}
    overrides = [{"api": {"memory": "2M", "image": "c"}}, {"api": {"memory": "3M"}, "cms": None}]
    assert catalogue.merged(services, overrides, {"api": "proxy"}) == {
        "api": {"image": "c", "memory": "3M", "exposure": "proxy"},
        "cms": {"image": "b", "exposure": "internal"},
    }
    assert services["api"] == {"image": "a", "memory": "1M"}


@pytest.mark.parametrize(
    ("user", "expected"), [(1000, "1000:1000"), ("999:5", "999:5"), ("nobody", None), ("1000:", None), ("", None)]
)
def test_a_user_is_a_number_with_or_without_a_group(user: object, expected: str | None) -> None:
    service = {"image": "a/b:1", "memory": "1M", "user": user}
    read = reading.read({"openmates_services": {"fields": FIELDS}}, {}, (), Templar(DataLoader(), {}), {"one": service})
    assert read.values["openmates_services"]["one"]["user"] == (expected or user)
    assert set(read.wrong) == (set() if expected else {"openmates_services.one.user"})


def test_a_field_that_cannot_be_evaluated_is_left_out_and_no_default_takes_its_place() -> None:
    service = {"image": "a/b:1", "memory": "1M", "user": trust_as_template("{{ not_there }}")}
    read = reading.read({"openmates_services": {"fields": FIELDS}}, {}, (), Templar(DataLoader(), {}), {"one": service})
    assert "user" not in read.values["openmates_services"]["one"]


def test_a_service_without_a_memory_limit_is_refused() -> None:
    service = {"image": "a/b:1", "user": "1000"}
    read = reading.read({"openmates_services": {"fields": FIELDS}}, {}, (), Templar(DataLoader(), {}), {"one": service})
    assert read.wrong == {"openmates_services.one.memory": "is missing"}

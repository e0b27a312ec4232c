"""What follows from the services: open ports, upstreams, image addresses and secret files."""

from __future__ import annotations

import pytest
from ansible_collections.openmates.server.plugins.plugin_utils.services import images, ports, secrets

PORTS = {"api": "8000-8001", "cms": "8055", "grafana": "3001", "vault": ""}
PROD = {"api": "proxy", "cms": "internal", "grafana": "internal", "vault": "internal"}
DEV = {"api": "published", "cms": "published", "grafana": "published", "vault": "internal"}


def services(exposure: dict, **host_ports: str) -> dict:
    return {
        name: {"exposure": mode, "host_port": (PORTS | host_ports).get(name, "")} for name, mode in exposure.items()
    }


@pytest.mark.parametrize(
    ("service", "table", "expected"),
    [
        ("api", PROD, ["127.0.0.1:8000", "127.0.0.1:8001"]),
        ("api", DEV, ["127.0.0.1:8000"]),
        ("cms", PROD, []),
    ],
)
def test_upstreams(service: str, table: dict, expected: list[str]) -> None:
    assert ports.upstreams(services(table)[service]) == expected


@pytest.mark.parametrize(
    ("table", "ssh_port", "domain", "expected"),
    [
        (PROD, 22, "api.example.com", [22, 80, 443]),
        (PROD, 2222, "api.example.com", [80, 443, 2222]),
        (PROD, 22, "", [22]),
        (DEV, 22, "", [22, 3001, 8000, 8055]),
        (DEV, 22, None, [22, 3001, 8000, 8055]),
        (DEV, 22, "dev.example.com", [22, 80, 443, 3001, 8000, 8055]),
        ({"api": "internal"}, 22, "dev.example.com", [22]),
    ],
)
def test_open_tcp_ports(table: dict, ssh_port: int, domain: str | None, expected: list[int]) -> None:
    assert list(ports.port_names(services(table), ssh_port, domain)) == [str(port) for port in expected]


def test_port_names_say_who_answers() -> None:
    names = ports.port_names(services(DEV), 22, "dev.example.com")
    assert names == {
        "22": "ssh",
        "80": "caddy (http)",
        "443": "caddy (https)",
        "3001": "grafana",
        "8000": "api",
        "8055": "cms",
    }


DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("postgres:17-alpine", "mirror.test/library/postgres:17-alpine"),
        (f"postgres:17-alpine@{DIGEST}", f"mirror.test/library/postgres:17-alpine@{DIGEST}"),
        ("directus/directus:11.17.4", "mirror.test/directus/directus:11.17.4"),
        ("ghcr.io/glowingkitty/openmates-api:v0.14.0", "mirror.test/glowingkitty/openmates-api:v0.14.0"),
        ("gcr.io/cadvisor/cadvisor:v0.47.2", "mirror.test/cadvisor/cadvisor:v0.47.2"),
        ("docker.io/postgres:17", "mirror.test/library/postgres:17"),
        ("localhost/app:1", "mirror.test/app:1"),
        ("localhost:5000/team/app:1", "mirror.test/team/app:1"),
        ("mirror.test/library/postgres:17", "mirror.test/library/postgres:17"),
    ],
)
def test_image_at_a_mirror(reference: str, expected: str) -> None:
    assert images.at_registry(reference, "mirror.test") == expected


@pytest.mark.parametrize("registry", ["", None, " "])
def test_image_without_a_mirror_stays(registry: str | None) -> None:
    assert images.at_registry("postgres:17-alpine", registry) == "postgres:17-alpine"


def test_image_at_a_path_of_a_registry() -> None:
    assert images.at_registry("postgres:17", "harbor.test:8443/hub/") == "harbor.test:8443/hub/library/postgres:17"


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: ports.upstreams({"exposure": "public", "host_port": "1"}), "public"),
        (lambda: ports.upstreams({"exposure": "proxy", "host_port": ""}), "needs a host_port"),
        (lambda: ports.port_names(services({"api": "public"})), "api is 'public'"),
        (lambda: ports.port_names(services({"vault": "published"})), "vault"),
        (lambda: ports.port_names(services(DEV, cms="x")), "cms"),
        (lambda: images.at_registry("postgres:17", "https://mirror.test"), "https://"),
    ],
)
def test_errors_name_what_is_wrong(call: object, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        call()


@pytest.mark.parametrize("value", ["8001-8000", "0", 65536, "80-", "x", "", None, True])
def test_host_ports_refuses(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        ports.host_ports(value)


def test_secret_files_belong_to_the_user_of_the_service() -> None:
    vault = {"user": "100:1000", "secrets": {}}
    assert secrets.secret_files({"api": {"user": "1000:5", "secrets": {"TOKEN": "s"}}, "vault": vault}) == [
        {"path": "api/TOKEN", "content": "s", "owner": "1000"}
    ]


def test_a_service_whose_secrets_could_not_be_evaluated_is_not_written_without_them() -> None:
    with pytest.raises(KeyError):
        secrets.secret_files({"api": {"user": "1000:1000"}})

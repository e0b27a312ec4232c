"""Packet size, address families and name servers, for the host and for containers."""

from __future__ import annotations

import pytest
from test_preflight import FACTS, good, problems

IPV6_ONLY = FACTS | {
    "default_ipv4": {},
    "default_ipv6": {"address": "2001:db8:51::11", "gateway": "fe80::1", "mtu": 1500},
    "all_ipv4_addresses": [],
}
AAAA = ["2001:db8:51::11"]


def ipv6_only(**more: object) -> dict:
    return good("prod") | {"openmates_subnet_ipv6": "fd30:6f70:656e::/64", "openmates_registry": "", **more}


def test_a_host_with_both_families_needs_nothing_more() -> None:
    state = {"resolved": {"api.prod1.example.test": ["198.51.100.11"], "ghcr.io": ["192.0.2.1"]}, "ipv6": True}
    assert problems(good("prod") | {"openmates_registry": ""}, host_state=state) == []


def test_a_host_with_ipv6_alone_needs_ipv6_for_containers() -> None:
    [found] = problems(ipv6_only(openmates_subnet_ipv6=""), IPV6_ONLY, AAAA)
    assert "openmates_subnet_ipv6" in found and "no way to the internet by IPv4" in found
    assert "Set it to fd30:6f70:656e::/64" in found


def test_a_host_with_ipv6_alone_needs_registries_with_ipv6() -> None:
    names = {"api.prod1.example.test": AAAA, "registry-1.docker.io": ["2001:db8::9"], "ghcr.io": ["192.0.2.1"]}
    settings = ipv6_only()
    settings["openmates_services"]["api"]["image"] = "ghcr.io/glowingkitty/openmates-api:v0.14.0"
    [found] = problems(settings, IPV6_ONLY, host_state={"resolved": names})
    assert "openmates_registry" in found and "ghcr.io has no IPv6 address" in found and "docker.io" not in found
    mirror = settings | {"openmates_registry": "mirror.example.net:5000/x"}
    assert problems(mirror, IPV6_ONLY, host_state={"resolved": {**names, "mirror.example.net": ["2001:db8::8"]}}) == []
    unknown = {name: found for name, found in names.items() if name != "ghcr.io"} | {"ghcr.io": None}
    assert problems(settings, IPV6_ONLY, host_state={"resolved": unknown}) == [], "a failed lookup is not judged"


def test_ipv6_for_containers_needs_ipv6_in_the_kernel() -> None:
    settings = good("dev") | {"openmates_subnet_ipv6": "fd30:6f70:656e::/64"}
    [found] = problems(settings, host_state={"ipv6": False})
    assert "openmates_subnet_ipv6" in found and "switched off" in found
    assert problems(good("dev"), host_state={"ipv6": False}) == []


@pytest.mark.parametrize(
    ("mtu", "words"),
    [(0, []), (1400, []), (1450, []), (1500, ["larger", "eth0", "1450"]), (1000, ["too small for IPv6"])],
)
def test_packets_of_containers_fit_the_hosts_interface(mtu: int, words: list[str]) -> None:
    facts = FACTS | {"default_ipv4": {**FACTS["default_ipv4"], "interface": "eth0", "mtu": 1450}}
    found = problems(good("prod") | {"openmates_mtu": mtu}, facts)
    assert len(found) == bool(words) and all(word in found[0] for word in words)


@pytest.mark.parametrize(
    ("servers", "ipv6", "words"),
    [
        # Docker 26 asks these from the host: the lines "ExtServers: [host(...)]" in a container's resolv.conf.
        (["127.0.0.53"], False, []),
        (["fe80::1%eth0"], True, []),
        (["fe80::1"], False, []),
        (["2001:db8::53"], True, []),
        (["192.0.2.53"], False, []),
        # It asks these from the container's network, where the firewall closes link-local addresses.
        (["169.254.169.253"], False, ["169.254.169.253", "openmates_docker_options: {dns"]),
        (["fe80::1"], True, ["fe80::1"]),
        (["172.30.0.53"], False, ["172.30.0.53"]),
        (["169.254.169.253", "192.0.2.53"], False, []),  # Docker goes on to the next
        ([], False, ["no name server", "Google's"]),
    ],
)
def test_name_servers_that_containers_cannot_reach_are_named(servers: list[str], ipv6: bool, words: list[str]) -> None:
    settings = good("prod") | {"openmates_subnet_ipv6": "fd30:6f70:656e::/64" if ipv6 else ""}
    found = problems(settings, host_state={"name_servers": servers})
    assert len(found) == bool(words) and all(word in found[0] for word in words)
    named = settings | {"openmates_docker_options": {"dns": ["192.0.2.53"]}}
    assert problems(named, host_state={"name_servers": servers}) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"openmates_http_proxy": "http://proxy.example.net:3128"}, []),
        ({"openmates_http_proxy": "http://[2001:db8::1]:3128/"}, []),
        ({"openmates_http_proxy": "proxy:3128"}, ["not the address of an HTTP proxy", "http://HOST:PORT"]),
        ({"openmates_http_proxy": "http://me:word@proxy:3128"}, ["without a login"]),
        ({"openmates_no_proxy": [".example.com", "10.0.0.0/8", "fd00::/8", "registry.example.com:5000", "cms"]}, []),
        ({"openmates_no_proxy": ["a b"]}, ["openmates_no_proxy", "'a b'"]),
        ({"openmates_no_proxy": ['x"y']}, ["openmates_no_proxy"]),
        ({"openmates_http_proxy_backend": True}, ["no proxy to use"]),
        (
            {"openmates_http_proxy": "http://proxy:3128", "openmates_docker_options": {"proxies": {}}},
            ["proxies and openmates_http_proxy are both set"],
        ),
    ],
)
def test_a_proxy_that_would_have_no_effect_is_refused(change: dict, words: list[str]) -> None:
    found = problems(good("prod") | change)
    assert len(found) == bool(words) and all(word in found[0] for word in words)


@pytest.mark.parametrize(
    ("logins", "words"),
    [
        ({"ghcr.io": {"username": "me", "password": "W0rdOfAll"}}, []),
        ({"registry:5000": {"username": "me", "password": "W0rdOfAll"}}, []),
        ({"https://ghcr.io": {"username": "me", "password": "W0rdOfAll"}}, ["'https://ghcr.io' is not a registry"]),
        ({"ghcr.io/me": {"username": "me", "password": "W0rdOfAll"}}, ["'ghcr.io/me' is not a registry"]),
        ({"ghcr.io": {"user": "me", "password": "W0rdOfAll"}}, ["not a username and a password"]),
        ({"ghcr.io": "me:W0rdOfAll"}, ["not a username and a password"]),
        ({"ghcr.io": {"username": "me", "password": ""}}, ["empty or not a text"]),
        ({"ghcr.io": {"username": "me", "password": 12345678}}, ["quotation marks"]),
        ({"ghcr.io": {"username": "me:you", "password": "W0rdOfAll"}}, ["colon"]),
    ],
)
def test_a_login_of_another_form_is_refused_without_showing_it(logins: dict, words: list[str]) -> None:
    found = problems(good("prod") | {"openmates_registry_logins": logins})
    assert len(found) == bool(words) and all(word in found[0] for word in words)
    assert all("secrets.yml" in text and "W0rdOfAll" not in text and "12345678" not in text for text in found)


LAYOUT = {
    "openmates_subnet": "172.31.0.0/24",
    "openmates_gateway": "172.31.0.1",
    "openmates_dynamic_range": "172.31.0.128/25",
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"openmates_gateway": "172.30.0.1"}, ["openmates_gateway", "172.31.0.0/24"]),
        ({"openmates_dynamic_range": "172.30.0.128/25"}, ["openmates_dynamic_range", "not a part of"]),
        ({"openmates_dynamic_range": "172.31.0.0/25"}, ["contains the address of openmates_gateway"]),
        ({"openmates_dynamic_range": "many"}, ["openmates_dynamic_range", "172.30.0.128/25"]),
        ({"address": "172.30.0.11"}, ["openmates_services.cms.address", "172.31.0.0/24"]),
        ({"address": "172.31.0.1"}, ["openmates_services.cms.address", "openmates_gateway already"]),
    ],
)
def test_what_lies_in_the_subnet_moves_with_it(change: dict, words: list[str]) -> None:
    settings = good("prod") | LAYOUT
    settings["openmates_services"]["cms"]["address"] = change.get("address", "172.31.0.11")
    found = problems(settings | {name: value for name, value in change.items() if name != "address"})
    assert len(found) == bool(words), found
    assert all(word in found[0] for word in words)


def test_another_network_of_docker_in_the_same_range_is_named() -> None:
    docker = {"docker": {"subnets": [{"network": "shop", "subnet": "172.30.0.0/16"}]}}
    [found] = problems(good("prod"), host_state=docker)
    assert "openmates_subnet" in found and "overlaps 172.30.0.0/16, the subnet of the Docker network shop" in found

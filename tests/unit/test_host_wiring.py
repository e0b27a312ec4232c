"""What is declared of a server's network and disks reaches every program that it concerns."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.template import trust_as_template
from rendering import merged, render, templar

ROOT = Path(__file__).parents[2]
PROXY = "http://proxy.example.net:3128"
ROLES = ("base", "caddy", "docker")


def trusted(data: object) -> object:
    """Texts of a file as Ansible loads them: as templates."""
    if isinstance(data, dict):
        return {key: trusted(value) for key, value in data.items()}
    if isinstance(data, list):
        return [trusted(value) for value in data]
    return trust_as_template(data) if isinstance(data, str) else data


def wired(tmp_path: Path, facts: dict | None = None, **settings: object):
    """Reads variables as the roles see them, with their own defaults behind those of the playbooks."""
    host = templar("prod", tmp_path, **settings)
    known = host.available_variables
    for role in ROLES:
        defaults = trusted(yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text()))
        file = ROOT / f"roles/{role}/vars/main.yml"
        own = trusted(yaml.safe_load(file.read_text())) if file.exists() else {}
        known = {**defaults, **known, **own}
    host.available_variables = {**known, "ansible_facts": facts or {}}
    return lambda text: host.template(trust_as_template(f"{{{{ {text} }}}}"))


def contents(role: str, path: str) -> str:
    """The template of a file that a role's task has inline."""
    tasks = yaml.safe_load((ROOT / f"roles/{role}/tasks/main.yml").read_text())
    files = [file for task in tasks for file in (task.get("openmates.server.host_files") or {}).get("files", [])]
    return next(file["content"] for file in files if file["path"] == path)


def text_of(tmp_path: Path, role: str, path: str, **settings: object) -> str:
    read = wired(tmp_path, **settings)
    host = read.__closure__[0].cell_contents
    host._loader.set_basedir(str(ROOT / f"roles/{role}"))
    return host.template(trust_as_template(contents(role, path)))


# ---------------------------------------------------------------- the metrics of the host


def firewall(tmp_path: Path, **settings: object) -> list[str]:
    """The lines of the chains in which a container's packets are judged, before what drops them."""
    host = wired(tmp_path, **settings).__closure__[0].cell_contents
    defaults = trusted(yaml.safe_load((ROOT / "roles/firewall/defaults/main.yml").read_text()))
    host.available_variables = {**defaults, **host.available_variables}
    text = host.template(trust_as_template((ROOT / "roles/firewall/templates/firewall.nft.j2").read_text()))
    chains = [text.partition("chain containers {")[2], text.partition("chain input {")[2]]
    return [chain.partition(" drop\n")[0] for chain in chains]


def test_the_firewall_accepts_prometheus_alone_before_it_drops_what_containers_send_to_the_host(tmp_path: Path) -> None:
    rule = "iifname openmates0 ip saddr 172.30.0.13 ip daddr 172.30.0.1 tcp dport { 9100, 9180 } accept"
    assert [chain.count(rule) for chain in firewall(tmp_path / "1")] == [1, 1]
    moved = {"openmates_subnet": "10.9.0.0/24", "openmates_gateway": "10.9.0.1", "openmates_domain": ""}
    moved["openmates_services"] = {"prometheus": {"address": ""}}
    rule = "iifname openmates0 ip saddr 10.9.0.0/24 ip daddr 10.9.0.1 tcp dport { 9100 } accept"
    assert [chain.count(rule) for chain in firewall(tmp_path / "2", **moved)] == [1, 1]


def test_caddy_serves_its_metrics_on_loopback_alone(tmp_path: Path) -> None:
    text = text_of(tmp_path, "caddy", "/etc/caddy/Caddyfile")
    site = text.partition("http://:9180 {")[2].partition("}")[0]
    assert site.split() == ["bind", "127.0.0.1", "metrics"]
    read = wired(tmp_path / "2")
    assert read("openmates_host_metrics_listeners") == ["172.30.0.1:9100", "172.30.0.1:9180"]


# ---------------------------------------------------------------- a proxy


def test_packages_and_images_come_through_the_proxy(tmp_path: Path) -> None:
    read = wired(tmp_path, openmates_http_proxy=PROXY, openmates_no_proxy=[".example.org", "10.0.0.0/8"])
    assert read("docker_config")["proxies"] == {
        "http-proxy": PROXY,
        "https-proxy": PROXY,
        "no-proxy": "localhost,127.0.0.1,::1,.example.org,10.0.0.0/8",
    }
    [file] = read("base_apt_proxy")
    assert file["path"] == "apt/apt.conf.d/00openmates-proxy", "any other file of apt's comes later and prevails"
    lines = [line for line in file["content"].splitlines() if not line.startswith("//")]
    assert lines == [f'Acquire::http::Proxy "{PROXY}";', f'Acquire::https::Proxy "{PROXY}";']


def test_without_a_proxy_there_is_no_trace_of_one(tmp_path: Path) -> None:
    read = wired(tmp_path)
    assert "proxies" not in read("docker_config") and read("base_apt_proxy") == []
    assert read("openmates_proxy_environment") == {}
    [task] = [
        task
        for task in yaml.safe_load((ROOT / "roles/base/tasks/main.yml").read_text())
        if "absent" in (task.get("openmates.server.host_files") or {})
    ]
    absent = task["openmates.server.host_files"]["absent"].strip("{} ")
    assert read(absent) == ["apt/apt.conf.d/00openmates-proxy"], "one that was set before is removed"


def test_caddy_reaches_the_certificate_authority_through_the_proxy(tmp_path: Path) -> None:
    path = "/etc/systemd/system/caddy.service.d/hardening.conf"
    plain = (ROOT / "roles/caddy/files/hardening.conf").read_text()
    assert text_of(tmp_path / "1", "caddy", path) == plain, "a server without one does not restart Caddy"
    unit = text_of(tmp_path / "2", "caddy", path, openmates_http_proxy=PROXY)
    assert f"\nEnvironment=HTTP_PROXY={PROXY} HTTPS_PROXY={PROXY} NO_PROXY=localhost,127.0.0.1,::1\n" in unit


@pytest.mark.parametrize("backend", [False, True])
def test_containers_use_the_proxy_by_choice_and_never_for_each_other(tmp_path: Path, backend: bool) -> None:
    settings = {"openmates_http_proxy": PROXY, "openmates_http_proxy_backend": backend}
    apps = [{"name": "app-weather", "image": "registry.example.net/weather:1.0.0"}]
    services = merged(render("prod", tmp_path, openmates_apps=apps, **settings))
    for name in ("api", "task-worker", "task-scheduler"):
        environment = services[name]["environment"]
        assert environment.get("https_proxy", "") == environment.get("HTTPS_PROXY", "") == (PROXY if backend else "")
        excluded = environment.get("no_proxy", "").split(",")
        assert {*services, "localhost", "172.30.0.0/24"} <= set(excluded) or not backend
    assert not any("proxy" in name.lower() for name in services["cms"]["environment"] if name != "IP_TRUST_PROXY")


# ---------------------------------------------------------------- the directory of Docker's data


def test_docker_waits_for_the_disk_of_its_data_and_promtail_reads_them_there(tmp_path: Path) -> None:
    moved = {"openmates_docker_options": {"data-root": "/mnt/data/docker"}}
    unit = "/etc/systemd/system/docker.service.d/openmates-data.conf"
    assert "[Unit]\nRequiresMountsFor=/mnt/data/docker\n" in text_of(tmp_path / "1", "docker", unit, **moved)
    read = wired(tmp_path / "2", **moved)
    assert read("docker_config")["data-root"] == "/mnt/data/docker"
    assert read("caddy_inaccessible") == ["/mnt/data/docker"]
    assert read("directus_expected_file").startswith("/mnt/data/docker/volumes/openmates-cms-schema/")
    promtail = merged(render("prod", tmp_path / "3", **moved))["promtail"]
    assert "/mnt/data/docker/containers:/var/lib/docker/containers:ro" in promtail["volumes"]


# ---------------------------------------------------------------- packets and names


@pytest.mark.parametrize(
    ("facts", "setting", "size"),
    [
        ({}, 0, 1500),
        ({"default_ipv4": {"mtu": 1450}}, 0, 1450),
        ({"default_ipv4": {"mtu": 1500}, "default_ipv6": {"mtu": 1420}}, 0, 1420),
        ({"default_ipv4": {"mtu": 9001}}, 0, 1500),
        ({"default_ipv4": {"mtu": 1450}}, 1400, 1400),
    ],
)
def test_packets_of_containers_follow_the_way_to_the_internet(
    tmp_path: Path, facts: dict, setting: int, size: int
) -> None:
    assert int(wired(tmp_path, facts, openmates_mtu=setting)("openmates_network_mtu")) == size


@pytest.mark.parametrize(("size", "options"), [(0, False), (1450, True)])
def test_the_network_declares_the_size_of_packets_if_it_is_not_dockers_own(
    tmp_path: Path, size: int, options: bool
) -> None:
    files = render("prod", tmp_path, openmates_mtu=size)
    network = yaml.safe_load(files["docker-compose.yml"])["networks"]["openmates"]
    assert network["driver_opts"].get("com.docker.network.driver.mtu") == (str(size) if options else None)


def test_names_that_lead_to_the_server_are_looked_up_and_registries_where_ipv4_is_missing(tmp_path: Path) -> None:
    names = {"openmates_domain": "api.example.test", "openmates_directus_domain": "cms.example.test"}
    host = wired(tmp_path / "1", {}, **names)
    assert host("openmates_public_names") == ["api.example.test", "cms.example.test"]
    assert {"ghcr.io", "registry-1.docker.io", "docker.dragonflydb.io"} <= set(host("openmates_registries"))
    mirror = wired(tmp_path / "2", {}, openmates_registry="mirror.example.net:5000/x")
    assert mirror("openmates_registries") == ["mirror.example.net"]


# ---------------------------------------------------------------- logins of registries


def test_logins_are_a_file_of_root_among_the_secrets(tmp_path: Path) -> None:
    logins = {"ghcr.io": {"username": "someone", "password": "p$ss"}, "docker.io": {"username": "a", "password": "b"}}
    files = wired(tmp_path / "1", openmates_registry_logins=logins)("stack_secret_files")
    [file] = [file for file in files if file["path"] == ".docker/config.json"]
    assert file["owner"] == "0" and "p$ss" not in file["content"]
    assert yaml.safe_load(file["content"])["auths"] == {
        "ghcr.io": {"auth": "c29tZW9uZTpwJHNz"},
        "https://index.docker.io/v1/": {"auth": "YTpi"},
    }
    assert not [file for file in wired(tmp_path / "2")("stack_secret_files") if file["path"].startswith(".docker")], (
        "removed with the setting: the directory of secrets has nothing that is not declared"
    )

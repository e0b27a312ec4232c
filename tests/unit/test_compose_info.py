"""The compose_info module against a fake Compose, and a fake engine that answers with what Docker would."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils.docker_api import Docker, DockerProblem, NotFound
from ansible_collections.openmates.server.plugins.modules import compose_info

# The fake: prints the file that is named after its words, and fails where there is none.
FAKE_DOCKER = """#!/bin/sh
# A fake docker, for tests: $0.d holds its answers.
echo "$*" >> "$0.d/calls"
case "$*" in
  "compose config --format json") answer=config ;;
  "compose config --hash *") answer=hashes ;;
  *) answer=nothing ;;
esac
cat "$0.d/$answer" 2>/dev/null && exit 0
echo "services.web has no image" >&2
exit 1
"""

PROJECT = {
    "name": "demo",
    "services": {
        "web": {"image": "demo/web:1", "restart": "unless-stopped"},
        "setup": {"image": "demo/web:1", "restart": "no"},
    },
}
HASHES = {"web": "aaa", "setup": "bbb"}


def container(service: str, created: str = "2026-01-01T10:00:00.5Z", **changes: object) -> dict:
    """``docker inspect`` of a healthy service's container; changes go into its state or labels."""
    state = {"Status": "running", "ExitCode": 0, "Health": {"Status": "healthy"}}
    if service == "setup":
        state = {"Status": "exited", "ExitCode": 0}
    labels = {
        "com.docker.compose.service": service,
        "com.docker.compose.config-hash": HASHES.get(service, "old"),
        "com.docker.compose.oneoff": "False",
        "org.openmates.lab.software": "demo 1.0",
    }
    state |= {key: value for key, value in changes.items() if key in ("Status", "ExitCode", "Health")}
    labels |= {f"com.docker.compose.{key}": value for key, value in changes.items() if key in ("config-hash", "oneoff")}
    return {
        "Created": created,
        "Image": "sha256:1",
        "Config": {"Image": changes.get("image", "demo/web:1"), "Labels": labels},
        "State": state,
        "NetworkSettings": {"Networks": {"demo": {"IPAddress": "172.30.0.2" if state["Status"] == "running" else ""}}},
    }


class Host:
    """A directory with a Compose file, and a fake docker on the PATH."""

    def __init__(self, folder: Path, run_module: Callable[..., dict]) -> None:
        self.run_module = run_module
        self.project_src = folder / "project"
        self.project_src.mkdir()
        (self.project_src / "docker-compose.yml").write_text("services: {}\n")
        self.docker = folder / "bin/docker"
        self.answers = folder / "bin/docker.d"
        self.answers.mkdir(parents=True)
        self.docker.write_text(FAKE_DOCKER)
        self.docker.chmod(0o755)
        self.answer(config=json.dumps(PROJECT))
        self.answer(hashes="".join(f"{service} {digest}\n" for service, digest in HASHES.items()))
        self.asked: list[str] = []
        self.engine: dict[str, object] = {"/_ping": "OK", "/images/demo/web:1/json": {"Id": "sha256:1"}}
        self.runs(container("web"), container("setup"))

    def answer(self, **answers: str) -> None:
        for name, text in answers.items():
            (self.answers / name).write_text(text)

    def runs(self, *containers: dict) -> None:
        """Set the containers of the host."""
        self.engine["/containers/json"] = [{"Id": f"id{number}"} for number, _ in enumerate(containers)]
        self.engine |= {f"/containers/id{number}/json": found for number, found in enumerate(containers)}

    def request(self, method: str, path: str, body: object = None, seconds: float = 0) -> bytes:
        """What the engine answers."""
        self.asked.append(method)
        if not self.engine:
            raise DockerProblem("Docker does not answer: [Errno 2] No such file or directory.")
        if path.startswith("/containers/json?"):
            assert "all=true" in path and "com.docker.compose.project=demo" in path
            path = "/containers/json"
        if path not in self.engine:
            raise NotFound(f"Docker refuses {method} {path}")
        return json.dumps(self.engine[path]).encode()

    def info(self, **options: object) -> dict:
        result = self.run_module(compose_info.main, project_src=str(self.project_src), **options)
        assert result["changed"] is False
        return result


@pytest.fixture
def host(tmp_path: Path, run_module: Callable[..., dict], monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path, run_module)
    monkeypatch.setattr(Docker, "_request", lambda self, *arguments, **options: host.request(*arguments, **options))
    monkeypatch.setenv("PATH", f"{host.docker.parent}{os.pathsep}{os.environ['PATH']}")
    return host


# ---------------------------------------------------------------- nothing to read


def test_a_host_without_docker_is_no_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose_info.AnsibleModule, "get_bin_path", lambda *_: None)
    result = host.info()
    assert result["problem"] == "Docker is not installed"
    assert (result["converged"], result["services"], result["outdated"], result["orphans"]) == (False, {}, {}, [])


def test_a_host_without_the_compose_file_is_no_error(host: Host) -> None:
    (host.project_src / "docker-compose.yml").unlink()
    result = host.info()
    assert "there is no docker-compose.yml in" in result["problem"]
    assert not result["converged"]


def test_an_engine_that_is_down_is_no_error(host: Host) -> None:
    host.engine.clear()
    result = host.info()
    assert result["problem"] == "Docker does not answer: [Errno 2] No such file or directory"
    assert not result["converged"]


def test_compose_files_that_compose_refuses_are_an_error(host: Host) -> None:
    (host.answers / "config").unlink()
    result = host.run_module(compose_info.main, project_src=str(host.project_src))
    assert result["failed"] and "compose config" in result["msg"] and "services.web has no image" in result["msg"]


# ---------------------------------------------------------------- what there is


@pytest.mark.parametrize("check", [True, False])
def test_a_converged_project(host: Host, check: bool) -> None:
    result = host.info(check=check)
    assert (result["converged"], result["problem"]) == (True, "")
    assert (result["outdated"], result["orphans"]) == ({}, [])
    assert result["services"] == {
        "web": {
            "state": "running",
            "health": "healthy",
            "exit_code": 0,
            "image": "demo/web:1",
            "address": "172.30.0.2",
            "one_shot": False,
            "software": "demo 1.0",
            "stand_in": "",
        },
        "setup": {
            "state": "exited",
            "health": "",
            "exit_code": 0,
            "image": "demo/web:1",
            "address": "",
            "one_shot": True,
            "software": "demo 1.0",
            "stand_in": "",
        },
    }


def test_it_runs_nothing_that_changes_anything(host: Host) -> None:
    host.info()
    calls = (host.answers / "calls").read_text().splitlines()
    assert {tuple(call.split()[:2]) for call in calls} == {("compose", "config")}
    assert set(host.asked) == {"GET"}


def test_a_project_without_any_container(host: Host) -> None:
    host.runs()
    result = host.info()
    assert result["outdated"] == {"web": "it has no container", "setup": "it has no container"}
    assert result["services"]["web"]["state"] == "missing"
    assert set(result["services"]["web"]) == set(compose_info.summary(False, container("web")))


@pytest.mark.parametrize(
    ("service", "changes", "reason"),
    [
        ("web", {"config-hash": "old"}, "its definition has changed"),
        ("setup", {"config-hash": "old"}, "its definition has changed"),
        ("web", {"Status": "restarting", "ExitCode": 1}, "it is restarting"),
        ("web", {"Status": "exited"}, "it is exited"),
        ("web", {"Status": "created"}, "it is created"),
        ("web", {"Status": "paused"}, "it is paused"),
        ("setup", {"ExitCode": 3}, "it did not exit with 0 (state exited, exit code 3)"),
        ("setup", {"Status": "created"}, "it did not exit with 0 (state created, exit code 0)"),
        ("setup", {"Status": "running"}, "it did not exit with 0 (state running, exit code 0)"),
    ],
)
def test_an_outdated_service_has_a_reason(host: Host, service: str, changes: dict, reason: str) -> None:
    host.runs(*[container(name, **(changes if name == service else {})) for name in PROJECT["services"]])
    result = host.info()
    assert result["outdated"] == {service: reason}
    assert not result["converged"]


def test_an_image_that_was_rebuilt_under_its_tag_outdates_every_service_of_it(host: Host) -> None:
    host.engine["/images/demo/web:1/json"] = {"Id": "sha256:2"}
    reason = "its image was rebuilt under the same tag"
    assert host.info()["outdated"] == {"web": reason, "setup": reason}


def test_an_image_that_the_host_does_not_have_outdates_nothing(host: Host) -> None:
    del host.engine["/images/demo/web:1/json"]
    assert host.info()["converged"]


def test_a_container_that_is_removed_while_it_is_read_is_left_out(host: Host) -> None:
    del host.engine["/containers/id0/json"]
    assert host.info()["outdated"] == {"web": "it has no container"}


@pytest.mark.parametrize("health", ["starting", "unhealthy"])
def test_health_is_reported_and_outdates_nothing(host: Host, health: str) -> None:
    host.runs(container("web", Health={"Status": health}), container("setup"))
    result = host.info()
    assert result["converged"]
    assert result["services"]["web"]["health"] == health


def test_a_service_that_left_the_files_is_an_orphan(host: Host) -> None:
    host.runs(container("web"), container("setup"), container("former"))
    result = host.info()
    assert (result["orphans"], result["outdated"], result["converged"]) == (["former"], {}, False)
    assert "former" not in result["services"]


@pytest.mark.parametrize("newest_first", [True, False])
def test_of_two_containers_of_a_service_the_newest_counts(host: Host, newest_first: bool) -> None:
    old = container("web", "2026-01-01T09:00:00.5Z", **{"config-hash": "old", "image": "demo/web:0"})
    both = [container("web"), old] if newest_first else [old, container("web")]
    host.runs(*both, container("setup"))
    result = host.info()
    assert result["services"]["web"]["image"] == "demo/web:1"
    assert result["outdated"] == {"web": "it has 2 containers: a roll-out was interrupted"}
    assert not result["converged"]


def test_one_offs_of_compose_run_do_not_count(host: Host) -> None:
    one_off = {"oneoff": "True", "Status": "exited", "ExitCode": 1}
    later = "2026-01-01T11:00:00.5Z"
    host.runs(container("web"), container("setup"), container("web", later, **one_off), container("gone", **one_off))
    result = host.info()
    assert (result["converged"], result["orphans"]) == (True, [])


# ---------------------------------------------------------------- networks and volumes, which Compose never changes

NETWORK = {
    "name": "demo",
    "driver_opts": {"com.docker.network.bridge.name": "demo0"},
    "enable_ipv6": False,
    "ipam": {"config": [{"subnet": "172.30.0.0/24", "gateway": "172.30.0.1", "ip_range": "172.30.0.128/25"}]},
}
EXISTING_NETWORK = {
    "Name": "demo",
    "EnableIPv6": False,
    "Options": {"com.docker.network.bridge.name": "demo0", "com.docker.network.driver.mtu": "1500"},
    "IPAM": {"Config": [{"Subnet": "172.30.0.0/24", "Gateway": "172.30.0.1", "IPRange": "172.30.0.128/25"}]},
}


def with_network(host: Host, **changes: object) -> dict:
    host.answer(config=json.dumps({**PROJECT, "networks": {"default": NETWORK}}))
    host.engine["/networks/demo"] = {**EXISTING_NETWORK, **changes}
    return host.info()


def test_a_network_as_declared_is_left_alone_whatever_the_engine_adds(host: Host) -> None:
    result = with_network(host)
    assert (result["converged"], result["stale_networks"]) == (True, {})


@pytest.mark.parametrize(
    ("declared", "existing", "said"),
    [
        (None, None, ""),
        (None, "1450", "mtu: 1450, declared: 1500"),
        ("1450", "1450", ""),
        ("1450", None, "mtu: 1500, declared: 1450"),
        ("1450", "1500", "mtu: 1500, declared: 1450"),
    ],
)
def test_the_size_of_packets_takes_effect_on_an_existing_network(
    declared: str | None, existing: str | None, said: str
) -> None:
    wanted, found = ({"com.docker.network.driver.mtu": value} if value else {} for value in (declared, existing))
    difference = compose_info.network_difference(
        {**NETWORK, "driver_opts": wanted}, {**EXISTING_NETWORK, "Options": found or None}
    )
    assert difference.endswith(said) and bool(difference) == bool(said)


def test_a_network_that_is_not_there_yet_is_compose_s_to_make(host: Host) -> None:
    host.answer(config=json.dumps({**PROJECT, "networks": {"default": NETWORK}}))
    assert host.info()["stale_networks"] == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Options": None}, "com.docker.network.bridge.name: none, declared: demo0"),
        ({"EnableIPv6": True}, "IPv6: True, declared: False"),
        ({"IPAM": {"Config": [{"Subnet": "10.0.0.0/24"}]}}, "subnets: 10.0.0.0/24, declared: 172.30.0.0/24"),
        (
            {"IPAM": {"Config": [{"Subnet": "172.30.0.0/24", "Gateway": "172.30.0.1"}]}},
            "ip_range: none, declared: 172.30.0.128/25",
        ),
    ],
)
def test_a_network_with_other_options_is_reported_with_the_difference(host: Host, changes: dict, said: str) -> None:
    result = with_network(host, **changes)
    assert (result["converged"], result["stale_networks"]) == (False, {"demo": said})


def with_volume(host: Host, owner: str, existing: list[dict]) -> dict:
    mount = {"type": "volume", "source": "data", "target": "/data"}
    web = {**PROJECT["services"]["web"], "volumes": [mount]}
    setup = {**PROJECT["services"]["setup"], "volumes": [{**mount, "target": "/read", "read_only": True}]}
    volume = {"name": "demo_data", "labels": {"openmates.owner": owner}}
    # A volume cannot be handed over where it is mounted for reading alone, though that service comes first.
    services = {"setup": setup, **{name: PROJECT["services"][name] for name in PROJECT["services"] if name != "setup"}}
    services["web"] = web
    host.answer(config=json.dumps({**PROJECT, "services": services, "volumes": {"data": volume}}))
    host.engine.pop("/volumes/demo_data", None)
    host.engine |= {f"/volumes/{volume['Name']}": volume for volume in existing}
    return host.info()


def test_a_volume_belongs_to_whom_its_label_names(host: Host, tmp_path: Path) -> None:
    existing = [{"Name": "demo_data", "Mountpoint": str(tmp_path)}]
    stale = {"name": "demo_data", "owner": "12345:12345", "service": "web", "target": "/data"}
    assert with_volume(host, f"{os.getuid()}:{os.getgid()}", existing)["converged"]
    for missing_or_wrong in (existing, []):
        result = with_volume(host, "12345:12345", missing_or_wrong)
        assert (result["converged"], result["stale_volumes"]) == (False, [stale])


def test_only_the_vault_service_is_queried_for_its_version(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose_info.version, "ask", lambda address: f"asked at {address}")
    assert all("reported" not in service for service in host.info()["services"].values())
    assert host.info(vault="web")["services"]["web"]["reported"] == "asked at 172.30.0.2"
    assert host.info(vault="setup")["services"]["setup"]["reported"] == "", "it does not run"
    assert host.info(vault="no such service")["converged"]

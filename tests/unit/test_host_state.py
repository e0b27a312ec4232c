"""What host_info reads of firewalls, Docker and disks."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils import docker_state, firewalls
from ansible_collections.openmates.server.plugins.module_utils.docker_api import DockerProblem

# As systemd prints them, read on Debian 13: a firewalld that was just installed, and the package nftables.
SHOWN = """\
Id=firewalld.service
ActiveState=active
UnitFileState=enabled

Id=nftables.service
ActiveState=inactive
UnitFileState=disabled

Id=netfilter-persistent.service
ActiveState=active
UnitFileState=static

Id=ferm.service
ActiveState=inactive
UnitFileState=enabled
"""


def test_firewalls_that_are_active_or_start_at_boot_are_found(tmp_path: Path) -> None:
    conf = tmp_path / "ufw.conf"
    packages = dict.fromkeys(["firewalld", "nftables", "netfilter-persistent", "ferm", "ufw"], "installed")
    conf.write_text("# ENABLED=yes\nENABLED=no\n")
    assert firewalls.in_force(packages, lambda _: SHOWN, conf) == ["ferm", "firewalld", "netfilter-persistent"]
    conf.write_text("ENABLED=yes\nLOGLEVEL=low\n")
    assert "ufw" in firewalls.in_force(packages, lambda _: SHOWN, conf)


def test_systemd_is_asked_about_installed_firewalls_only() -> None:
    asked: list[list[str]] = []
    firewalls.in_force({"nftables": "installed"}, lambda command: asked.append(command) or "")
    assert [name for name in asked[0] if name in firewalls.UNITS] == ["nftables"]
    assert firewalls.in_force({}, lambda _: pytest.fail("nothing to ask about")) == []


class Engine:
    """Answers like Docker 26.1."""

    def __init__(self, **labels: dict) -> None:
        self.labels = labels

    def call(self, _: str, path: str) -> object:
        return {
            "/info": {"DockerRootDir": "/var/lib/docker"},
            "/volumes": {
                "Volumes": [
                    {"Name": "openmates-cache-data", "Labels": {"com.docker.compose.project": "openmates-core"}},
                    {"Name": "openmates-restored", "Labels": None},
                    {"Name": "shop-data", "Labels": {"com.docker.compose.project": "shop"}},
                ]
            },
            "/networks": [
                {"Name": "bridge", "Labels": {}, "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}},
                {"Name": "host", "Labels": {}, "IPAM": {"Config": None}},
                {"Name": "openmates", "Labels": {}, "IPAM": {"Config": [{"Subnet": "172.30.0.0/24"}]}},
            ],
            "/containers/json?all=1": [
                {
                    "Names": ["/api"],
                    "Labels": {
                        "com.docker.compose.project": "openmates",
                        "com.docker.compose.project.working_dir": "/srv/x",
                    },
                }
            ],
        }[path]


def test_objects_with_names_of_the_project_are_read_from_a_running_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_state, "RUNNING", tmp_path / "docker.pid")
    assert docker_state.found(Engine()) == {}, "a connection would start the engine"
    (tmp_path / "docker.pid").touch()
    found = docker_state.found(Engine())
    assert found["root"] == "/var/lib/docker"
    assert found["subnets"] == [{"network": "bridge", "subnet": "172.17.0.0/16"}], "those of other networks"
    assert [(entry["kind"], entry["name"], entry["project"], entry["directory"]) for entry in found["objects"]] == [
        ("volume", "openmates-cache-data", "openmates-core", ""),
        ("volume", "openmates-restored", "", ""),
        ("network", "openmates", "", ""),
        ("container", "api", "openmates", "/srv/x"),
    ]


def test_an_engine_that_does_not_answer_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def call(self, *_: str) -> None:
            raise DockerProblem("Docker does not answer")

    (tmp_path / "docker.pid").touch()
    monkeypatch.setattr(docker_state, "RUNNING", tmp_path / "docker.pid")
    assert docker_state.found(Silent()) == {}


def test_the_disk_of_a_directory_now_and_after_a_boot(tmp_path: Path) -> None:
    etc, data = tmp_path / "etc", tmp_path / "mnt/my data"
    (etc / "systemd/system").mkdir(parents=True)
    data.mkdir(parents=True)
    wanted = f"{data}/docker"
    (etc / "fstab").write_text("# comment\nUUID=1 / ext4 defaults 0 1\n")
    found = docker_state.disk_of(wanted, {"/", str(data)}, etc)
    assert found == {"path": wanted, "mount": str(data), "mount_at_boot": "/"}
    with (etc / "fstab").open("a") as table:
        table.write(f"LABEL=x {str(data).replace(' ', chr(92) + '040')}/ ext4 nofail 0 2\n")
    assert docker_state.disk_of(wanted, {"/"}, etc)["mount_at_boot"] == str(data)
    (etc / "fstab").unlink()
    (etc / "systemd/system/x.mount").write_text(f"[Mount]\nWhat=/dev/sdb\nWhere={tmp_path}/mnt\n")
    assert docker_state.disk_of(wanted, {"/"}, etc)["mount_at_boot"] == f"{tmp_path}/mnt"


def test_a_link_in_place_of_the_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "docker").symlink_to(tmp_path / "volume")
    assert docker_state.disk_of(str(tmp_path / "docker"), {"/"})["path"] == str(tmp_path / "volume")


def test_engines_that_no_package_brought_are_found(tmp_path: Path) -> None:
    assert docker_state.other_engines(tmp_path) == []
    (tmp_path / "snap/bin").mkdir(parents=True)
    (tmp_path / "snap/bin/docker").touch()
    assert docker_state.other_engines(tmp_path) == ["/snap/bin/docker"]

"""The host_info module's parsers."""

from __future__ import annotations

import fcntl
import platform
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils import docker_state, host_facts
from ansible_collections.openmates.server.plugins.module_utils.file_lock import locked
from ansible_collections.openmates.server.plugins.modules import host_info

DPKG = """\
Package: chrony
Status: install ok installed
Version: 4.6

Package: half
Status: install ok half-configured

Package: gone
Status: deinstall ok config-files

Package: held
Status: hold ok installed
Description: the word
 Package: chrony
"""


def test_packages_by_their_state_without_those_that_left_but_their_configuration() -> None:
    assert host_info.package_states(DPKG) == {"chrony": "installed", "half": "half-configured", "held": "installed"}


@pytest.mark.parametrize(("effective", "expected"), [("0000003fffffffff", True), ("0000003ffcfcffff", False)])
def test_capabilities_are_read_from_the_process_itself(effective: str, expected: bool) -> None:
    status = f"Name:\tpython3\nCapPrm:\t0000003fffffffff\nCapEff:\t{effective}\n"
    assert host_info.has_capability(host_info.CAP_SYS_TIME, status) is expected


def test_the_topmost_mount_counts() -> None:
    table = "tmpfs /tmp tmpfs rw,nosuid 0 0\nproc /proc proc rw 0 0\ntmpfs /tmp tmpfs rw,noexec 0 0\n"
    assert host_info.mounts(table) == {"/tmp": ["rw", "noexec"], "/proc": ["rw"]}


def test_the_databases_version_is_that_of_the_volume_below_dockers_root(run_module, tmp_path) -> None:
    volume = tmp_path / "volumes/the-volume/_data"
    volume.mkdir(parents=True)
    (volume / "PG_VERSION").write_text("17\n")
    given = {"docker_root": str(tmp_path), "database_volume": "the-volume"}
    assert run_module(host_info.main, **given)["database_version"] == "17"
    assert run_module(host_info.main, docker_root=str(tmp_path))["database_version"] == ""


def test_this_machine_answers(run_module) -> None:
    result = run_module(host_info.main)
    assert result["packages"]["dpkg"] == "installed"
    assert "root" in result["users"] and set(result["can"]) >= {"clock", "modules", "zram", "audit", "apparmor", "usb"}


def test_its_facts_are_those_of_ansible_without_the_slow_ones(run_module) -> None:
    facts = run_module(host_info.main)["ansible_facts"]
    assert facts["ansible_architecture"] == platform.machine() and facts["ansible_distribution"] == "Debian"
    assert facts["ansible_memtotal_mb"] > 0 and "address" in facts["ansible_default_ipv4"]
    assert "ansible_devices" not in facts


def test_disks_are_devices_only() -> None:
    table = "overlay / overlay rw 0 0\n/dev/vda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n"
    [disk] = host_facts.disks(table)
    assert (disk["mount"], disk["device"]) == ("/", "/dev/vda1")
    assert 0 < disk["size_available"] <= disk["size_total"]


def test_memory_is_in_megabytes() -> None:
    assert host_facts.memory("MemTotal:        7946420 kB\nMemFree: 1 kB\n") == 7760


@pytest.mark.parametrize(("gateway", "asked"), [("192.0.2.1", {"a.test"}), ("", {"a.test", "registry.test"})])
def test_registries_are_looked_up_where_there_is_no_way_by_ipv4(run_module, monkeypatch, gateway, asked) -> None:
    facts = {"ansible_default_ipv4": {"gateway": gateway} if gateway else {}}
    monkeypatch.setattr(host_info.host_facts, "collected", lambda module: facts)
    monkeypatch.setattr(host_info.name_servers, "addresses", dict.fromkeys)
    given = {"names": ["a.test"], "names_without_ipv4": ["registry.test"]}
    assert set(run_module(host_info.main, **given)["resolved"]) == asked


def test_the_access_to_dockers_socket(tmp_path: Path) -> None:
    file = tmp_path / "docker.sock"
    assert docker_state.access(file) == ""
    file.touch(0o600)
    assert docker_state.access(file) == f"{file.owner()}:{file.group()} 600"


def test_the_release_is_the_one_that_was_recorded_last(tmp_path: Path) -> None:
    project = tmp_path / "project"
    assert host_info.newest_release(tmp_path / "none", project) == {}
    for name in ("20261126T210000Z", "20261126T220000Z", "20261125T230000Z"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "release.json").write_text('{"origin": "version"}')
    (tmp_path / "20261127T000000Z").mkdir()  # its recording was cut off
    found = host_info.newest_release(tmp_path, project)
    assert found == {"id": "20261126T220000Z", "origin": "version", "overwritten": False}


def test_files_that_an_unfinished_run_has_left_differ_from_the_release(tmp_path: Path) -> None:
    release, project = tmp_path / "releases/20261126T210000Z", tmp_path / "project"
    for file in (release / "files/docker-compose.yml", project / "docker-compose.yml", project / "secrets/api/TOKEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("image: api:v1")
    (release / "release.json").write_text("{}")
    assert not host_info.newest_release(release.parent, project)["overwritten"]  # secrets are no part of a release
    (project / "docker-compose.yml").write_text("image: api:v2")
    assert host_info.newest_release(release.parent, project)["overwritten"]
    (project / "docker-compose.yml").write_text("image: api:v1")
    (project / "new.yml").touch()
    assert host_info.newest_release(release.parent, project)["overwritten"]


def test_a_roll_out_is_under_way_as_long_as_its_lock_is_held(tmp_path: Path) -> None:
    file = tmp_path / "rollout.lock"
    assert not locked(file)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert locked(file)
    assert not locked(file)


@pytest.mark.parametrize(
    ("machine", "flags", "lacks"),
    [
        ("x86_64", "fpu sse2 pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm avx", []),
        ("x86_64", "fpu sse2 pni cx16", ["lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"]),  # QEMU's qemu64
        ("aarch64", "fp asimd", []),
    ],
)
def test_instructions_that_a_processor_lacks(machine: str, flags: str, lacks: list[str]) -> None:
    cpuinfo = f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n"
    assert host_info.processor_lacks(machine, cpuinfo) == lacks

"""What another installation left in Docker is refused, and its data are not left behind on another disk."""

from __future__ import annotations

import pytest
from test_preflight import FACTS, good, problems

PROVISIONED = "/opt/openmates"
# As Docker reports OpenMates' own installer: a project of another name, and a network that it made by hand.
INSTALLER = [
    {"kind": "volume", "name": "openmates-postgres-data", "project": "openmates-core", "directory": ""},
    {"kind": "volume", "name": "openmates-loki-wal", "project": "openmates-core", "directory": ""},
    {"kind": "network", "name": "openmates", "project": "", "directory": ""},
    {"kind": "container", "name": "openmates-web", "project": "shop", "directory": "/srv/shop"},
]
OURS = [
    {"kind": "volume", "name": "openmates-postgres-data", "project": "openmates", "directory": ""},
    {"kind": "network", "name": "openmates", "project": "openmates", "directory": ""},
    {"kind": "container", "name": "openmates-api-1", "project": "openmates", "directory": PROVISIONED},
]


def settings(**more: object) -> dict:
    found = good("prod") | more
    found["openmates_services"]["cms-database"]["volumes"] = {"postgres-data": {"owner": "image"}}
    return found


def host(*objects: dict, root: str = "/var/lib/docker", **more: object) -> dict:
    return {"docker": {"root": root, "objects": list(objects)}, "project_src": PROVISIONED, **more}


def test_what_site_yml_made_is_no_problem() -> None:
    assert problems(settings(), host_state=host(*OURS)) == []


def test_volumes_and_network_of_the_other_installer_are_refused_with_the_remedy() -> None:
    network, volumes = problems(settings(), host_state=host(*INSTALLER))
    assert "sudo docker network rm openmates" in network
    assert "openmates-postgres-data were made by the Compose project openmates-core" in volumes
    assert "sudo docker volume rm openmates-postgres-data" in volumes and "openmates_adopt_volumes" in volumes
    assert "loki-wal" not in volumes, "a name that no service uses is left alone"


def test_a_volume_is_taken_over_by_its_name_alone() -> None:
    restored = {"kind": "volume", "name": "openmates-postgres-data", "project": "", "directory": ""}
    [found] = problems(settings(), host_state=host(restored))
    assert "made by another program than Compose" in found
    assert problems(settings(openmates_adopt_volumes=["openmates-postgres-data"]), host_state=host(restored)) == []
    [found] = problems(settings(openmates_adopt_volumes=["postgres-data"]), host_state=host())
    assert "no service has a volume postgres-data" in found


@pytest.mark.parametrize(
    ("container", "words"),
    [
        (
            {"name": "openmates-api-1", "project": "openmates", "directory": "/srv/OpenMates"},
            ["of the Compose project in /srv/OpenMates", "--project-directory /srv/OpenMates"],
        ),
        ({"name": "x", "project": "openmates", "directory": "/srv/OpenMates"}, ["names of this project, x"]),
        ({"name": "openmates-api-1", "project": "", "directory": ""}, ["docker rm --force openmates-api-1"]),
    ],
)
def test_containers_of_others_that_compose_would_replace_are_refused(container: dict, words: list[str]) -> None:
    [found] = problems(settings(), host_state=host({"kind": "container", **container}))
    assert all(word in found for word in words), found


def test_dockers_data_on_another_disk_are_judged_there() -> None:
    small = {"mount": "/mnt/data", "size_total": 9 * 10**9, "size_available": 8 * 10**9}
    facts = FACTS | {"mounts": [*FACTS["mounts"], small]}
    moved = settings(openmates_docker_options={"data-root": "/mnt/data/docker"})
    [found] = problems(moved, facts)
    assert "the disk at /mnt/data has 9.0 GB" in found
    assert problems(settings(), facts) == []
    linked = {"docker_disk": {"path": "/mnt/data/docker", "mount": "/mnt/data", "mount_at_boot": "/mnt/data"}}
    assert "the disk at /mnt/data" in problems(settings(), facts, host_state=linked)[0]


@pytest.mark.parametrize(
    ("now", "boot", "words"),
    [
        ("/mnt/data", "/", ["mounted now but not after the next boot", "/etc/fstab"]),
        ("/", "/mnt/data", ["/mnt/data", "is not mounted", "sudo mount /mnt/data"]),
        ("/mnt/data", "/mnt/data", []),
        ("/", "/", []),
    ],
)
def test_the_disk_of_dockers_data_is_there_now_and_after_a_boot(now: str, boot: str, words: list[str]) -> None:
    disk = {"docker_disk": {"path": "/mnt/data/docker", "mount": now, "mount_at_boot": boot}}
    found = problems(settings(openmates_docker_options={"data-root": "/mnt/data/docker"}), host_state=disk)
    assert len(found) == bool(words) and all(word in found[0] for word in words)


def test_another_data_root_does_not_leave_volumes_behind() -> None:
    disk = {"path": "/mnt/data/docker", "mount": "/mnt/data", "mount_at_boot": "/mnt/data"}
    moved = settings(openmates_docker_options={"data-root": "/mnt/data/docker"})
    [found] = problems(moved, host_state=host(*OURS, docker_disk=disk))
    assert "the volumes are in /var/lib/docker" in found and "cp --archive /var/lib/docker/. /mnt/data/docker/" in found
    assert problems(moved, host_state=host(*OURS, root="/mnt/data/docker", docker_disk=disk)) == []
    assert problems(moved, host_state=host(docker_disk=disk)) == [], "an engine without volumes starts anew"
    forgotten = host(*OURS, root="/mnt/data/docker", docker_disk={"path": "/var/lib/docker"})
    assert "would be /var/lib/docker" in problems(settings(), host_state=forgotten)[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data-root": "mnt/data"}, ["data-root 'mnt/data' is not a directory"]),
        ({"mtu": 1450}, ["docker0 only", "openmates_mtu"]),
        ({"dns": ["127.0.0.53"]}, ["127.0.0.53 cannot be reached from a container"]),
        ({"dns": ["fe80::1"]}, ["fe80::1 cannot be reached"]),
        ({"dns": "resolver"}, ["'resolver' is not an address"]),
        ({"dns": ["192.0.2.53"]}, []),
    ],
)
def test_options_of_the_daemon_without_the_wanted_effect_are_refused(options: dict, words: list[str]) -> None:
    found = problems(settings(openmates_docker_options=options))
    assert len(found) == bool(words) and all(word in found[0] for word in words)

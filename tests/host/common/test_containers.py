"""Each container has the user, rights, limits and mounts that are typed here."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from lab import STACK, wait_until

DATA = "/var/lib/docker/volumes/openmates-{}/_data"
LOGS = f"{DATA.format('api-logs')}:/app/logs:rw"
CMS_TMPFS = {"/tmp", "/directus/extensions", "/directus/database"}


class Expected(NamedTuple):
    """A container's user and group, its memory limit in MB, its mounts as source:target:mode, its tmpfs."""

    user: str
    memory: int
    mounts: frozenset[str] | set[str] = frozenset()
    tmpfs: frozenset[str] | set[str] = frozenset({"/tmp"})


EXPECTED = {
    "api": Expected(
        "1000:1000",
        640,
        {
            f"{STACK}/config/bin:/openmates:ro",
            f"{STACK}/secrets/api:/run/secrets:ro",
            f"{STACK}/secrets/vault-data:/vault-data:ro",
            f"{DATA.format('shared-cache')}:/shared/cache:rw",
            f"{DATA.format('cms-schema')}:/cms-schema:ro",
            LOGS,
        },
    ),
    "task-worker": Expected(
        "1000:1000",
        1088,
        {
            f"{STACK}/config/bin:/openmates:ro",
            f"{STACK}/secrets/task-worker:/run/secrets:ro",
            f"{STACK}/secrets/vault-data:/vault-data:ro",
            LOGS,
        },
    ),
    "task-scheduler": Expected(
        "1000:1000",
        320,
        {
            f"{STACK}/config/bin:/openmates:ro",
            f"{STACK}/secrets/task-scheduler:/run/secrets:ro",
            f"{STACK}/secrets/vault-data:/vault-data:ro",
            f"{DATA.format('celerybeat-data')}:/celerybeat-data:rw",
            LOGS,
        },
    ),
    "app-sample": Expected("1000:1000", 128),
    "cms": Expected(
        "1000:1000",
        512,
        {
            f"{STACK}/config/cms-setup:/openmates:ro",
            f"{STACK}/secrets/cms:/run/secrets:ro",
            f"{DATA.format('cms-uploads')}:/directus/uploads:rw",
        },
        CMS_TMPFS,
    ),
    "cms-setup": Expected(
        "1000:1000",
        384,
        {
            f"{STACK}/config/bin:/openmates:ro",
            f"{STACK}/secrets/cms-setup:/run/secrets:ro",
            f"{DATA.format('cms-schema')}:/cms-schema:rw",
        },
    ),
    "cms-database": Expected(
        "70:70",
        320,
        {
            f"{STACK}/config/cms-database:/openmates:ro",
            f"{STACK}/secrets/cms-database:/run/secrets:ro",
            f"{DATA.format('postgres-data')}:/var/lib/postgresql/data:rw",
        },
        {"/tmp", "/var/run/postgresql"},
    ),
    "cache": Expected(
        "999:999", 640, {f"{STACK}/secrets/cache:/run/secrets:ro", f"{DATA.format('cache-data')}:/data:rw"}
    ),
    "vault": Expected(
        "100:1000",
        192,
        {f"{STACK}/config/vault:/openbao/config:ro", f"{DATA.format('vault-data')}:/openbao/file:rw"},
        {"/tmp", "/openbao/logs"},
    ),
    "vault-setup": Expected(
        "1000:1000",
        32,
        {f"{STACK}/config/vault-setup:/openmates:ro", f"{STACK}/secrets/vault-data:/vault-data:ro"},
        {"/tmp", "/openbao/file", "/openbao/logs"},
    ),
    "prometheus": Expected(
        "65534:65534",
        256,
        {f"{STACK}/config/prometheus:/etc/prometheus:ro", f"{DATA.format('prometheus-data')}:/prometheus:rw"},
    ),
    "alertmanager": Expected(
        "65534:65534",
        64,
        {
            f"{STACK}/config/alertmanager:/etc/alertmanager:ro",
            f"{STACK}/secrets/alertmanager:/run/secrets:ro",
            f"{DATA.format('alertmanager-data')}:/alertmanager:rw",
        },
    ),
    "loki": Expected("10001:10001", 384, {f"{STACK}/config/loki:/etc/loki:ro", f"{DATA.format('loki-data')}:/loki:rw"}),
    "promtail": Expected(  # the log files are root's; without a capability, root is only their owner
        "0:0",
        128,
        {
            f"{STACK}/config/promtail:/etc/promtail:ro",
            "/var/lib/docker/containers:/var/lib/docker/containers:ro",
            f"{DATA.format('promtail-data')}:/promtail:rw",
        },
    ),
    "cadvisor": Expected("0:0", 96, {"/sys/fs/cgroup:/sys/fs/cgroup:ro"}),
    "grafana": Expected(
        "472:0",
        480,
        {
            f"{STACK}/config/grafana/start:/openmates:ro",
            f"{STACK}/config/grafana/provisioning:/etc/grafana/provisioning:ro",
            f"{STACK}/secrets/grafana:/run/secrets:ro",
            f"{DATA.format('grafana-data')}:/var/lib/grafana:rw",
        },
    ),
}
#: The lab's development server has its collections from a schema file, not from OpenMates' cms-setup.
WITH_A_SCHEMA_FILE = {
    "cms": EXPECTED["cms"]._replace(
        mounts={f"{STACK}/secrets/cms:/run/secrets:ro", f"{DATA.format('cms-uploads')}:/directus/uploads:rw"}
    ),
    "cms-setup": EXPECTED["cms-setup"]._replace(
        mounts={
            f"{STACK}/config/cms-setup:/openmates:ro",
            f"{STACK}/secrets/cms-setup:/run/secrets:ro",
            f"{DATA.format('cms-schema')}:/cms-schema:rw",
        },
        tmpfs=CMS_TMPFS | {"/directus/uploads"},
    ),
}
#: No service needs a capability, and none is root with any.
ADDED_CAPABILITIES: dict[str, list[str]] = {}
NO_CAPABILITIES = "0000000000000000"

# For each process of each container: the container, its main process or another, and what the kernel lets it do.
LOOK_INSIDE = r"""
for id in $(docker ps --quiet --no-trunc --filter label=com.docker.compose.project=openmates); do
  main=$(docker inspect --format '{{.State.Pid}}' $id)
  for pid in $(cat /sys/fs/cgroup/*/docker/$id/cgroup.procs /sys/fs/cgroup/system.slice/docker-$id.scope/cgroup.procs \
      2>/dev/null | sort -nu); do
    root=$(awk '$5 == "/" { print $6; exit }' /proc/$pid/mountinfo) || continue
    awk -v id=$id -v root=${root%%,*} '
      /^(Uid|Gid|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Name):/ { value[$1] = $2 }
      END { print id, value["Uid:"] ":" value["Gid:"], value["CapInh:"], value["CapPrm:"], value["CapEff:"],
        value["CapBnd:"], value["CapAmb:"], value["NoNewPrivs:"], value["Seccomp:"], root, value["Name:"] }
    ' /proc/$pid/status || continue
  done
done
"""


@pytest.fixture(scope="module")
def table(server) -> dict[str, Expected]:
    return EXPECTED | (WITH_A_SCHEMA_FILE if server.environment == "dev" else {})


@pytest.fixture(scope="module")
def containers(server) -> dict[str, dict]:
    return server.containers()


@pytest.fixture(scope="module")
def processes(server, containers) -> dict[str, list[list[str]]]:
    """What the kernel says about the running processes, by service."""
    names = {container["Id"]: name for name, container in containers.items()}

    def look() -> list[list[str]] | None:
        lines = [line.split() for line in server.run(LOOK_INSIDE).splitlines()]
        # A health check that is just being started is runc still, which confines itself last of all.
        return None if any(line[-1].startswith(("runc", "exe")) for line in lines) else lines

    found: dict[str, list[list[str]]] = {}
    for container, *facts, _ in wait_until(look, "no process is just being started", 20):
        found.setdefault(names[container], []).append(facts)
    return found


def test_every_container_is_in_the_table(containers):
    assert set(containers) == set(EXPECTED)


@pytest.mark.parametrize("service", sorted(EXPECTED))
def test_docker_has_the_containers_options(containers, table, service):
    container, expected = containers[service], table[service]
    told = container["HostConfig"]
    assert container["Config"]["User"] == expected.user
    assert told["CapDrop"] == ["ALL"]
    assert (told["CapAdd"] or []) == ADDED_CAPABILITIES.get(service, [])
    assert told["SecurityOpt"] == ["no-new-privileges:true"]
    assert told["ReadonlyRootfs"] is True
    assert told["Privileged"] is False
    assert (told["Devices"] or []) == []
    assert (told["NetworkMode"], told["PidMode"], told["IpcMode"]) == ("openmates", "", "private")
    assert told["PidsLimit"] == 256
    assert told["Memory"] == expected.memory * 2**20


@pytest.mark.parametrize("service", sorted(EXPECTED))
def test_the_container_sees_of_the_host_what_it_needs(containers, table, service):
    container, expected = containers[service], table[service]
    mounts = {
        f"{mount['Source']}:{mount['Destination']}:{'rw' if mount['RW'] else 'ro'}" for mount in container["Mounts"]
    }
    assert mounts == expected.mounts
    assert set(container["HostConfig"]["Tmpfs"]) == expected.tmpfs


@pytest.mark.parametrize("service", sorted(set(EXPECTED) - {"vault-setup", "cms-setup"}))
def test_the_kernel_holds_the_container_to_it(processes, service):
    confined = [*[NO_CAPABILITIES] * 5, "1", "2", "ro"]  # no new privileges, system calls filtered, root read-only
    assert processes[service], "it has no process"
    assert [facts for facts in processes[service] if facts != [EXPECTED[service].user, *confined]] == []


def test_no_container_has_docker_s_socket(containers):
    assert "docker.sock" not in str([container["Mounts"] for container in containers.values()])

"""All 14 services of the guidelines exist and are in their expected state."""

from __future__ import annotations

import pytest

from lab import LONG_RUNNING, ONE_SHOTS, SERVICE_PORTS, recap, wait_until


def test_the_services_are_the_guidelines_services(server):
    apps = {"app-sample"}
    assert set(server.containers()) == LONG_RUNNING | ONE_SHOTS | apps


@pytest.mark.parametrize("service", sorted(LONG_RUNNING))
def test_long_running_service_is_healthy(server, service):
    def healthy() -> bool:
        state = server.containers()[service]["State"]
        return (state["Status"], state["Health"]["Status"]) == ("running", "healthy")

    wait_until(healthy, f"{service} runs and is healthy", 90)


@pytest.mark.parametrize("service", sorted(ONE_SHOTS))
def test_one_shot_exited_with_0(server, service):
    state = server.containers()[service]["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)


def test_the_api_is_ready_with_every_dependency(server):
    server.wait_until_ready()
    assert {
        "vault_token",
        "vault_kv",
        "vault_transit",
        "directus",
        "cache",
        "worker",
        "scheduler",
        "app:app-sample",
    } == set(server.readiness()["checks"])


@pytest.mark.parametrize("service", sorted(set(SERVICE_PORTS) - {"api"}))
def test_service_is_reachable_on_the_internal_network(server, service):
    connect = f"import socket; socket.create_connection(('{service}', {SERVICE_PORTS[service]}), 5)"
    server.compose(f'exec -T api python3 -c "{connect}"')


def test_memory_limits_are_in_force_and_leave_room_for_the_host(server):
    limits = {name: container["HostConfig"]["Memory"] for name, container in server.containers().items()}
    assert all(limits.values()), limits
    assert sum(limits.values()) <= 5.6 * 2**30  # docs/resources.md: 700 MB for the system, 1,728 for a deploy


def test_a_second_run_in_check_mode_finds_nothing_to_change(server):
    run = server.playbook("site.yml", "--check", "--diff")
    assert run.returncode == 0, run.stdout[-3000:]
    assert recap(run.stdout)["changed"] == 0, run.stdout[-3000:]

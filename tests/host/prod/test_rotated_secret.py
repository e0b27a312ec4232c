"""A secret that the operator changes: which containers are replaced, and what their labels tell."""

from __future__ import annotations

import secrets

from lab import recap

KEY = "/var/lib/openmates/digest.key"


def ids(server) -> dict[str, str]:
    return {service: container["Id"] for service, container in server.containers().items()}


def test_the_key_of_the_labels_is_roots_alone(server):
    assert server.run(f"stat -c '%a %U %G %s' {KEY}") == "400 root root 32"


def test_a_changed_secret_replaces_the_service_that_mounts_it_and_no_other(server):
    before = ids(server)
    password = secrets.token_urlsafe(24)
    rotated = server.playbook("site.yml", "--tags", "stack", "-e", f"openmates_grafana_password={password}")
    assert rotated.returncode == 0, rotated.stdout[-3000:]
    after = ids(server)
    assert {service for service in before | after if before.get(service) != after.get(service)} == {"grafana"}

    restored = server.playbook("site.yml", "--tags", "stack")
    assert restored.returncode == 0, restored.stdout[-3000:]
    settled = ids(server)
    assert {service for service in after | settled if after.get(service) != settled.get(service)} == {"grafana"}
    again = server.playbook("site.yml", "--tags", "stack")
    assert (again.returncode, recap(again.stdout)["changed"]) == (0, 0), again.stdout[-3000:]
    assert ids(server) == settled

"""A secret that the operator changes: which containers are replaced, and what their labels tell."""

from __future__ import annotations

import secrets

from lab import recap

KEY = "/var/lib/openmates/digest.key"


def ids(server) -> dict[str, str]:
    return {service: container["Id"] for service, container in server.containers().items()}


def test_the_key_of_the_labels_is_roots_alone(server):
    assert server.run(f"stat -c '%a %U %G %s' {KEY}") == "400 root root 32"


def test_a_changed_secret_replaces_the_services_that_mount_it_and_no_other(server):
    """The database's among them: its container sets the password, and Directus connects with it."""
    before = ids(server)
    changed = [f"openmates_{name}_password={secrets.token_urlsafe(24)}" for name in ("grafana", "database")]
    rotated = server.playbook("site.yml", "--tags", "stack", *(word for value in changed for word in ("-e", value)))
    assert rotated.returncode == 0, rotated.stdout[-3000:]
    after = ids(server)
    replaced = {"grafana", "cms-database", "cms"}
    assert {service for service in before | after if before.get(service) != after.get(service)} == replaced
    server.wait_until_ready()

    restored = server.playbook("site.yml", "--tags", "stack")
    assert restored.returncode == 0, restored.stdout[-3000:]
    settled = ids(server)
    assert {service for service in after | settled if after.get(service) != settled.get(service)} == replaced
    again = server.playbook("site.yml", "--tags", "stack")
    assert (again.returncode, recap(again.stdout)["changed"]) == (0, 0), again.stdout[-3000:]
    assert ids(server) == settled

"""The log of a service, as an operator looks for a line in it."""

from __future__ import annotations

import secrets

from lab import Server

PLAYBOOK = "playbooks/logs.yml"


def test_a_line_of_the_api_is_found_by_the_services_name_and_where_it_is_from(server: Server) -> None:
    canary = f"canary-{secrets.token_hex(8)}"
    # To the log of the container, as the service itself writes.
    container = server.containers()["api"]["Id"]
    server.run(f"docker exec {container} sh -c 'echo {{{{ {canary} }}}} > /proc/1/fd/1'")
    run = server.playbook(PLAYBOOK, "-e", "service=api", "-e", "since=5m", "-e", f"grep={canary}")
    assert run.returncode == 0 and "changed=0" in run.stdout, run.stdout
    (line,) = [found for found in run.stdout.splitlines() if f"{{{{ {canary} }}}}" in found]
    assert container[:12] in line
    # The lab's stand-in for Loki has no API for queries.
    assert "1 line of api in the last 5m" in run.stdout and "from Docker, without containers that were" in run.stdout


def test_an_unknown_service_a_wrong_time_and_a_wrong_search_text_are_refused(server: Server) -> None:
    run = server.playbook(PLAYBOOK, "-e", "service=apo")
    assert run.returncode != 0 and "apo is no service of" in run.stdout and "task-worker" in run.stdout
    run = server.playbook(PLAYBOOK, "-e", "service=api", "-e", "since=soon")
    assert run.returncode != 0 and "soon is no duration (since)" in run.stdout
    run = server.playbook(PLAYBOOK, "-e", "service=api", "-e", "grep=(")
    assert run.returncode != 0 and "is no regular expression" in run.stdout

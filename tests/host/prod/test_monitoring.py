"""Prometheus reads all that it should, the host's metrics are for it alone, and alerts arrive at a real receiver."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from outside import answers

from lab import FOR_PROMETHEUS, LONG_RUNNING, ROOT, STACK, wait_until

RECEIVER = "http://198.51.100.4/received"  # the lab's, to which every lab host sends its alerts
PROMETHEUS = "172.30.0.13"
# Typed in: the jobs besides those of the host.
JOBS = {*("alertmanager", "api", "cadvisor", "grafana", "loki", "prometheus", "promtail", "task-worker", "vault")}
#: Panels that show trouble only, or what has not happened.
MAY_BE_EMPTY = {
    *("overview: Alerts", "overview: Services that do not run", "api: Parts of the readiness that fail"),
    *("api: Most frequent routes", "api: What clients get", "tasks: Failed tasks"),
    *("containers: Starts", "containers: Killed for memory", "containers: Health checks that fail"),
}
METRICS = "/var/lib/openmates/metrics"
DOWN = "promtail"  # which nothing repairs once an operator has stopped it


def ask(server, path: str) -> dict:
    """An answer of Prometheus."""
    return json.loads(server.run(f"curl -sfg 'http://{PROMETHEUS}:9090/api/v1/{path}'"))["data"]


def targets(server) -> list[dict]:
    return ask(server, "targets")["activeTargets"]


def received(server, channel: str, since: float) -> list[str]:
    with urllib.request.urlopen(RECEIVER, timeout=60) as answer:
        found = json.load(answer)
    return [i["text"] for i in found if (i["channel"], i["host"]) == (channel, server.name) and i["time"] >= since]


@pytest.fixture(scope="module")
def planted(server) -> Iterator[float]:
    """A service is stopped as long as these tests run, since its alert takes a minute; the time of it."""
    wait_until(
        lambda: {t["health"] for t in ask(server, "targets")["activeTargets"]} == {"up"}, "all targets are up", 90
    )
    begun = time.time()
    server.run(f"docker stop openmates-{DOWN}-1")
    yield begun
    server.run(f"docker start openmates-{DOWN}-1")


def test_every_target_is_up_and_the_host_is_among_them(server, planted):
    found = targets(server)
    assert {target["labels"]["job"] for target in found} == JOBS | set(FOR_PROMETHEUS[server.environment])
    unwell = {target["labels"]["job"]: target["lastError"] for target in found if target["health"] != "up"}
    assert set(unwell) <= {DOWN}, unwell


def test_the_metrics_name_the_services_of_the_containers(server, planted):
    recent = "last_over_time(openmates_container_info[40s])"  # without the containers of before
    found = ask(server, f"query?query={recent}")["result"]
    named = {(sample["metric"]["service"], sample["metric"]["container_id"]) for sample in found}
    running = {(name, about["Id"][:12]) for name, about in server.containers().items() if about["State"]["Running"]}
    assert {pair for pair in named if pair[0] != DOWN} == running
    assert ask(server, "query?query=openmates_host_part_failed==1")["result"] == []


def without_data(server) -> set[str]:
    """The panels of Prometheus' dashboards for which it has nothing now."""
    empty = set()
    for file in sorted((ROOT / "files/compose/config/grafana/provisioning/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"] if panel["datasource"]["type"] == "prometheus" else ():
                text = quote(target["expr"].replace("$__rate_interval", "2m"))
                if not ask(server, f"query?query={text}")["result"]:
                    empty.add(f"{file.stem}: {panel['title']}")
    return empty


def by_service(server, metric: str) -> dict[str, float]:
    """A metric of cAdvisor's, which has the container's id alone, by service."""
    named = f'{metric}{{container_id!=""}} * on (container_id) group_left (service) openmates_container_info'
    found = ask(server, f"query?query={quote(f'max by (service) ({named})')}")["result"]
    return {one["metric"]["service"]: float(one["value"][1]) for one in found}


def test_cadvisor_measures_each_container_under_its_service(server, planted):
    limits = by_service(server, "container_spec_memory_limit_bytes")
    used = by_service(server, "container_memory_working_set_bytes")
    running = {name: found for name, found in server.containers().items() if found["State"]["Running"]}
    assert len(running) >= len(LONG_RUNNING) - 1
    for name, found in running.items():
        assert limits.get(name) == found["HostConfig"]["Memory"], name
        assert 0 < used[name] <= limits[name], name


def test_the_dashboards_have_data(server, planted):
    """Apart from what shows only trouble."""
    if not server.host.file(f"{METRICS}/openmates_backup_proof.prom").exists:  # the tests of backups have not run
        made = server.playbook("playbooks/backup.yml", "-e", "prove=true")
        assert made.returncode == 0, made.stdout[-3000:]
    seen: set[str] = set()

    def complete() -> bool:
        seen.clear()
        seen.update(without_data(server) - MAY_BE_EMPTY)
        return not seen

    with contextlib.suppress(pytest.fail.Exception):
        wait_until(complete, "all panels have data", 30)  # of a rate there are two samples a minute after a start
    assert not seen


def test_only_prometheus_reaches_the_metrics_of_the_host(server, neighbour, planted):
    listening = [address.split(":") for address in FOR_PROMETHEUS[server.environment].values()]
    assert answers(server, *(f"tcp {port}" for _, port in listening)) == set()
    for address, port in listening:
        neighbour.run(f"ip route replace {address} via {server.addresses[0]}")
        assert neighbour.reaches(f"tcp {address} {port}") == set()
        connect = f"import socket; socket.create_connection(('{address}', {port}), 3)"
        refused = server.host.run(f'docker exec openmates-loki-1 /usr/bin/python3 -c "{connect}"')
        assert refused.rc != 0 and "timed out" in refused.stderr, refused.stderr
    up = ask(server, "query?query=up")["result"]
    assert {s["metric"]["job"] for s in up if s["value"][1] == "1"} >= set(FOR_PROMETHEUS[server.environment])


def test_a_test_alert_arrives_and_a_channel_that_refuses_it_is_named(server, planted):
    run = server.playbook("playbooks/alert_test.yml")
    assert run.returncode == 0 and "ntfy: arrived" in run.stdout, run.stdout
    assert any("This is a test of the alerts" in text for text in received(server, "mail", planted))
    file = f"{STACK}/secrets/alertmanager/WEBHOOK_URL"
    server.run(f"cp -p {file} /root/kept && sed -i 's#/webhook/#/refused/#' {file}")
    try:
        run = server.playbook("playbooks/alert_test.yml")
    finally:
        server.run(f"cp -p /root/kept {file} && rm /root/kept")
    assert run.returncode != 0 and "webhook: Alertmanager could not send it" in run.stdout, run.stdout
    assert "ntfy: arrived" in run.stdout and "198.51.100.4" not in run.stdout + run.stderr


def alert(server, channel: str, since: float, status: str) -> Callable[[], list[dict]]:
    def found() -> list[dict]:
        posted = [json.loads(text) for text in received(server, channel, since)]
        return [p for p in posted if p["status"] == status and p["commonLabels"].get("service") == DOWN]

    return found


def test_a_service_that_is_down_is_one_alert_which_ends(server, planted):
    (down,) = wait_until(alert(server, "webhook", planted, "firing"), f"an alert for {DOWN} arrives", 45 + 90)
    arrived = time.time() - planted
    assert down["commonLabels"]["alertname"] == "ServiceDown" and down["commonLabels"]["service"] == DOWN
    assert arrived < 45 + 90, "later than the rule's `for` and 90 s"
    (mail,) = [text for text in received(server, "mail", planted) if "ServiceDown" in text]
    assert mail.startswith(f"CRITICAL {server.name}: {DOWN} does not run, or ends soon after each start\n")
    assert "site.yml starts it" in mail
    server.run(f"docker start openmates-{DOWN}-1")
    (up,) = wait_until(alert(server, "webhook", planted, "resolved"), "the end of the alert arrives", 90)
    assert up["commonLabels"]["alertname"] == "ServiceDown"
    assert len(alert(server, "webhook", planted, "firing")()) == 1, "one cause, one alert"

"""The genuine Alertmanager silences what follows from another alert, and not what names a cause of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from real import docker, wait_until
from rendering import render
from test_rules import CHANNELS, written

#: An alert, another one that fires at the same time, and whether that is left out.
CASES = [
    ("ServiceDown service=cms", "ApiNotReady part=directus_login", True),
    ("ServiceDown service=cms", "ApiNotReady part=cache", False),
    ("ServiceUnhealthy service=api", "ApiNotReady part=transit", False),
    ("ServiceUnhealthy service=api", "ApiAnswersFail", True),
    ("VaultSealed service=vault", "ApiNotReady part=transit", True),
    ("VaultSealed service=vault", "ServiceUnhealthy service=cache", False),
    ("ServiceUnhealthy service=cache", "VaultSealed service=vault", False),
    ("ServiceUnhealthy service=cache", "ApiNotReady part=cache", True),
    ("ServiceDown service=task-worker", "ApiNotReady part=queue:app_ai", True),
    ("ServiceDown service=task-scheduler", "ApiNotReady part=queue:app_ai", False),
    ("CacheRefusesLogin service=task-worker", "ApiNotReady part=queue:email", True),
    ("CacheRefusesLogin service=task-worker", "ApiNotReady part=queue:app_docs", False),
    ("CacheRefusesLogin service=task-worker", "ApiNotReady part=transit", False),
    ("CacheRefusesLogin service=app-docs-worker", "ApiNotReady part=queue:app_docs", True),
    ("CacheRefusesLogin service=task-scheduler", "SchedulerStopped service=task-scheduler", True),
    ("CacheRefusesLogin service=cache", "ApiNotReady part=cache", True),
    ("ServiceDown service=task-scheduler", "CacheRefusesLogin service=task-scheduler", True),
    ("ServiceDown service=cache", "CacheRefusesLogin service=task-worker", True),
    ("ServiceOutOfMemory service=loki", "ServiceDown service=loki", True),
    ("ServiceOutOfMemory service=loki", "ServiceDown service=grafana", False),
]


@pytest.fixture(scope="module")
def alertmanagers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """One for each case, with the configuration of a production server."""
    folder = tmp_path_factory.mktemp("alertmanager")
    worker = {"name": "app-docs-worker", "kind": "worker", "queues": ["app_docs"]}
    files = render("prod", folder / "inventory", openmates_apps=[worker], **CHANNELS)
    mounted = f"--volume={written(files, folder / 'files')}/config/alertmanager:/etc/alertmanager:ro"
    started: list[str] = []
    try:
        for _ in CASES:
            command = ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"]
            command += ["--cluster.listen-address="]
            image = "openmates-lab/alertmanager:latest"
            started.append(docker("run", "--detach", "--network=none", mounted, image, *command).stdout.strip())
        yield started
    finally:
        docker("rm", "--force", "--volumes", *started)


def amtool(container: str, *arguments: str) -> subprocess.CompletedProcess:
    command = ("amtool", "--alertmanager.url=http://127.0.0.1:9093", "alert", *arguments)
    return docker("exec", container, *command, check=False)


def added(container: str, alert: str) -> bool:
    """Whether Alertmanager has taken it."""
    return amtool(container, "add", *f"alertname={alert}".split(), "severity=critical").returncode == 0


def inhibited(container: str, alert: str) -> bool:
    """Whether an alert that was added is left out."""
    shown = amtool(container, "query", "--inhibited", "--active", "--output=json", *f"alertname={alert}".split())
    [found] = json.loads(shown.stdout)
    return bool(found["status"]["inhibitedBy"])


@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES)), ids=[" - ".join(case[:2]) for case in CASES])
def test_what_follows_from_another_alert_is_left_out(alertmanagers: list[str], number: int, case: tuple) -> None:
    container, (cause, other, left_out) = alertmanagers[number], case
    for alert in (cause, other):
        wait_until(lambda alert=alert: added(container, alert), "Alertmanager takes an alert")
    assert inhibited(container, other) is left_out
    assert not inhibited(container, cause), "it names the cause"

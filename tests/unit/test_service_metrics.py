"""The metrics that the outage watcher writes: what it has seen of the services, and when it writes."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.openmates.server.plugins.module_utils import metrics
from ansible_collections.openmates.server.plugins.module_utils.service_metrics import EVERY, ServiceMetrics

SERVICES = ["api", "cache", "cms", "loki"]


def container(service: str, status: str = "Up 2 hours (healthy)") -> SimpleNamespace:
    return SimpleNamespace(identity=service * 20, service=service, status=status, unhealthy="(unhealthy)" in status)


@pytest.fixture
def seen(tmp_path: Path):
    writer = ServiceMetrics(tmp_path, SERVICES, now=1000.0)
    asked: list[tuple[float, float]] = []

    def write(containers, unreachable=(), failing=(), refused=None, events=(), now=1010.0) -> dict[str, float]:
        def happened(since: float, until: float):
            asked.append((since, until))
            return events

        writer.write(containers, set(unreachable), failing, refused or {}, happened, now)
        lines = (tmp_path / "services.prom").read_text().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}

    return SimpleNamespace(write=write, asked=asked, file=tmp_path / "services.prom")


def test_each_expected_service_has_its_state(seen) -> None:
    found = seen.write(
        [
            container("api"),
            container("cms", "Up 3 hours (unhealthy)"),
            container("cache", "Up 31 seconds (health: starting)"),
        ],
        unreachable={"cache"},
    )
    by_service = {
        service: tuple(
            found[f'openmates_service_{what}{{service="{service}"}}'] for what in ("up", "starting", "healthy")
        )
        for service in SERVICES
    }
    assert by_service == {"api": (1, 0, 1), "cms": (1, 0, 0), "cache": (1, 1, 0), "loki": (0, 0, 0)}
    assert found['openmates_container_info{container_id="apiapiapiapi",service="api"}'] == 1
    assert found["openmates_ready"] == 1


def test_a_container_that_restarts_does_not_run(seen) -> None:
    assert seen.write([container("api", "Restarting (1) 3 seconds ago")])['openmates_service_up{service="api"}'] == 0


@pytest.mark.parametrize(
    ("status", "runs"),
    [
        ("Up Less than a second", False),
        ("Up 1 second (health: starting)", False),
        ("Up 9 seconds (healthy)", False),
        ("Up 10 seconds (healthy)", True),
        ("Up About a minute", True),
        ("Up 9 minutes (unhealthy)", True),
    ],
)
def test_a_service_runs_after_ten_seconds(seen, status: str, runs: bool) -> None:
    """A life of a service that ends at once, again and again, is shorter."""
    assert seen.write([container("api", status)])['openmates_service_up{service="api"}'] == runs


def test_a_refused_login_counts_until_one_succeeds(seen) -> None:
    name, both = 'openmates_service_refused{service="%s"}', [container("api"), container("loki")]
    rounds = [
        ({"api": None, "loki": False}, (0, 0)),
        ({"api": True, "loki": False}, (1, 0)),
        ({"api": None, "loki": None}, (1, 0)),  # a new life that has not tried yet
        ({"api": False, "loki": True}, (0, 1)),
    ]
    for refused, expected in rounds:
        found = seen.write(both, refused=refused)
        assert (found[name % "api"], found[name % "loki"]) == expected
    assert seen.write([container("api")], refused={})[name % "loki"] == 0, "it was stopped"
    assert name % "cms" not in found, "it has no login"


def test_a_part_of_the_probe_that_fails_is_named(seen) -> None:
    found = seen.write([], failing=["queue:email"])
    assert found["openmates_ready"] == 0 and found['openmates_ready_failing{part="queue:email"}'] == 1
    assert 'openmates_ready_failing{part="queue:email"}' not in seen.write([])


def test_starts_and_kills_are_counted_once(seen) -> None:
    seen.write([], events=[("start", "api"), ("oom", "loki"), ("start", "api")], now=1010)
    found = seen.write([], events=[("oom", "loki")], now=1020)
    assert found['openmates_service_starts_total{service="api"}'] == 2
    assert found['openmates_service_oom_kills_total{service="loki"}'] == 2
    assert seen.asked == [(1000, 1010), (1010, 1020)], "each moment is asked for once"


def test_an_unchanged_file_is_written_now_and_then(seen) -> None:
    seen.write([], now=1010)
    seen.file.write_text("# old\n")
    assert seen.write([], now=1010 + EVERY - 1) == {}
    assert seen.write([], now=1010 + EVERY) != {}
    seen.file.write_text("# old\n")
    assert seen.write([container("api")], now=1011 + EVERY) != {}, "a change is written at once"


def test_any_text_may_be_a_label() -> None:
    assert metrics.labelled("a", name='x"\\\ny') == 'a{name="x\\"\\\\\\ny"}'
    assert "# TYPE p_b_total counter" in metrics.text("p", {"b_total": (1, "B.")})


def test_the_time_of_the_schedule_is_that_of_the_file_that_was_saved_last(tmp_path) -> None:
    schedule = tmp_path / "celerybeat-data"
    schedule.mkdir()
    writer = ServiceMetrics(tmp_path, SERVICES, 1000.0, schedule)
    writer.write([], set(), [], {}, lambda *_: [], 1010.0)
    name = "openmates_schedule_saved_timestamp_seconds "
    assert name not in (tmp_path / "services.prom").read_text(), "no scheduler has run yet"
    for file, saved in (("celerybeat-schedule", 900), ("celerybeat-schedule-wal", 990)):
        (schedule / file).touch()
        os.utime(schedule / file, (saved, saved))
    writer.write([], set(), [], {}, lambda *_: [], 1020.0)
    assert f"{name}990" in (tmp_path / "services.prom").read_text()

"""make fault-matrix: cells follow from the catalogue, verdicts from what arrived, and the table from the record."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests/faults"), str(ROOT / "docs")]
import matrix as runner  # noqa: E402
from cells import FAULTS, NOT_APPLICABLE, SECRETS, Cell, batches, catalogue, cells, disk, patience  # noqa: E402
from generator import matrix as page  # noqa: E402
from lab_host import HostError, LabHost  # noqa: E402
from receiver import Alert  # noqa: E402

#: Typed in from the guidelines' table of services, with this project's own.
SERVICES = {
    *("api", "cms", "grafana", "cms-database", "cache", "vault", "task-worker", "task-scheduler"),
    *("prometheus", "loki", "promtail", "cadvisor", "alertmanager"),
}


def test_every_long_running_service_has_every_fault() -> None:
    assert {cell.service for cell in cells()} == SERVICES
    assert len(cells()) == len(SERVICES) * 6


def test_what_does_not_apply_is_a_cell_and_agrees_with_the_catalogue() -> None:
    names = {cell.name for cell in cells()}
    assert set(NOT_APPLICABLE) <= names
    for service, about in catalogue().items():
        if service not in SECRETS:
            assert f"{service}-wrong-secret" in NOT_APPLICABLE
        assert bool(about.get("volumes")) != (f"{service}-disk-full" in NOT_APPLICABLE), service
        assert service == "vault" or service not in SECRETS or about.get("secrets"), service


def test_only_services_whose_alerts_can_be_told_apart_have_a_fault_at_once() -> None:
    together = batches(cells())
    assert sorted(cell for batch in together for cell in batch) == sorted(c for c in cells() if not c.not_applicable)
    for batch in together:
        assert len({cell.fault for cell in batch}) == 1
        services = {cell.service for cell in batch}
        assert len(batch) == 1 or batch[0].fault == "cut-off" or not {"prometheus", "alertmanager"} & services
        # What is a service's own alert is silenced by that of one that it needs.
        assert not (
            {"vault", "cache", "cms-database"} & services and {"api", "cms", "task-worker", "task-scheduler"} & services
        )
    assert max(map(len, together)) == 7


@pytest.mark.parametrize(("words", "number"), [([], 78), (["vault-killed"], 1), (["killed"], 13), (["vault"], 6)])
def test_cells_are_chosen_by_name_service_or_fault(words: list[str], number: int) -> None:
    assert len(runner.chosen(words)) == number


def test_an_unknown_cell_is_refused_with_the_known_ones() -> None:
    with pytest.raises(HostError, match=r"CASE=vault-burnt is none of: vault-killed"):
        runner.chosen(["vault-burnt"])


def test_each_fault_is_made() -> None:
    assert set(runner.FAULTS) == set(FAULTS)
    for fault in runner.FAULTS.values():
        assert all(
            callable(getattr(fault, name)) for name in ("prepare", "apply", "keep", "in_force", "release", "remove")
        )


@pytest.mark.parametrize(
    ("cell", "labels", "named"),
    [
        (Cell("loki", "frozen"), {"alertname": "TargetDown", "service": "loki"}, True),
        (Cell("loki", "frozen"), {"alertname": "TargetDown", "service": "grafana"}, False),
        (Cell("cms", "wrong-secret"), {"alertname": "ApiNotReady", "part": "directus_login"}, True),
        (Cell("cms", "wrong-secret"), {"alertname": "ApiNotReady", "part": "cache"}, False),
        (Cell("vault", "disk-full"), {"alertname": "DiskFull", "device": disk("vault")}, True),
        (Cell("vault", "disk-full"), {"alertname": "DiskFull", "device": disk("cache")}, False),
        (Cell("vault", "disk-full"), {"alertname": "ServiceRestarts", "service": "vault"}, False),
        (Cell("loki", "disk-full"), {"alertname": "LokiCannotWrite"}, True),
        (Cell("vault", "frozen"), {"alertname": "Watchdog"}, False),
    ],
)
def test_an_alert_that_names_the_cause(cell: Cell, labels: dict, named: bool) -> None:
    assert cell.is_named_by(labels) is named


def test_what_is_down_sealed_or_out_of_memory_is_waited_for_a_minute_at_most() -> None:
    seconds = patience()
    down = ("ServiceDown", "ServiceUnhealthy", "TargetDown", "VaultSealed", "ServiceOutOfMemory", "ServiceRestarts")
    assert max(seconds[name] for name in (*down, "CacheRefusesLogin", "PrometheusStoresNothing")) <= 60


class Host(LabHost):
    """A host on which nothing is run."""

    def __init__(self) -> None:
        super().__init__("prod1")


class Fault:
    """A fault that has an effect until it is released, or until the service is started anew."""

    lasting = ends_with_process = True

    def __init__(self, *_: object) -> None:
        self.force = False
        self.released = False

    def apply(self) -> None:
        self.force = True

    def release(self) -> None:
        self.force, self.released = False, True

    def in_force(self) -> bool:
        return self.force

    def keep(self) -> None:
        pass


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch):
    """A cell with a clock that jumps, whose alerts a test sets: (seconds after the fault, status, name)."""
    moment = [1000.0]
    monkeypatch.setattr(time, "time", lambda: moment[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: moment.__setitem__(0, moment[0] + seconds))
    monkeypatch.setitem(runner.FAULTS, "frozen", Fault)
    visitors = type("V", (), {"failed": lambda *_: "0 of 9 requests failed"})()
    cell = runner.Watched(Host(), Cell("cache", "frozen"), visitors)
    sent: list[tuple[float, str, str]] = []

    def alerts(_: str, since: float) -> list[Alert]:
        return [
            Alert(1000 + after, status, {"alertname": name, "service": "cache"})
            for after, status, name in sent
            if since <= 1000 + after <= moment[0]
        ]

    monkeypatch.setattr(runner.receiver, "alerts", alerts)
    monkeypatch.setattr(cell, "_unwell", lambda: "" if not cell.fault.force else "it hangs")
    cell.sent, cell.moment = sent, moment
    return cell


def test_an_alert_in_time_that_ends_passes(watched) -> None:
    watched.sent += [(100, "firing", "ServiceUnhealthy"), (160, "resolved", "ServiceUnhealthy")]
    passed, detail = watched.run()
    assert passed, detail
    assert "ServiceUnhealthy cache after 100 of 150 s" in detail and "well again after 0 s" in detail


def test_an_alert_that_is_late_fails(watched) -> None:
    watched.sent += [(200, "firing", "ServiceUnhealthy"), (260, "resolved", "ServiceUnhealthy")]
    assert not watched.run()[0]


def test_no_alert_fails_and_the_fault_is_released(watched) -> None:
    passed, detail = watched.run()
    assert not passed and watched.fault.released and "none in time" in detail


def test_an_alert_without_an_end_fails(watched) -> None:
    watched.sent += [(100, "firing", "ServiceUnhealthy")]
    passed, detail = watched.run()
    assert not passed and "without an end: ServiceUnhealthy cache" in detail


def test_a_service_that_stays_ill_after_the_fault_fails(watched, monkeypatch) -> None:
    watched.sent += [(100, "firing", "ServiceUnhealthy"), (160, "resolved", "ServiceUnhealthy")]
    monkeypatch.setattr(watched, "_unwell", lambda: "it is broken")
    passed, detail = watched.run()
    assert not passed and "not well within 180 s: it is broken" in detail


def test_a_service_that_is_well_while_the_fault_lasts_passes_without_an_alert(watched, monkeypatch) -> None:
    monkeypatch.setattr(watched.fault, "in_force", lambda: watched.moment[0] < 1130)
    monkeypatch.setattr(watched, "_unwell", lambda: "" if watched.moment[0] >= 1130 else "it hangs")
    passed, detail = watched.run()
    assert passed and "well again after 13" in detail, detail


def test_a_fault_that_no_restart_ends_lasts_until_it_is_released(watched, monkeypatch) -> None:
    monkeypatch.setattr(watched.fault, "ends_with_process", False, raising=False)
    monkeypatch.setattr(watched, "_unwell", lambda: "")
    passed, detail = watched.run()
    assert not passed and "none in time" in detail


def test_a_fault_without_an_effect_fails(watched, monkeypatch) -> None:
    monkeypatch.setattr(watched.fault, "in_force", lambda: False)
    passed, detail = watched.run()
    assert not passed and "the fault has no effect" in detail


@pytest.mark.parametrize(
    ("result", "detail", "short"),
    [
        ("passed", "well again after 9 s; 3 of 80 requests failed, in 2 s", "well 9 s, 3 requests in 2 s"),
        (
            "passed",
            "well again after 4 s; ServiceUnhealthy cms-database after 98 of 150 s; one alert; 0 of 80 requests failed",
            "ServiceUnhealthy 98 s, well 4 s",
        ),
        (
            "passed",
            "well again after 4 s; the watchdog's requests stopped 390 s ago; 0 of 8 requests failed",
            "watchdog, well 4 s",
        ),
        ("failed", "not well within 180 s: it; 0 of 80 requests failed", "**failed**"),
    ],
)
def test_the_table_says_in_short_what_the_record_says(result: str, detail: str, short: str) -> None:
    assert page.shortly(result, detail) == short
    row = f"| matrix: vault-killed, sample | {result} | 2026-11-28 | abc | m | 9 s | {detail} |\n"
    assert f"| vault | {short} |" in page.matrix(row)

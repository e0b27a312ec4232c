"""What happens when a service fails: 15 telling cells of the matrix of `make fault-matrix`, on the provisioned server.
Cells of one test run at once; each has its own verdict. These tests are the last: alerts of theirs look back."""

from __future__ import annotations

import sys

import pytest

from lab import ROOT

sys.path[:0] = [str(ROOT / "tests/faults"), str(ROOT / "lab")]
from cells import Cell  # noqa: E402
from lab_host import LabHost  # noqa: E402
from matrix import run_batch  # noqa: E402

#: No alert is needed for these, so all can be killed at the same time.
KILLED = ["vault", "cms-database", "cache", "api", "task-worker", "cms", "prometheus", "alertmanager"]
#: Of these no alert silences another.
TOLD_APART = [
    *(Cell("vault", "wrong-secret"), Cell("cache", "frozen"), Cell("grafana", "frozen")),
    *(Cell("promtail", "cut-off"), Cell("cadvisor", "cut-off")),
    *(Cell("loki", "out-of-memory"), Cell("task-scheduler", "out-of-memory")),
]


@pytest.mark.parametrize("batch", [[Cell(service, "killed") for service in KILLED], TOLD_APART], ids=["killed", "told"])
def test_each_service_is_well_again_or_an_alert_names_it(server, batch) -> None:
    # Machines are noisy: `make fault-matrix` is exact.
    results = list(run_batch(LabHost(server.name), batch, times=3))
    failed = {cell.name: detail for cell, passed, detail, _ in results if not passed}
    assert len(results) == len(batch) and not failed, failed

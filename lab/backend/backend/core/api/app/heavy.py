"""Makes importing a module cost what importing the real backend costs, so that a check which imports it is noticed.

The real one takes 11 CPU seconds and 275 MiB for each import of the Celery application. The lab takes less by default:
enough to exceed any budget for a check, and little enough for a laptop. Only the standard library.
"""

import time
from collections.abc import Mapping

CPU_SECONDS = 1.5
MEBIBYTES = 100

_held: list[bytes] = []


def weigh_down(environ: Mapping[str, str]) -> None:
    """Use CPU time and keep memory for as long as the process lives."""
    if not _held:
        # Every page is written to: untouched ones would not count.
        _held.append(b"\1" * (int(environ.get("SAMPLE_IMPORT_MEBIBYTES", MEBIBYTES)) << 20))
    end = time.process_time() + float(environ.get("SAMPLE_IMPORT_CPU_SECONDS", CPU_SECONDS))
    while time.process_time() < end:
        sum(range(10_000))

"""The cases of rules/scans.yml, as alerts.py has those of the others."""

from __future__ import annotations

from alerts import CRITICAL, DAY, HOUR, MINUTE, WARNING, Case, bad


def found_for(seconds: int) -> list[tuple[object, int]]:
    """A series that is there for a while, from the second minute on."""
    return [("_", 2 * MINUTE), (1, seconds), ("stale", 15)]


CASES = {
    "PortOpen": Case(
        {
            'openmates_scan_unexpected_port{scanned="b",address="198.51.100.2",port="6000"}': found_for(20 * MINUTE),
            'openmates_scan_unexpected_port{scanned="b",address="2001:db8::2",port="6000"}': found_for(MINUTE),
        },
        5 * MINUTE,
        (MINUTE, 30 * MINUTE),
        {**CRITICAL, "scanned": "b", "port": "6000"},
        "Port 6000 of b is open to other servers, and not declared",
    ),
    "PortClosed": Case(
        {'openmates_scan_missing_port{scanned="b",address="198.51.100.2",port="443"}': found_for(3 * HOUR)},
        2 * HOUR,
        (80 * MINUTE, 4 * HOUR),
        {**CRITICAL, "scanned": "b", "port": "443"},
        "Port 443 of b is declared and does not answer this server",
    ),
    "ServerNotReachable": Case(
        bad('openmates_scan_reachable{scanned="b",address="198.51.100.2"}', 1, 0, 3 * HOUR),
        2 * HOUR,
        (80 * MINUTE, 4 * HOUR),
        {**CRITICAL, "scanned": "b", "address": "198.51.100.2"},
        "b does not answer this server at 198.51.100.2, on any declared port",
    ),
    "ScanOld": Case(
        {
            "openmates_scan_interval_seconds": [(DAY, 5 * DAY)],
            'openmates_scan_seen_timestamp_seconds{scanned="b",address="1"}': [(0, 3 * DAY), (3 * DAY, DAY)],
            'openmates_scan_seen_timestamp_seconds{scanned="b",address="2"}': [(2 * DAY, 4 * DAY)],
        },
        2 * DAY + 4 * HOUR,
        (2 * DAY + 2 * HOUR, 3 * DAY + HOUR),
        WARNING,
        "The ports of other servers have not been seen completely for two intervals of 1d 0h 0m 0s",
        step=300,
    ),
}

"""What arrived at the lab's receiver of alerts, outside of the lab hosts."""

from __future__ import annotations

import json
import urllib.request
from typing import NamedTuple

RECEIVER = "http://198.51.100.4/received"


class Alert(NamedTuple):
    """An alert in a message to the webhook. ``time``: when it arrived."""

    time: float
    status: str
    labels: dict[str, str]

    @property
    def name(self) -> str:
        about = self.labels.get("service") or self.labels.get("part") or self.labels.get("device", "")
        return f"{self.labels['alertname']} {about}".strip()

    @property
    def firing(self) -> bool:
        return self.status == "firing"


def _received(host: str, channel: str, since: float) -> list[dict]:
    with urllib.request.urlopen(RECEIVER, timeout=30) as answer:
        found = json.load(answer)
    return [item for item in found if (item["channel"], item["host"]) == (channel, host) and item["time"] >= since]


def alerts(host: str, since: float) -> list[Alert]:
    """The alerts of a host that arrived since then, in their order, without the test's."""
    found = [
        Alert(item["time"], alert["status"], alert["labels"])
        for item in _received(host, "webhook", since)
        for alert in json.loads(item["text"])["alerts"]
    ]
    return [alert for alert in found if alert.labels["alertname"] != "AlertTest"]


def last_request_of_watchdog(host: str) -> float:
    """When the watchdog's address was requested last; 0: not as far as the receiver remembers."""
    return max((item["time"] for item in _received(host, "watchdog", 0)), default=0)

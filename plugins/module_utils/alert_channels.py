# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether alerts arrive: a test alert through Alertmanager, and what its channels did with it."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import re
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

SECONDS = 10
PAUSE = 1
#: After which a request that failed is not waited for any more, although Alertmanager repeats some.
GIVE_UP = 10
#: The alert resolves by itself.
LIFE = 60
#: Where the digest of the tested channels is, in a directory of root's.
TESTED = Path("/var/lib/openmates/alerts-tested")

_COUNTER = re.compile(
    r"^alertmanager_notification_requests(?P<failed>_failed)?_total\{(?P<labels>[^}]*)\} (?P<value>\S+)$"
)
_RECEIVER = re.compile(r'receiver_name="([^"]*)"')
#: What of Alertmanager's configuration belongs to the channels.
_MAIL = re.compile(r"^ +smtp_.*$", re.MULTILINE)


class NotAsked(Exception):
    """Why Alertmanager could not be asked."""


def digest(project: Path) -> str:
    """What changes with the settings of the channels; empty where there are none."""
    try:
        text = (project / "config/alertmanager/alertmanager.yml").read_text()
    except OSError:
        return ""
    folder = project / "secrets/alertmanager"
    secrets = [(file.name, file.read_text()) for file in sorted(folder.glob("*"))] if folder.is_dir() else []
    parts = [_MAIL.findall(text), text.partition("\nreceivers:")[2], secrets]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def tested(project: Path, marker: Path | None = None) -> bool:
    """Whether the channels as they are were tested."""
    try:
        return (marker or TESTED).read_text() == digest(project)
    except OSError:
        return False


def note_tested(project: Path, marker: Path | None = None) -> None:
    marker = marker or TESTED
    marker.touch(mode=0o600)
    marker.write_text(digest(project))


@dataclasses.dataclass(frozen=True)
class Count:
    """The requests to a channel since Alertmanager's start, and how many of them failed."""

    made: float = 0
    failed: float = 0


def counts(page: str) -> dict[str, Count]:
    """The requests to each channel, from Alertmanager's page of metrics."""
    found: dict[str, dict[str, float]] = {}
    for line in page.splitlines():
        if (match := _COUNTER.match(line)) and (receiver := _RECEIVER.search(match["labels"])):
            kinds = found.setdefault(receiver[1].partition("/")[0], {"made": 0, "failed": 0})
            kinds["failed" if match["failed"] else "made"] += float(match["value"])
    return {name: Count(**kinds) for name, kinds in found.items()}


class Alertmanager:
    """The two calls that a test needs."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port

    def counts(self) -> dict[str, Count]:
        return counts(self._call("GET", "/metrics"))

    def alert(self, labels: Mapping[str, str], annotations: Mapping[str, str], now: float) -> None:
        begin, end = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)) for moment in (now, now + LIFE))
        alert = {"labels": labels, "annotations": annotations, "startsAt": begin, "endsAt": end}
        self._call("POST", "/api/v2/alerts", json.dumps([alert]))

    def _call(self, method: str, path: str, body: str | None = None) -> str:
        connection = http.client.HTTPConnection(self.address, self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise NotAsked(f"Alertmanager does not answer at {self.address}: {error}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise NotAsked(f"Alertmanager refuses {path} (status {answer.status}): {text.strip()[:300]}")
        return text


def topic_has(url: str, token: str, since: float, text: str) -> bool:
    """Whether an ntfy topic has a message with that text. Raises NotAsked; the address is in no message."""
    address = f"{url.partition('?')[0].rstrip('/')}/json?" + urllib.parse.urlencode({"poll": 1, "since": int(since)})
    login = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(address, headers=login)  # noqa: S310 - preflight accepts http and https only
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            return text in answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        raise NotAsked(f"the topic cannot be read (status {error.code})") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NotAsked(f"the topic cannot be read ({getattr(error, 'reason', None) or type(error).__name__})") from None


def try_out(
    alertmanager: Alertmanager,
    channels: list[str],
    alert: tuple[Mapping[str, str], Mapping[str, str]],
    seconds: float,
    read_back: Mapping[str, Callable[[], bool]],
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, dict[str, t.Any]]:
    """Send the alert; of each channel whether it was `sent`, whether it `arrived` (None: not seen), and the `problem`.

    ``read_back``: for the channels that can be asked, whether the alert has arrived there. Raises NotAsked.
    """
    before, begun = alertmanager.counts(), now()
    alertmanager.alert(*alert, now())
    found: dict[str, dict[str, t.Any]] = {
        name: {"sent": False, "failed": False, "arrived": None, "problem": "Alertmanager has not tried to send it"}
        for name in channels
    }
    while True:
        after = alertmanager.counts()
        for name, result in found.items():
            _judge(result, before.get(name, Count()), after.get(name, Count()), read_back.get(name))
        waited_for = [result for result in found.values() if result["problem"]]
        decided = all(result["failed"] for result in waited_for) and now() >= begun + GIVE_UP
        if not waited_for or decided or now() >= begun + seconds:
            return found
        sleep(PAUSE)


def _judge(result: dict[str, t.Any], before: Count, after: Count, arrived: Callable[[], bool] | None) -> None:
    failed = after.failed - before.failed
    if not result["sent"]:
        result["sent"] = after.made - before.made > failed
        result["problem"] = "" if result["sent"] else result["problem"]
        if failed and not result["sent"]:
            result |= {"failed": True, "problem": "Alertmanager could not send it"}
    if result["sent"] and arrived and not result["arrived"]:
        try:
            result["arrived"] = arrived()
            result["problem"] = "" if result["arrived"] else "it was sent, but is not in the topic"
        except NotAsked as problem:
            result["problem"] = ""
            result["not_seen"] = str(problem)

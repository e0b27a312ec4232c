"""Channels of alerts: what preflight refuses, what a test alert shows, when it is sent again, and what reports say."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils import alert_channels
from ansible_collections.openmates.server.plugins.module_utils.alert_channels import Count, NotAsked, try_out
from ansible_collections.openmates.server.plugins.modules import alert_test as module
from ansible_collections.openmates.server.plugins.plugin_utils import alert_test
from ansible_collections.openmates.server.plugins.plugin_utils.verify.report import report_of
from test_preflight import good, problems

MAIL = {"to": ["ops@example.net"], "from": "server@example.net", "host": "smtp.example.net"}
# As Alertmanager 0.28 shows them with receiver-name-in-metrics.
PAGE = """
# TYPE alertmanager_notification_requests_total counter
alertmanager_notification_requests_total{integration="email",receiver_name="mail"} 3
alertmanager_notification_requests_failed_total{integration="email",receiver_name="mail"} 1
alertmanager_notification_requests_total{integration="webhook",receiver_name="ntfy"} 2
alertmanager_notifications_total{integration="webhook",receiver_name="ntfy"} 99
"""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"openmates_alerts_mail": {**MAIL, "hots": "x"}}, ["no 'hots'", "Did you mean host?"]),
        ({"openmates_alerts_mail": {"to": ["ops"]}}, ["its to is not a list of mail addresses"]),
        ({"openmates_alerts_mail": {"to": MAIL["to"]}}, ["it has no from, host"]),
        ({"openmates_alerts_mail": {**MAIL, "tls": "no"}}, ["its tls is not true or false"]),
        ({"openmates_alerts_mail": {**MAIL, "port": 0}}, ["its port is not a number"]),
        ({"openmates_alerts_mail": {**MAIL, "user": "u"}}, ["openmates_alerts_mail_password", "no password"]),
        ({"openmates_alerts_mail_password": "p4ssw0rd"}, ["no user whose password it is"]),
        ({"openmates_alerts_ntfy_url": "ntfy.sh/topic"}, ["openmates_alerts_ntfy_url", "https://HOST/PATH"]),
        ({"openmates_alerts_webhook_url": "https://a b/c"}, ["openmates_alerts_webhook_url"]),
        ({"openmates_alerts_ntfy_token": "tk_1"}, ["openmates_alerts_ntfy_token", "Set openmates_alerts_ntfy_url"]),
    ],
)
def test_a_wrong_channel_is_refused_and_its_address_is_in_no_message(settings: dict, expected: list[str]) -> None:
    found = "\n".join(problems(good("prod") | settings))
    assert all(part in found for part in expected), found
    assert "ntfy.sh/topic" not in found and "a b/c" not in found and "p4ssw0rd" not in found


def test_good_channels_are_accepted() -> None:
    channels = {
        "openmates_alerts_mail": {**MAIL, "port": 465, "user": "u", "to": "ops@example.net"},
        "openmates_alerts_mail_password": "p4ssw0rd",
        "openmates_alerts_ntfy_url": "https://ntfy.sh/topic?priority=high",
        "openmates_alerts_webhook_url": "http://198.51.100.4:8080/a",
    }
    assert problems(good("prod") | channels) == []


# ---------------------------------------------------------------- the test alert


def test_the_counters_are_read_by_receiver() -> None:
    assert alert_channels.counts(PAGE) == {"mail": Count(3, 1), "ntfy": Count(2, 0)}


class Fake:
    """Alertmanager's counters, second by second, after an alert."""

    def __init__(self, *after: dict[str, Count]) -> None:
        self.pages, self.sent, self.time = [{}, *after], [], 0.0

    def counts(self) -> dict[str, Count]:
        return self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]

    def alert(self, *alert: object) -> None:
        self.sent.append(alert)

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def run(self, channels: list[str], **read_back) -> dict:
        return try_out(self, channels, ({}, {}), 60, read_back, lambda: self.time, self.sleep)


def test_a_channel_works_once_a_request_to_it_succeeded() -> None:
    fake = Fake({}, {"mail": Count(1, 0)})
    found = fake.run(["mail"])["mail"]
    assert len(fake.sent) == 1 and found["sent"] and found["arrived"] is None and not found["problem"]


def test_a_request_that_succeeds_when_it_is_repeated_counts() -> None:
    fake = Fake({"mail": Count(1, 1)}, {"mail": Count(2, 1)})
    assert not fake.run(["mail"])["mail"]["problem"]


def test_a_channel_that_fails_is_not_waited_for_long_and_one_that_is_not_tried_is_named() -> None:
    fake = Fake({"mail": Count(1, 1)})
    assert fake.run(["mail"])["mail"]["problem"] == "Alertmanager could not send it" and fake.time < 15
    fake = Fake({})
    assert "not tried" in fake.run(["mail"])["mail"]["problem"] and fake.time >= 60


def test_what_arrives_in_a_topic_is_seen() -> None:
    arrivals = iter([False, False, True])
    found = Fake({"ntfy": Count(1, 0)}).run(["ntfy"], ntfy=lambda: next(arrivals))["ntfy"]
    assert found["arrived"] and not found["problem"]
    lost = Fake({"ntfy": Count(1, 0)}).run(["ntfy"], ntfy=lambda: False)["ntfy"]
    assert lost["problem"] == "it was sent, but is not in the topic"


def test_a_topic_that_cannot_be_read_is_not_a_failure() -> None:
    def refuse() -> bool:
        raise NotAsked("the topic cannot be read (status 403)")

    found = Fake({"ntfy": Count(1, 0)}).run(["ntfy"], ntfy=refuse)
    lines = alert_test.report({"test": "t", "channels": found})
    assert alert_test.problems({"channels": found}) == [] and "not seen: the topic cannot be read" in lines[1]


@pytest.fixture
def web() -> Iterator[tuple[int, list[tuple[str, str, str]]]]:
    """Alertmanager and an ntfy topic on one port, and the requests to them."""
    seen: list[tuple[str, str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            seen.append((self.command, self.path, body + (self.headers.get("Authorization") or "")))
            posts = [text for method, _, text in seen if method == "POST"]
            text = "\n".join(posts) if "/topic/" in self.path else PAGE.replace(" 3\n", f" {3 + len(posts)}\n")
            self.send_response(404 if "gone" in self.path else 200)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], seen
        server.shutdown()


def test_the_module_sends_one_alert_with_the_name_of_the_server(run_module, web, tmp_path, monkeypatch) -> None:
    port, seen = web
    monkeypatch.setattr(alert_channels, "TESTED", tmp_path / "tested")
    given = {
        "address": "127.0.0.1",
        "port": port,
        "channels": ["mail"],
        "server": "prod1",
        "project_src": str(tmp_path),
    }
    assert "channels" not in run_module(module.main, check=True, **given) and seen == []
    done = run_module(module.main, **given)
    [alert] = json.loads(next(text for method, _, text in seen if method == "POST"))
    assert alert["labels"] == {"alertname": "AlertTest", "test": done["test"], "severity": "test", "server": "prod1"}
    assert done["channels"]["mail"]["sent"] and not done["channels"]["mail"]["problem"]


def test_a_topic_is_read_with_its_token_and_its_address_is_in_no_message(web) -> None:
    port, seen = web
    url = f"http://127.0.0.1:{port}/topic/abc?template=alertmanager"
    assert not alert_channels.topic_has(url, "tk_1", 7.9, "word")
    assert seen[-1] == ("GET", "/topic/abc/json?poll=1&since=7", "Bearer tk_1")
    with pytest.raises(NotAsked) as refused:
        alert_channels.topic_has(f"http://127.0.0.1:{port}/topic/gone", "", 0, "word")
    assert "404" in str(refused.value) and "gone" not in str(refused.value)


def test_the_channels_are_tested_again_after_a_change_of_them_alone(tmp_path: Path) -> None:
    marker, project = tmp_path / "marker", tmp_path / "project"
    config, secret = project / "config/alertmanager/alertmanager.yml", project / "secrets/alertmanager/NTFY_URL"
    for file in (config, secret):
        file.parent.mkdir(parents=True)
    config.write_text("global:\n  smtp_from: a@b\nroute:\n  group_wait: 10s\nreceivers:\n  - name: mail\n")
    secret.write_text("https://ntfy/a")
    assert not alert_channels.tested(project, marker)
    alert_channels.note_tested(project, marker)
    assert alert_channels.tested(project, marker) and marker.stat().st_mode & 0o777 == 0o600
    config.write_text(config.read_text().replace("10s", "20s"))
    assert alert_channels.tested(project, marker), "a change of what is not a channel"
    for file, old, new in ((config, "a@b", "c@d"), (config, "mail", "post"), (secret, "/a", "/b")):
        before = file.read_text()
        file.write_text(before.replace(old, new))
        assert not alert_channels.tested(project, marker), (file, new)
        file.write_text(before)


# ---------------------------------------------------------------- reports


def test_a_failed_channel_is_a_problem_that_names_its_setting() -> None:
    found = {
        "test": "t",
        "channels": {"webhook": {"sent": False, "arrived": None, "problem": "Alertmanager could not"}},
    }
    [problem] = alert_test.problems(found)
    assert "openmates_alerts_webhook_url" in problem and "logs.yml -e service=alertmanager" in problem
    assert alert_test.report(found)[1] == "  webhook: FAILED: Alertmanager could not"


@pytest.mark.parametrize(
    ("alerts", "words"),
    [
        ({"channels": [], "watchdog": True}, "Alerts: SENT NOWHERE. Set openmates_alerts_mail"),
        ({"channels": ["mail"], "watchdog": False}, "Alerts go out by mail; none if the whole server is down"),
        ({"channels": ["mail", "ntfy"], "watchdog": True}, "Alerts go out by mail, ntfy"),
    ],
)
def test_the_report_of_a_run_says_who_is_told(alerts: dict, words: str) -> None:
    services = {"api": {"state": "running", "health": "healthy", "exit_code": 0, "image": "a:1", "one_shot": False}}
    lines = report_of({"host": "prod1", "alerts": alerts, "services": services, "expected_services": ["api"]})
    assert any(line.startswith(words) for line in lines), lines

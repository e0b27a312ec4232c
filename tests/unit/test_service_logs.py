"""The log of a service, from a fake Loki that answers as the genuine one, and from a fake docker."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.module_utils.logs import docker, loki
from ansible_collections.openmates.server.plugins.module_utils.logs.line import Line, NotThere, Wanted
from ansible_collections.openmates.server.plugins.modules import service_logs

NOW = 1795793000
WANTED = Wanted("api", NOW - 600, "", 3)


class Loki(http.server.BaseHTTPRequestHandler):
    """Answers with the class's answers, and notes the queries."""

    services, streams, status = ["api", "cms"], [], 200
    asked: list[dict]

    def do_GET(self) -> None:
        address = urllib.parse.urlsplit(self.path)
        self.asked.append(dict(urllib.parse.parse_qsl(address.query)))
        data: object = {"resultType": "streams", "result": self.streams}
        if address.path == "/loki/api/v1/label/service/values":
            data = self.services
        elif address.path != "/loki/api/v1/query_range":
            self.status = 404
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(
            json.dumps({"status": "success", "data": data}).encode() if self.status == 200 else b"a reason\n"
        )

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def fake() -> Iterator[tuple[type[Loki], int]]:
    handler = type("Handler", (Loki,), {"asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, server.server_port
    server.shutdown()
    server.server_close()


def stream(container: str, *values: tuple[int, str]) -> dict:
    labels = {"service": "api", "container_id": container, "stream": "stdout"}
    return {"stream": labels, "values": [[str(moment), text] for moment, text in values]}


def test_lines_of_old_and_new_containers_come_in_their_order(fake: tuple) -> None:
    handler, port = fake
    handler.streams = [stream("new", (30, "three\n"), (10, "one")), stream("old", (20, "two"), (5, "zero"))]
    assert loki.lines("127.0.0.1", WANTED, port) == [
        Line(10, "new", "one"),
        Line(20, "old", "two"),
        Line(30, "new", "three"),
    ]
    query = handler.asked[-1]
    assert query["query"] == '{service="api"}' and (query["direction"], query["limit"]) == ("backward", "3")
    assert query["start"] == str((NOW - 600) * 10**9)


def test_a_search_text_is_quoted_for_loki(fake: tuple) -> None:
    handler, port = fake
    loki.lines("127.0.0.1", WANTED._replace(grep='a "b\\d" ü'), port)
    assert handler.asked[-1]["query"] == '{service="api"} |~ "a \\"b\\\\d\\" ü"'


def test_why_loki_does_not_have_them_is_told(fake: tuple) -> None:
    handler, port = fake
    with pytest.raises(NotThere, match="no line with the label service=other"):
        loki.lines("127.0.0.1", WANTED._replace(service="other"), port)
    handler.services = []
    with pytest.raises(NotThere, match="no line with"):
        loki.lines("127.0.0.1", WANTED, port)
    handler.status = 404
    with pytest.raises(NotThere, match="status 404: a reason"):
        loki.lines("127.0.0.1", WANTED, port)
    with pytest.raises(NotThere, match="does not answer"):
        loki.lines("127.0.0.1", WANTED, 1)


FAKE_DOCKER = """#!/bin/sh
case "$*" in
  "ps --all --quiet --no-trunc --filter label=com.docker.compose.project=openmates --filter "*service=api)
    echo 0123456789abcdef; echo fedcba9876543210 ;;
  "logs --timestamps --since="*" 0123456789abcdef")
    echo "2026-11-27T15:20:01.5Z GET /a"; echo "2026-11-27T15:20:03Z ERROR b" >&2 ;;
  "logs --timestamps --since="*" fedcba9876543210") echo "2026-11-27T15:20:02.000000001Z GET /c  d" ;;
  *) echo "Cannot connect" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def fake_docker(tmp_path: Path) -> str:
    program = tmp_path / "docker"
    program.write_text(FAKE_DOCKER)
    program.chmod(0o755)
    return str(program)


def test_dockers_lines_of_all_containers_and_both_streams_come_in_their_order(fake_docker: str) -> None:
    found = docker.lines("openmates", WANTED, fake_docker)
    assert [(line.container, line.text) for line in found] == [
        ("0123456789ab", "GET /a"),
        ("fedcba987654", "GET /c  d"),
        ("0123456789ab", "ERROR b"),
    ]
    assert found[1].time % 10**9 == 1
    assert [line.text for line in docker.lines("openmates", WANTED._replace(grep="ERR|/c", limit=1), fake_docker)] == [
        "ERROR b"
    ]
    with pytest.raises(NotThere, match="Cannot connect"):
        docker.lines("other", WANTED, fake_docker)
    with pytest.raises(NotThere, match="cannot be run"):
        docker.lines("openmates", WANTED, "/no/docker")


def test_the_module_falls_back_and_says_why(
    run_module: Callable[..., dict], fake_docker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(service_logs.docker_state, "RUNNING", tmp_path / "docker.pid")
    found = run_module(service_logs.main, service="api", seconds=600, check=True)
    assert (found["source"], found["reason"], found["changed"]) == ("Docker", "its container does not run", False)
    assert found["lines"][0] == "2026-11-27T15:20:01Z 0123456789ab GET /a"


def test_the_module_takes_loki_where_it_has_them(
    run_module: Callable[..., dict], fake: tuple, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handler, port = fake
    handler.streams = [stream("0123456789ab", (NOW * 10**9, "from a container that is gone"))]
    (tmp_path / "docker.pid").touch()
    monkeypatch.setattr(service_logs.docker_state, "RUNNING", tmp_path / "docker.pid")
    monkeypatch.setattr(service_logs.Docker, "address", lambda *_: "127.0.0.1")
    monkeypatch.setattr(loki.lines, "__defaults__", (port,))
    found = run_module(service_logs.main, service="api", seconds=600)
    assert found["source"] == "Loki" and found["lines"] == [
        "2026-11-27T15:23:20Z 0123456789ab from a container that is gone"
    ]


def test_a_search_text_that_is_no_regular_expression_is_refused(run_module: Callable[..., dict]) -> None:
    assert "no regular expression" in run_module(service_logs.main, service="api", seconds=1, grep="(")["msg"]

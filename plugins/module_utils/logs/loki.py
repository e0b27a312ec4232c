# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service's lines in Loki, which has those of containers that are gone."""

from __future__ import annotations

import http.client
import json
import typing as t
import urllib.parse

from ansible_collections.openmates.server.plugins.module_utils.logs.line import Line, NotThere, Wanted

PORT = 3100
SECONDS = 60  # as Loki gives itself


def lines(address: str, wanted: Wanted, port: int = PORT) -> list[Line]:
    """The newest lines, the oldest of them first. Raises NotThere."""
    start = int(wanted.since * 10**9)
    known = _get(address, port, "label/service/values", start=start)
    if wanted.service not in known:
        raise NotThere(f"it has no line with the label service={wanted.service} in that time")
    # A string of Go, as JSON writes it, apart from letters outside of ASCII.
    matching = f" |~ {json.dumps(wanted.grep, ensure_ascii=False)}" if wanted.grep else ""
    found = _get(
        address,
        port,
        "query_range",
        query=f"{{service={json.dumps(wanted.service)}}}{matching}",
        start=start,
        limit=wanted.limit,
        direction="backward",
    )
    try:
        got = [
            Line(int(moment), stream["stream"].get("container_id", ""), text.rstrip("\n"))
            for stream in found["result"]
            for moment, text, *_ in stream["values"]
        ]
    except (KeyError, TypeError, ValueError):
        raise NotThere("its answer is not that of a Loki") from None
    return sorted(got)[-wanted.limit :]


def _get(address: str, port: int, path: str, **parameters: object) -> t.Any:
    """The data of an answer. Raises NotThere."""
    connection = http.client.HTTPConnection(address, port, timeout=SECONDS)
    try:
        connection.request("GET", f"/loki/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        answer = connection.getresponse()
        status, body = answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotThere(f"it does not answer ({getattr(error, 'strerror', None) or type(error).__name__})") from None
    finally:
        connection.close()
    if status != 200:
        raise NotThere(f"it answers with status {status}: {body.decode(errors='replace').strip()[:200]}")
    try:
        return json.loads(body)["data"]
    except (KeyError, TypeError, ValueError):
        raise NotThere("its answer is not that of a Loki") from None

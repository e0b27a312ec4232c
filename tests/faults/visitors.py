"""Clients of the api, outside of the lab host and through Caddy: how many of their requests fail."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from lab_host import ROOT, LabHost

EVERY = 0.5  # seconds between two pairs of requests
ANSWER_SECONDS = 5.0
INVITE = "/v1/auth/check_invite_token_valid"  # answered with the help of Directus and the cache


class Visitors:
    """A pair of requests twice a second, whatever became of earlier ones: one that the api answers alone, and one for
    which it needs its dependencies. None is repeated: no answer within five seconds and 5xx are failures."""

    def __init__(self, host: LabHost) -> None:
        self.name, self.address = f"api.{host.name}.example.test", host.address
        self.context = ssl.create_default_context(cafile=str(ROOT / ".lab/acme-root.crt"))
        self.results: list[tuple[float, bool]] = []  # when each was sent, and whether it succeeded
        self.ended = threading.Event()

    @contextlib.contextmanager
    def visiting(self) -> Iterator[Visitors]:
        thread = threading.Thread(target=self._visit, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.ended.set()
            thread.join()

    def answered(self) -> bool:
        """Whether a request that needs the api alone succeeds now."""
        self._request("GET", "/whoami")
        return self.results.pop()[1]

    def failed(self, since: float, until: float) -> str:
        """What happened to the requests of a time, in words."""
        sent = [(moment, well) for moment, well in self.results if since <= moment <= until]
        failed = [moment for moment, well in sent if not well]
        seconds = len({int(moment) for moment in failed})
        return f"{len(failed)} of {len(sent)} requests failed" + (f", in {seconds} s" if failed else "")

    def _visit(self) -> None:
        with ThreadPoolExecutor(64) as pool:
            while not self.ended.wait(EVERY):
                pool.submit(self._request, "GET", "/whoami")
                pool.submit(self._request, "POST", INVITE, {"invite_code": f"0000-0000-{secrets.randbelow(10000):04}"})

    def _request(self, method: str, path: str, content: object = None) -> None:
        began = time.time()
        try:
            with contextlib.closing(self._connected()) as connection:
                body = None if content is None else json.dumps(content)
                connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
                answer = connection.getresponse()
                answer.read()
                well = answer.status < 500
        except (OSError, http.client.HTTPException):
            well = False
        self.results.append((began, well))

    def _connected(self) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(self.name, timeout=ANSWER_SECONDS, context=self.context)
        plain = socket.create_connection((self.address, 443), ANSWER_SECONDS)
        connection.sock = self.context.wrap_socket(plain, server_hostname=self.name)
        return connection

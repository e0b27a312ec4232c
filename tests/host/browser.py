"""A headless Chromium, steered over the W3C WebDriver protocol, which is JSON over HTTP and needs no library."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from ports import free_port

# Chromium as root in a container, without requests other than to the page under test.
FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    "--window-size=1400,1000",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's own key
DEADLINE = 180.0  # seconds to wait for something on a page; a busy machine took more than 60 once


class Browser:
    """One window. Used with `with`."""

    def __init__(self, folder: Path) -> None:
        """`folder`: for Chromium's profile and the driver's log."""
        for program in ("chromium", "chromedriver"):
            if not shutil.which(program):
                pytest.fail(f"{program} is missing: run lab/test_tools.sh browser, which installs it")
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        self.folder = folder
        with (folder / "chromedriver.log").open("wb") as log:
            self.process = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=log, stderr=log)

    def __enter__(self) -> Browser:
        self.wait(self.driver_answers, "chromedriver answers")
        options = {"binary": shutil.which("chromium"), "args": [*FLAGS, f"--user-data-dir={self.folder / 'profile'}"]}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        try:
            self.session = "/session/" + self.call("POST", "/session", {"capabilities": capabilities})["sessionId"]
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.call("DELETE", self.session)
        self.process.terminate()
        self.process.wait(20)

    def driver_answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.call("GET", "/status")["ready"]
        return False

    def call(self, method: str, path: str, body: dict | None = None) -> object:
        """One command of the protocol; its value."""
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(f"{self.address}{path}", method=method, data=data)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise LookupError(json.load(error)["value"]["message"].splitlines()[0]) from None

    def wait(self, condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> object:
        """The condition's first true answer. Fails with what the page shows after that many seconds."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(LookupError):
                if answer := condition():
                    return answer
            if time.monotonic() > end:
                shown = self.text()[:1500] if hasattr(self, "session") else ""
                pytest.fail(f"{what}: not within {seconds:.0f} s. The page shows:\n{shown}")
            time.sleep(0.2)

    def open(self, url: str) -> None:
        self.call("POST", f"{self.session}/url", {"url": url})

    def address_bar(self) -> str:
        return self.call("GET", f"{self.session}/url")

    def find(self, selector: str) -> str:
        """The first element of a CSS selector, or of an XPath, which begins with a slash. Raises LookupError."""
        using = "xpath" if selector.startswith("/") else "css selector"
        found = self.call("POST", f"{self.session}/element", {"using": using, "value": selector})
        return f"{self.session}/element/{found[ELEMENT]}"

    def click(self, selector: str) -> None:
        """Click as soon as it can be clicked."""

        def clicked() -> bool:
            self.call("POST", f"{self.find(selector)}/click")
            return True

        self.wait(clicked, f"a click on {selector}")

    def type(self, selector: str, text: str) -> None:
        """Type as soon as it can be typed into."""

        def typed() -> bool:
            self.call("POST", f"{self.find(selector)}/value", {"text": text})
            return True

        self.wait(typed, f"a place to type, {selector}")

    def text(self) -> str:
        """All that the page shows."""
        script = {"script": "return document.body ? document.body.innerText : ''", "args": []}
        return self.call("POST", f"{self.session}/execute/sync", script)

    def shows(self, *words: str) -> None:
        """Wait until the page shows all these words."""
        self.wait(lambda: all(word.lower() in self.text().lower() for word in words), f"the page shows {words}")

    def screenshot(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("GET", f"{self.session}/screenshot")))

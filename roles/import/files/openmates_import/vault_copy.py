# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installer's Vault, opened on a copy of its storage, in a container that has no network.

A key can only be exported after it has been marked as exportable, for good. That must not happen in the Vault that
serves, so it happens in a copy: Vault replaces each file of its storage as a whole, so a copy of them can be opened.
The image is the server's own, which wrote that storage. What opens it is the unseal key, and a root token made of that
ends with the copy.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import time
import typing as t
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from openmates_backup import commands
from openmates_backup.problem import Problem

NAME = "openmates-import-vault"
SECONDS = 60
PAUSE = 0.1
MISSING, BAD = 404, 400
CONFIGURATION = """
storage "file" {{ path = "{storage}" }}
listener "unix" {{ address = "{socket}" }}
api_addr = "http://127.0.0.1:8200"
disable_clustering = true
disable_mlock = true
"""


class Local(http.client.HTTPConnection):
    """HTTP through a socket that only root reaches."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Copy:
    """The API of the copy."""

    def __init__(self, path: Path) -> None:
        self.connection, self.token = Local(path), ""

    def call(self, method: str, path: str, body: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The answer; empty if there is nothing at the path. Raises Problem."""
        headers = {"X-Vault-Token": self.token} if self.token else {}
        try:
            self.connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
            answer = self.connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            raise Problem(f"The copy of the old Vault does not answer: {error}.") from None
        if answer.status == MISSING:
            return {}
        if answer.status >= 400:
            raise Refused(f"The copy of the old Vault refuses {method} {path} (status {answer.status}).", answer.status)
        return json.loads(content or b"{}")

    def data(self, path: str) -> dict[str, t.Any]:
        """What is at a path; empty if there is nothing."""
        return self.call("GET", path).get("data") or {}

    def names(self, path: str) -> list[str]:
        return self.data(f"{path}?list=true").get("keys") or []


class Refused(Problem):
    """An answer that is no success."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def container(image: str, configuration: Path, folders: Sequence[Path]) -> list[str]:
    """The command that runs Vault. Paths are the same inside as outside."""
    return [
        *("docker", "run", "--rm", f"--name={NAME}", "--network=none", "--read-only", "--user=0:0", "--pull=never"),
        *("--cap-drop=ALL", "--cap-add=IPC_LOCK", "--memory=1g"),
        *(f"--volume={folder}:{folder}" for folder in folders),
        *("--entrypoint=vault", image, "server", "-log-level=warn", f"-config={configuration}"),
    ]


def remove() -> None:
    """Remove the container of a run that was killed, if there is one."""
    subprocess.run(["docker", "rm", "--force", NAME], stdin=subprocess.DEVNULL, capture_output=True, check=False)


@contextlib.contextmanager
def opened(
    storage: Path, unseal_key: str, staging: Path, secret: Path, command: Callable[[Path, Sequence[Path]], list[str]]
) -> Iterator[Copy]:
    """A copy of a Vault, unsealed, with a root token, until the block ends. Raises Problem."""
    copied, private = staging / "vault", secret / "vault"
    for folder in (copied, private):
        shutil.rmtree(folder, ignore_errors=True)
    _copy(storage, copied)
    private.mkdir(mode=0o700, parents=True)
    path, configuration = private / "vault.sock", private / "vault.hcl"
    configuration.write_text(CONFIGURATION.format(storage=copied, socket=path))
    with (private / "log").open("wb") as log:
        process = subprocess.Popen(
            command(configuration, (copied, private)), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        copy = Copy(path)
        _start(copy, process, private / "log")
        _unseal(copy, unseal_key)
        copy.token = _root(copy, unseal_key)
        yield copy
    finally:
        process.terminate()
        process.wait()
        for folder in (copied, private):
            shutil.rmtree(folder, ignore_errors=True)


def _copy(storage: Path, copied: Path) -> None:
    """Files that Vault replaces meanwhile may be gone; a second pass finds their successors."""
    copied.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for attempt in range(3):
        try:
            shutil.copytree(storage, copied, dirs_exist_ok=True)
        except shutil.Error as error:
            if attempt == 2:
                raise Problem(f"The storage of the old Vault cannot be copied: {error.args[0][0][2]}.") from None
        else:
            break
    for leftover in copied.rglob("*.temp"):
        leftover.unlink()


def _start(copy: Copy, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(Problem):
            if copy.call("GET", "sys/seal-status"):
                return
        time.sleep(PAUSE)
    raise Problem(f"The copy of the old Vault does not start: {commands.reason(log.read_bytes())}.")


def _unseal(copy: Copy, key: str) -> None:
    try:
        unsealed = not copy.call("PUT", "sys/unseal", {"key": key}).get("progress")
    except Refused as refused:
        if refused.status != BAD:
            raise
        unsealed = False
    if not unsealed:
        raise Problem(
            "The old Vault's unseal.key does not open it: it is of another Vault, or not the only share. Restore the"
            " right one in the volume openmates-vault-setup-data."
        )
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(Refused):  # while it is not active yet
            if copy.call("GET", "sys/health"):
                return
        time.sleep(PAUSE)
    raise Problem(f"The copy of the old Vault is unsealed and not active after {SECONDS} s.")


def _root(copy: Copy, key: str) -> str:
    copy.call("DELETE", "sys/generate-root/attempt")
    attempt = copy.call("PUT", "sys/generate-root/attempt", {})
    answer = copy.call("PUT", "sys/generate-root/update", {"key": key, "nonce": attempt["nonce"]})
    encoded = answer["encoded_token"]
    hidden = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    return bytes(left ^ right for left, right in zip(hidden, attempt["otp"].encode())).decode()  # noqa: B905

#!/usr/bin/python3
"""What a server does for its own Vault, with nobody awake: unseal it, and keep the services' token valid.

Two systemd units run this, each with one secret that systemd decrypted for it alone and nobody finds in a file, an
argument or an environment variable. It says what it did and, where it cannot do its work, what is wrong and who must
act.
Standard library only: a server whose Python packages are being replaced still has to unseal.
"""

from __future__ import annotations

import argparse
import calendar
import http.client
import json
import os
import pathlib
import socket
import sys
import tempfile
import time

DOCKER_SOCKET = "/run/docker.sock"
CALL_SECONDS = 10
# Answers of /v1/sys/health, as Vault gives them to somebody without a token.
ACTIVE, STANDBY, EMPTY, SEALED = 200, 429, 501, 503


class Trouble(Exception):
    """Why the work cannot be done and what to do about it, in a sentence without any secret."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CALL_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Docker:
    """The engine's API, for what the command line would cost many times the processor for."""

    def __init__(self, project: str) -> None:
        self.project = project

    def call(self, method: str, path: str, body: dict | None = None, seconds: float = CALL_SECONDS) -> object:
        connection = UnixConnection(DOCKER_SOCKET)
        connection.timeout = seconds
        content = {"Content-Type": "application/json"} if body is not None else {}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), content)
            answer = connection.getresponse()
            body = answer.read()
        except OSError as error:
            raise Trouble(f"Docker does not answer: {error}") from None
        finally:
            connection.close()
        if answer.status >= 400:
            raise Trouble(f"Docker refuses {method} {path}: {body.decode(errors='replace').strip()}")
        try:
            return json.loads(body) if body else None
        except ValueError:  # a program's output
            return None

    def containers(self, service: str) -> list[dict]:
        """What is known of each running container of a service."""
        labels = [f"com.docker.compose.project={self.project}", f"com.docker.compose.service={service}"]
        filters = json.dumps({"label": labels, "status": ["running"]}).replace(" ", "").replace('"', "%22")
        found = self.call("GET", f"/containers/json?filters={filters}")
        return [self.call("GET", f"/containers/{entry['Id']}/json") for entry in found]

    def address(self, service: str) -> str | None:
        """The IPv4 address of a service's running container, which changes when it is replaced."""
        for container in self.containers(service):
            for network in container["NetworkSettings"]["Networks"].values():
                if network["IPAddress"]:
                    return network["IPAddress"]
        return None

    def restart(self, service: str, container: dict, seconds: float) -> None:
        """Restart a container and wait until it is healthy, or running if it has no health check."""
        # Docker waits as long as the container is given to stop, in which a worker finishes what it does.
        grace = container.get("Config", {}).get("StopTimeout") or 10
        self.call("POST", f"/containers/{container['Id']}/restart", seconds=grace + 60)
        end = time.monotonic() + seconds
        while not self.healthy(container["Id"]):
            if time.monotonic() > end:
                raise Trouble(f"{service} was restarted for a new secret and is not healthy after {seconds:.0f} s")
            time.sleep(1)

    def healthy(self, container: str) -> bool:
        """Whether a container runs and its health check succeeds now: Docker itself may look only once a minute."""
        found = self.call("GET", f"/containers/{container}/json")
        kind, *command = (found["Config"].get("Healthcheck") or {}).get("Test") or ["NONE"]
        if not found["State"]["Running"] or kind == "NONE":
            return found["State"]["Running"]
        if kind == "CMD-SHELL":
            command = ["/bin/sh", "-c", *command]
        try:
            check = self.call("POST", f"/containers/{container}/exec", {"Cmd": command})["Id"]
            self.call("POST", f"/exec/{check}/start", {"Detach": True})
            end = time.monotonic() + 30
            while (state := self.call("GET", f"/exec/{check}/json"))["Running"] and time.monotonic() < end:
                time.sleep(0.5)
        except Trouble:
            return False  # it has just stopped again
        return state["ExitCode"] == 0


class Vault:
    """The few calls of Vault's API that this needs."""

    def __init__(self, address: str) -> None:
        self.host, _, port = address.partition(":")
        self.port = int(port or 8200)

    def call(self, method: str, path: str, body: dict | None = None, token: str = "") -> tuple[int, dict]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=CALL_SECONDS)
        headers = {"X-Vault-Token": token} if token else {}
        try:
            connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(content) if content else {}
        except ValueError:
            return answer.status, {}

    def health(self) -> int:
        return self.call("HEAD", "sys/health")[0]

    def wait_active(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.health() != ACTIVE:
            if time.monotonic() > end:
                raise Trouble(f"Vault is unsealed and not active after {seconds:.0f} s; see the log of its container")
            time.sleep(0.2)


def answering(docker: Docker, service: str, address: str, seconds: float) -> tuple[Vault, int]:
    """Vault and its health, once its container answers. Raises Trouble when it does not in time."""
    end = time.monotonic() + seconds
    while True:
        try:
            where = address or docker.address(service)
            if where:
                vault = Vault(where)
                return vault, vault.health()
            problem = f"no container of the service {service} runs"
        except Trouble as error:
            problem = str(error)
        except (OSError, http.client.HTTPException) as error:
            problem = f"Vault does not answer at {where}: {error}"
        if time.monotonic() > end:
            raise Trouble(f"{problem}. Waited {seconds:.0f} s. See: docker compose ps")
        time.sleep(1)


def credential(name: str) -> dict:
    """A secret that systemd handed to this unit. Raises Trouble."""
    try:
        return json.loads((pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"]) / name).read_text())
    except (KeyError, OSError, ValueError):
        raise Trouble(f"The credential {name} is missing or damaged. Run site.yml: it makes it anew") from None


def unseal(options: argparse.Namespace) -> None:
    """Unseal Vault if it is sealed."""
    vault, health = answering(Docker(options.project), options.service, options.address, options.patience)
    if health != SEALED:
        return
    shares = credential("openmates-vault-shares")["shares"]
    for _ in range(3):  # somebody else may be at it, and each attempt ends the other's
        vault.call("PUT", "sys/unseal", {"reset": True})
        for share in shares:
            status, answer = vault.call("PUT", "sys/unseal", {"key": share})
            if status == 400:
                break
            if not answer.get("sealed", True):
                vault.wait_active(options.patience)
                print("Vault was sealed, and is open again")
                return
        if vault.health() != SEALED:
            return
        time.sleep(0.5)
    vault.call("PUT", "sys/unseal", {"reset": True})
    raise Trouble(
        "The shares on this server do not open this Vault: they belong to another one. Run site.yml with its keys"
    )


def keep_token(options: argparse.Namespace) -> None:
    """Renew the services' token, or make another one; restart those that only read it at their start."""
    docker = Docker(options.project)
    vault, health = answering(docker, options.service, options.address, options.patience)
    if health == SEALED and options.unseal == "operator":
        raise Trouble(
            "Vault is sealed and this server holds no unseal shares (vault_unseal: operator). The operator has to run:"
            " ansible-playbook playbooks/unseal.yml"
        )
    if health != ACTIVE:
        return  # the unsealing unit, or a run of site.yml, is at it
    path = pathlib.Path(options.file)
    reason = token_fault(vault, path, options)
    if reason:
        issue(vault, path, options)
        print(f"The services have a new token, because the one they had {reason}")
    if path.exists():
        restart_consumers(docker, path.stat().st_mtime, options)


def token_fault(vault: Vault, path: pathlib.Path, options: argparse.Namespace) -> str | None:
    """Why another token is needed, or None. One whose time is half over is renewed."""
    try:
        token = path.read_text("ascii").strip()
    except (OSError, ValueError):
        return "is missing"
    status, answer = vault.call("GET", "auth/token/lookup-self", token=token)
    if status == 403:
        return "is not valid"
    if status != 200:
        raise Trouble(f"Vault answers a question about the services' token with status {status}")
    found = answer["data"]
    if set(found["policies"]) != set(options.policies) or found.get("period") != options.period:
        return "may do something else, or lives for another time, than declared"
    if (found.get("meta") or {}).get("role_name") != options.role:
        return "was not made by this server"
    if found["ttl"] < options.period / 2:
        status, _ = vault.call("PUT", "auth/token/renew-self", {}, token)
        if status != 200:
            return f"could not be renewed (status {status})"
    return None


def issue(vault: Vault, path: pathlib.Path, options: argparse.Namespace) -> None:
    """Log in as the services, which makes their token, and put it where they read it, as a whole."""
    login = credential("openmates-vault-api")
    status, answer = vault.call("PUT", "auth/approle/login", login)
    if status != 200:
        raise Trouble(f"Vault refuses this server's login (status {status}). Run site.yml: it makes another one")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(path.parent, options.uid, options.gid)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchown(file.fileno(), options.uid, options.gid)
            os.fchmod(file.fileno(), 0o400)
            file.write(answer["auth"]["client_token"])
            file.flush()
            os.fsync(file.fileno())
        pathlib.Path(name).rename(path)
    except BaseException:
        pathlib.Path(name).unlink(missing_ok=True)
        raise


def restart(options: argparse.Namespace) -> None:
    """Restart the services now, one after the other."""
    restart_consumers(Docker(options.project), time.time(), options)


def restart_consumers(docker: Docker, since: float, options: argparse.Namespace) -> None:
    """Restart, one after the other, the containers that started before the token was made.

    By their start and not by what was just done: a run that was cut off in between is made up for by the next one.
    """
    for service in options.consumers:
        for container in docker.containers(service):
            if started(container["State"]["StartedAt"]) < since:
                print(f"{service} is restarted, because it reads its secrets at its start only")
                docker.restart(service, container, options.consumer_patience)


def started(text: str) -> float:
    """Seconds since the epoch of Docker's 2026-11-22T15:00:00.123456789Z."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = time.strptime(whole + " UTC", "%Y-%m-%dT%H:%M:%S %Z")
    return calendar.timegm(seconds) + float("0." + (fraction or "0"))


def words(text: str) -> list[str]:
    """A comma-separated list."""
    return [word for word in text.split(",") if word]


def parsed(arguments: list[str]) -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--project", default="openmates", help="the Compose project")
    common.add_argument("--service", default="vault", help="Vault's service in it")
    common.add_argument("--address", default="", help="Vault's host:port, if it is not to be asked from Docker")
    common.add_argument("--patience", type=float, default=30, help="seconds to wait for Vault")
    parser = argparse.ArgumentParser(description="Unseal this server's Vault; keep the services' token valid.")
    consumers = argparse.ArgumentParser(add_help=False)
    consumers.add_argument("--consumers", type=words, default=[], help="services, in the order to restart them in")
    consumers.add_argument("--consumer-patience", type=float, default=180, help="seconds for each to get healthy")
    commands = parser.add_subparsers(required=True)
    commands.add_parser("restart", parents=[common, consumers]).set_defaults(work=restart)
    commands.add_parser("unseal", parents=[common]).set_defaults(work=unseal)
    token = commands.add_parser("token", parents=[common, consumers])
    token.set_defaults(work=keep_token)
    token.add_argument("--file", required=True)
    token.add_argument("--role", default="openmates-api", help="the AppRole that the token comes from")
    token.add_argument("--uid", type=int, required=True)
    token.add_argument("--gid", type=int, required=True)
    token.add_argument("--period", type=int, required=True, help="in seconds")
    token.add_argument("--policies", type=words, required=True)
    token.add_argument("--unseal", choices=["host", "operator"], default="host")
    return parser.parse_args(arguments)


def main() -> int:
    options = parsed(sys.argv[1:])
    try:
        options.work(options)
    except Trouble as trouble:
        print(f"<3>{trouble}.", file=sys.stderr)  # <3>: an error, in the journal's words
        return 1
    except (OSError, http.client.HTTPException) as error:
        print(f"<3>Vault could not be talked to: {type(error).__name__}: {error}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

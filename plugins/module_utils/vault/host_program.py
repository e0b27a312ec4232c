# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server does for its own Vault without an operator: unseal it, and keep the services' token valid.

The module vault_host puts this program and the files that it imports in one directory on the host. Two systemd units
run it, each with one secret that systemd decrypted for it alone, so that it is in no plaintext file, argument or
environment variable. The program reports what it did or, if it failed, what is wrong and who must act.
Standard library only: a server whose Python packages are being replaced still has to unseal.
"""

from __future__ import annotations

import argparse
import calendar
import json
import os
import pathlib
import sys
import time

try:
    from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically
    from ansible_collections.openmates.server.plugins.module_utils.docker_api import Docker, DockerProblem
    from ansible_collections.openmates.server.plugins.module_utils.vault.api import (
        ACTIVE,
        SEALED,
        Api,
        SharesRefused,
        VaultProblem,
        submit_shares,
        token_fault,
    )
except ImportError:  # on the host all files are in one directory, which an isolated Python does not search by itself
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    from atomic import write_atomically
    from docker_api import Docker, DockerProblem
    from vault_api import ACTIVE, SEALED, Api, SharesRefused, VaultProblem, submit_shares, token_fault

TOKEN_MODE = 0o400


def answering(docker: Docker, service: str, address: str, seconds: float) -> tuple[Api, str]:
    """Vault and its state, once its container answers. Raises VaultProblem when it does not in time."""
    end = time.monotonic() + seconds
    while True:
        try:
            where = address or docker.address(service)
            if where:
                vault = Api(f"http://{where}")
                return vault, vault.state()
            problem = f"No container of the service {service} runs."
        except (DockerProblem, VaultProblem) as error:
            problem = str(error)
        if time.monotonic() > end:
            raise VaultProblem(f"{problem} Waited {seconds:.0f} s. See: sudo docker compose ps")
        time.sleep(1)


def wait_active(vault: Api, seconds: float) -> None:
    """Wait until Vault serves requests. Raises VaultProblem."""
    end = time.monotonic() + seconds
    while vault.state() != ACTIVE:
        if time.monotonic() > end:
            raise VaultProblem(f"Vault is unsealed and not active after {seconds:.0f} s; see the log of its container.")
        time.sleep(0.2)


def credential(name: str) -> dict:
    """A secret that systemd handed to this unit. Raises VaultProblem."""
    try:
        return json.loads((pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"]) / name).read_text())
    except (KeyError, OSError, ValueError):
        raise VaultProblem(f"The credential {name} is missing or damaged. Run site.yml: it makes it anew.") from None


def unseal(options: argparse.Namespace) -> None:
    """Unseal Vault if it is sealed."""
    vault, state = answering(Docker(options.project), options.service, options.address, options.patience)
    if state != SEALED:
        return
    shares = credential("openmates-vault-shares")["shares"]
    try:
        submit_shares(vault, shares)
    except SharesRefused as problem:
        raise VaultProblem(f"{problem} They are this server's own: run site.yml with the keys of this Vault.") from None
    wait_active(vault, options.patience)
    print("Vault was sealed, and is open again")


def keep_token(options: argparse.Namespace) -> None:
    """Renew the services' token, or make another one; restart those that only read it at their start."""
    docker = Docker(options.project)
    vault, state = answering(docker, options.service, options.address, options.patience)
    if state == SEALED and options.unseal == "operator":
        raise VaultProblem(
            "Vault is sealed and this server holds no unseal shares (openmates_vault_unseal: operator). The operator"
            " has to run unseal.yml."
        )
    if state != ACTIVE:
        return  # the unsealing unit, or a run of site.yml, is at it
    path = pathlib.Path(options.file)
    reason = renew(vault, path, options)
    if reason:
        issue(vault, path, options)
        print(f"The services have a new token, because the one they had {reason}")
    if path.exists():
        restart_consumers(docker, path.stat().st_mtime, options)


def renew(vault: Api, path: pathlib.Path, options: argparse.Namespace) -> str | None:
    """Renew the token if half of its time is over. Why another one is needed instead, or None. Raises VaultProblem."""
    try:
        token = path.read_text("ascii").strip()
    except (OSError, ValueError):
        return "is missing"
    status, answer = vault.call("GET", "auth/token/lookup-self", token=token)
    if status not in (200, 403):
        raise VaultProblem(f"Vault answers a question about the services' token with status {status}.")
    found = answer["data"] if status == 200 else None
    if fault := token_fault(found, options.role, options.policies, options.period):
        return fault
    if found["ttl"] < options.period / 2:
        status, _ = vault.call("PUT", "auth/token/renew-self", {}, token)
        if status != 200:
            return f"could not be renewed (status {status})"
    return None


def issue(vault: Api, path: pathlib.Path, options: argparse.Namespace) -> None:
    """Log in as the services, which makes their token, and put it where they read it, as a whole."""
    status, answer = vault.call("PUT", "auth/approle/login", credential("openmates-vault-api"))
    if status != 200:
        raise VaultProblem(f"Vault refuses this server's login (status {status}). Run site.yml: it makes another one.")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(path.parent, options.uid, options.gid)
    write_atomically(path, answer["auth"]["client_token"].encode(), TOKEN_MODE, options.uid, options.gid)


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
    except (DockerProblem, VaultProblem) as problem:
        print(f"<3>{problem}", file=sys.stderr)  # <3>: the journal's priority of an error
        return 1
    except OSError as error:
        print(f"<3>The services' token could not be written: {error}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

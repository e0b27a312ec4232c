# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vault_* modules share: the connection, the state of a Vault and the init marker.

"Vault" is HashiCorp Vault or OpenBao throughout: the calls made here are the same on both.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import pathlib
import secrets
import string
import tarfile
import time
import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.openmates.server.plugins.module_utils import duration
from ansible_collections.openmates.server.plugins.module_utils.atomic import sync_folder, write_atomically

try:
    import hvac
    import requests
except ImportError:
    hvac = requests = None
    HVAC_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    HVAC_IMPORT_ERROR = None

# Argument specs; plugins/doc_fragments/vault.py documents them by the same names.
CONNECTION: dict[str, t.Any] = {"url": {"type": "str", "required": True}, "deadline": {"type": "int", "default": 60}}
CUSTODY: dict[str, t.Any] = {
    "keys_file": {"type": "str", "no_log": False},
    "keys_present": {"type": "bool", "default": False, "no_log": False},
}
MANAGED: dict[str, t.Any] = {
    "access_file": {"type": "str"},
    "access_role": {"type": "str", "default": "openmates-manage"},
    "access_secret": {"type": "str", "no_log": True},
}

POLL_SECONDS = 0.1

# Whoever else unseals, above all the host's own unit, ends our attempt by theirs: so it takes more than one.
UNSEAL_TRIES = 5
UNSEAL_PAUSE_SECONDS = 0.5

UNREACHABLE = "unreachable"
UNINITIALIZED = "uninitialized"
SEALED = "sealed"
STANDBY = "standby"
ACTIVE = "active"
FAILING = "failing"

# The id of a marker for a restore under way, in the place of an initialisation's.
RESTORE = "restore"

# Answers of /v1/sys/health. 472 and 473 are replicas; a lone server that is not active yet says 429. 500 is for a
# moment while its storage is replaced.
_HEALTH = {200: ACTIVE, 429: STANDBY, 472: STANDBY, 473: STANDBY, 500: FAILING, 501: UNINITIALIZED, 503: SEALED}

_GENERATED = string.ascii_letters + string.digits


class VaultProblem(Exception):
    """Something the operator has to know, told in one sentence that holds no secret."""


class VaultUnreachable(VaultProblem):
    """Nothing that speaks Vault's API answers at the address."""


def connect(url: str, token: str = "", timeout: int = 60) -> hvac.Client:
    """Return a client for the Vault at `url` that uses `token` and nothing else.

    A proxy, a netrc file or a token that the host keeps in its environment must not take part, so the session ignores
    them, and the token is never None (hvac would then look for one itself). `timeout` is in seconds, for each call.
    """
    session = requests.Session()
    session.trust_env = False
    return hvac.Client(url=url, token=token, timeout=timeout, session=session)


def state_of(client: hvac.Client) -> str:
    """Return UNINITIALIZED, SEALED, STANDBY, ACTIVE or FAILING.

    Raises VaultUnreachable when nothing answers, VaultProblem when something answers that is not a Vault.
    """
    try:
        status = client.sys.read_health_status(method="HEAD").status_code
    except requests.exceptions.RequestException as error:
        raise VaultUnreachable(f"Nothing answers at {client.url}: {type(error).__name__}.") from error
    try:
        return _HEALTH[status]
    except KeyError:
        raise VaultProblem(f"{client.url}/v1/sys/health answers with status {status}, which no Vault gives.") from None


def wait_for(client: hvac.Client, accepted: t.Container[str], deadline: float) -> str:
    """Poll until the state of the Vault is one of `accepted`, at most `deadline` seconds, and return it.

    Raises VaultProblem with the last state seen when the time is up.
    """
    end = time.monotonic() + deadline
    while True:
        try:
            seen = state_of(client)
            problem = f"Vault at {client.url} is still {seen} after {deadline:g} s; see the log of its container."
        except VaultUnreachable as error:
            seen = UNREACHABLE
            problem = f"{error} Is the Vault container running? Waited {deadline:g} s."
        if seen in accepted:
            return seen
        if time.monotonic() >= end:
            raise VaultProblem(problem)
        time.sleep(POLL_SECONDS)


def answering_state(client: hvac.Client, deadline: float, check_mode: bool) -> str:
    """Return the state of the Vault, waiting up to `deadline` seconds until it answers.

    In check mode there may be nothing yet, which is a state like any other: UNREACHABLE is returned at once.
    """
    if check_mode:
        try:
            return state_of(client)
        except VaultUnreachable:
            return UNREACHABLE
    return wait_for(client, (UNINITIALIZED, SEALED, STANDBY, ACTIVE), deadline)


def submit_shares(client: hvac.Client, shares: list[str]) -> None:
    """Open a sealed Vault with exactly as many shares as it takes, while somebody else may be at it too.

    Raises VaultProblem if they do not open it, and leaves no half-done attempt behind.
    """
    refusals = 0
    for number in range(UNSEAL_TRIES):
        if number:
            time.sleep(UNSEAL_PAUSE_SECONDS)
        nonces = []  # the same for all shares of one attempt
        problem = "Vault took the unseal shares and is still sealed; see the log of its container."
        try:
            client.sys.submit_unseal_key(reset=True)
            for share in shares:
                nonces.append(client.sys.submit_unseal_key(share)["nonce"])
        except hvac.exceptions.InvalidRequest:
            problem = (
                "The unseal shares do not open this Vault: they belong to another Vault, or at least one is damaged."
            )
            # Refused at the last share, and no other attempt began or ended before it. Only one that came just then
            # would not show here, so it takes two such refusals.
            refusals += len(nonces) == len(shares) - 1 and len(set(nonces)) <= 1
        if not client.sys.is_sealed():
            return
        if refusals == 2:
            break
    try:
        client.sys.submit_unseal_key(reset=True)
    except hvac.exceptions.InvalidRequest:
        return  # somebody else has just opened it
    raise VaultProblem(problem)


def seconds(wanted: str | int) -> int:
    """Return a duration as Vault writes it in seconds. Raises VaultProblem if it is none."""
    try:
        return duration.seconds(wanted)
    except ValueError as error:
        raise VaultProblem(str(error)) from None


def generated(lengths: dict[str, int]) -> dict[str, str]:
    """Return a random value of the given length for each field."""
    return {name: "".join(secrets.choice(_GENERATED) for _ in range(length)) for name, length in lengths.items()}


def pad_length(shares: int) -> int:
    """Return how many bytes of pad hide the keys of a Vault with that many shares, with room for PGP's encryption."""
    return 1024 + 4096 * shares


def with_pad(data: bytes, pad: bytes) -> bytes:
    """Encrypt or decrypt `data` with a one-time pad: random bytes, at least as many, never used again.

    Raises VaultProblem if the pad is too short.
    """
    if len(pad) < len(data):
        raise VaultProblem("The pad is shorter than the keys that it has to hide.")
    return bytes(left ^ right for left, right in zip(data, pad, strict=False))


def read_marker(path: pathlib.Path) -> str | None:
    """Return the id of the initialisation that the marker at `path` belongs to, or None without a marker.

    A marker that cannot be understood still is one: it gets the id "unreadable", which no keys file carries.
    """
    try:
        return str(json.loads(path.read_text("utf-8"))["init_id"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return "unreadable"


def write_marker(path: pathlib.Path, init_id: str) -> None:
    """Say on disk that initialisation `init_id` is under way. Raises VaultProblem if that cannot be done."""
    note = {
        "init_id": init_id,
        "note": "Vault is being initialised and its keys are not in custody yet. The next run mends this.",
    }
    try:
        write_atomically(path, (json.dumps(note, indent=2) + "\n").encode(), 0o600)
    except OSError as error:
        raise VaultProblem(f"The marker {path} cannot be written: {error.strerror}.") from error


def drop_marker(path: pathlib.Path) -> None:
    """Remove the marker for good."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync_folder(path.parent)


def custody_verdict(
    *, state: str, marker: str | None, keys_file: str, keys_present: bool, keys_init_id: str | None
) -> str:
    """Say what has to be done about a Vault's keys, from what is on the host and on the controller.

    `state` is the Vault's, `marker` the id in its init marker (None: no marker), `keys_file` a path for messages,
    `keys_init_id` the id that the keys file carries. Returns one of

    - `init`: nothing there yet, initialise
    - `settled`: initialised, keys in custody
    - `confirm`: as `settled`, but the marker has outlived its run: remove it
    - `reset`: initialised by a run whose keys never reached the controller; so nothing was seeded, start anew

    Raises VaultProblem with the remedy where going on could lose something.
    """
    if marker == RESTORE:
        raise VaultProblem("A restore was cut off. Run playbooks/vault_restore.yml again.")
    if state == UNINITIALIZED:
        if keys_present:
            raise VaultProblem(
                f"Vault is empty (uninitialised), yet {keys_file} holds the keys of an earlier one. Bring its data"
                " back with playbooks/vault_restore.yml; or, if it is given up, move the keys file away and run again."
            )
        return "init"
    if keys_present:
        if marker is None:
            return "settled"
        if marker == keys_init_id:
            return "confirm"
        raise VaultProblem(
            f"{keys_file} holds the keys of another initialisation than the one that was interrupted on this host."
            " Move that file away (keep it) and run again; or bring back the file that belongs to this host."
        )
    if marker is None:
        raise VaultProblem(
            f"Vault is initialised, but its keys are not at {keys_file}. Bring that file back from the machine that"
            " provisioned this server or from its backup. Only if every secret in this Vault may be lost: remove the"
            " Vault container and its data volume on the host and run again."
        )
    if state != SEALED:
        raise VaultProblem(
            f"An initialisation was interrupted and {keys_file} is missing, but Vault has been unsealed since, so"
            " somebody has its keys. Bring the keys file back and run again; nothing is thrown away here."
        )
    return "reset"


def log_in(url: str, role: str, secret_id: str, timeout: int) -> hvac.Client | None:
    """Return a client with a short-lived token of the AppRole role, or None if Vault does not know that secret.

    The role's id is its name: what is secret about a login is the secret id.
    """
    client = connect(url, timeout=timeout)
    try:
        answer = client.auth.approle.login(role_id=role, secret_id=secret_id)
    except (hvac.exceptions.InvalidRequest, hvac.exceptions.InvalidPath, hvac.exceptions.Forbidden):
        return None
    client.token = answer["auth"]["client_token"]
    return client


def log_in_as_manager(params: dict[str, t.Any]) -> hvac.Client | None:
    """Return a client of the managing identity, or None if there is none that Vault knows."""
    secret = params["access_secret"]
    return log_in(params["url"], params["access_role"], secret, params["deadline"]) if secret else None


def managing_client(params: dict[str, t.Any]) -> hvac.Client:
    """Return a client of the managing identity. Raises VaultProblem if there is none that Vault knows."""
    client = log_in_as_manager(params)
    if client is None:
        raise VaultProblem("Vault does not let the managing identity in. Run site.yml, which mends that.")
    return client


def check_snapshot(content: bytes) -> None:
    """Raise VaultProblem unless this is a whole snapshot of Vault's raft storage."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            files = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        sums = dict(reversed(line.split()) for line in files["SHA256SUMS"].decode().splitlines())
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError):
        raise VaultProblem("This is not a snapshot of Vault, or it is cut short.") from None
    wrong = {"meta.json", "state.bin"} - set(sums)
    wrong |= {name for name, sum_ in sums.items() if hashlib.sha256(files.get(name, b"")).hexdigest() != sum_}
    if wrong:
        raise VaultProblem(f"The snapshot is damaged: {', '.join(sorted(wrong))} is not what it was.")


@contextlib.contextmanager
def network_of(module: AnsibleModule, container: str) -> t.Iterator[None]:
    """Be inside a container's network for a while, where its loopback address is. An empty name: stay where we are."""
    if not container:
        yield
        return
    code, pid, _ = module.run_command(["docker", "inspect", "--format", "{{.State.Pid}}", container])
    if code or pid.strip() in ("", "0"):
        raise VaultProblem(f"The container {container} does not run, so no root token can be made in it.")
    ours, theirs = (os.open(f"/proc/{process}/ns/net", os.O_RDONLY) for process in ("self", pid.strip()))
    try:
        os.setns(theirs, os.CLONE_NEWNET)
        yield
    finally:
        os.setns(ours, os.CLONE_NEWNET)
        os.close(ours)
        os.close(theirs)


def generate_root(client: hvac.Client, shares: list[str]) -> str:
    """Make a root token from the unseal shares. Raises VaultProblem if they do not allow it.

    `client` has to talk to a listener that takes this call; OpenBao's usual one answers it with 405.
    """
    path = "/v1/sys/generate-root/attempt"
    try:
        client.adapter.delete(path)  # of a run that was killed, or of somebody in between: whoever has the shares may
        attempt = client.adapter.put(path, json={})
        if len(set(shares)) < attempt["required"]:
            client.adapter.delete(path)
            raise VaultProblem(
                f"A root token needs {attempt['required']} different unseal shares, but only {len(set(shares))} are"
                " at hand."
            )
        answer = {}
        for share in list(dict.fromkeys(shares))[: attempt["required"]]:
            update = {"key": share, "nonce": attempt["nonce"]}
            answer = client.adapter.put("/v1/sys/generate-root/update", json=update)
    except hvac.exceptions.InvalidRequest as error:
        with contextlib.suppress(hvac.exceptions.VaultError):
            client.adapter.delete(path)
        raise VaultProblem(
            "The unseal shares do not make a root token: they belong to another Vault, or at least one is damaged."
        ) from error
    except hvac.exceptions.VaultError as error:
        raise VaultProblem(f"Vault at {client.url} makes no root token: {error}") from error
    encoded = answer["encoded_token"]
    hidden = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    return with_pad(hidden, attempt["otp"].encode()).decode()


def tokens(client: hvac.Client) -> t.Iterator[dict[str, t.Any]]:
    """Yield Vault's description of every token there is; one that ends meanwhile is left out."""
    for accessor in client.auth.token.list_accessors()["data"]["keys"]:
        with contextlib.suppress(
            hvac.exceptions.Forbidden, hvac.exceptions.InvalidRequest, hvac.exceptions.InvalidPath
        ):
            yield client.auth.token.lookup_accessor(accessor)["data"]


def revoke(client: hvac.Client, doomed: t.Callable[[dict[str, t.Any]], bool]) -> int:
    """Revoke the tokens of which `doomed` is true, our own never, and return how many there were."""
    own = client.auth.token.lookup_self()["data"]["accessor"]
    count = 0
    for token in list(tokens(client)):
        if token["accessor"] != own and doomed(token):
            with contextlib.suppress(hvac.exceptions.InvalidRequest, hvac.exceptions.InvalidPath):  # it just ended
                client.auth.token.revoke_accessor(token["accessor"])
            count += 1
    return count


class Credential:
    """A secret that systemd keeps encrypted on the host, with its TPM where there is one, for units that need it."""

    def __init__(self, module: AnsibleModule, path: str) -> None:
        """The credential's name is the file's: systemd refuses one that was renamed."""
        self.module = module
        self.path = pathlib.Path(path)
        self.command = module.get_bin_path("systemd-creds", required=True)

    def read(self) -> dict[str, t.Any] | None:
        """Return what it holds, or None if it is not there or this host cannot decrypt it."""
        if not self.path.is_file():
            return None
        code, text, _ = self.module.run_command(
            [self.command, "decrypt", f"--name={self.path.name}", str(self.path), "-"]
        )
        try:
            return json.loads(text) if code == 0 else None
        except ValueError:
            return None

    def write(self, content: dict[str, t.Any]) -> None:
        """Encrypt the content to the file, which is replaced as a whole. Raises VaultProblem."""
        code, sealed, error = self.module.run_command(
            [self.command, "encrypt", f"--name={self.path.name}", "-", "-"], data=json.dumps(content), binary_data=True
        )
        if code:
            raise VaultProblem(f"systemd-creds cannot encrypt {self.path.name}: {error.strip()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self.path, sealed.encode(), 0o600)
        except OSError as problem:
            raise VaultProblem(f"{self.path} cannot be written: {problem.strerror}.") from problem
        if self.read() != content:
            raise VaultProblem(f"{self.path} does not read back as it was written.")


def run(module: AnsibleModule, done: str, work: t.Callable[[AnsibleModule], dict], without_vault: dict) -> None:
    """Exit the module with what `work` returns, or fail with a sentence in which Vault was not `done` ("unsealed").

    In check mode a host that has no Vault or no hvac yet gives `without_vault`.
    """
    url = module.params["url"]
    if module.check_mode and (not url or HVAC_IMPORT_ERROR):
        module.exit_json(**without_vault)
    if HVAC_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("hvac"), exception=HVAC_IMPORT_ERROR)
    if not url:
        module.fail_json(msg=f"url is empty: there is no Vault to be {done}.")
    try:
        module.exit_json(**work(module))
    except VaultProblem as problem:
        module.fail_json(msg=str(problem))
    except (hvac.exceptions.VaultError, requests.exceptions.RequestException) as error:
        module.fail_json(msg=f"Vault could not be {done}: {error}")

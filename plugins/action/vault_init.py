# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of vault_init: take Vault's keys over from the host and prove that they are in custody."""

from __future__ import annotations

import base64
import collections.abc as c
import contextlib
import datetime
import json
import pathlib
import secrets
import typing as t
import uuid

import yaml
from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.vault import VaultLib, match_encrypt_secret
from ansible.plugins.action import ActionBase
from ansible_collections.openmates.server.plugins.module_utils.atomic import sync_folder, write_atomically
from ansible_collections.openmates.server.plugins.module_utils.vault import pad_length, with_pad

SHOWN = ("changed", "initialized", "sealed", "must_reset")


class KeysFile:
    """The keys of one Vault on the controller: a YAML file that is ansible-vault encrypted as a whole."""

    def __init__(self, path: str, vault_secrets: list) -> None:
        """`path` is absolute, `vault_secrets` are the run's ansible-vault secrets. Raises AnsibleActionFail."""
        self.path = pathlib.Path(path)
        if not self.path.is_absolute():
            raise AnsibleActionFail(f"keys_file has to be an absolute path on the controller, not {path!r}.")
        self.vault = VaultLib(vault_secrets)

    def present(self) -> bool:
        """Return whether anything is at the path, a dangling link included: none of it may be overwritten."""
        return self.path.is_symlink() or self.path.exists()

    def read(self) -> dict[str, t.Any]:
        """Return what the file holds. Raises AnsibleActionFail if it is not a keys file that this run can decrypt."""
        try:
            content = self.path.read_bytes()
            data = yaml.safe_load(self.vault.decrypt(content)) if VaultLib.is_encrypted(content) else None
        except OSError as error:
            raise AnsibleActionFail(f"The keys file {self.path} cannot be read: {error.strerror}.") from error
        except AnsibleError as error:
            raise AnsibleActionFail(
                f"The keys file {self.path} cannot be decrypted with this run's ansible-vault password."
            ) from error
        except yaml.YAMLError:
            data = None
        if not isinstance(data, dict):
            # No cause: a parser's complaint would quote the content.
            raise AnsibleActionFail(f"{self.path} is not an ansible-vault encrypted keys file.") from None
        return data

    def prove_possible(self) -> None:
        """Try everything that custody needs, before there is anything to lose. Raises AnsibleActionFail."""
        if not self.vault.secrets:
            raise AnsibleActionFail(
                "Vault's keys need an ansible-vault password to be encrypted with: give the run one"
                " (vault_password_file in ansible.cfg, or --vault-password-file)."
            )
        trial = self._sibling("trial")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(trial, self._encrypt("trial"), 0o600)
            trial.unlink()
        except OSError as error:
            raise AnsibleActionFail(
                f"The keys file could not be written to {self.path.parent}: {error.strerror}. Nothing was initialised."
            ) from error

    def write(self, text: str) -> None:
        """Put `text`, encrypted, at the path and read it back. Raises AnsibleActionFail or OSError.

        A file that does not read back as it should never gets the final name.
        """
        fresh = KeysFile(str(self._sibling("new")), self.vault.secrets)
        expected = yaml.safe_load(text)
        try:
            write_atomically(fresh.path, self._encrypt(text), 0o600)
            if fresh.read() != expected:
                raise AnsibleActionFail(f"{fresh.path} does not read back as it was written.")
            if self.present():
                raise AnsibleActionFail(f"{self.path} has appeared meanwhile and is left as it is.")
            fresh.path.rename(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                fresh.path.unlink()
            raise
        sync_folder(self.path.parent)
        if self.read() != expected:
            raise AnsibleActionFail(f"{self.path} does not read back as it was written.")

    def _sibling(self, purpose: str) -> pathlib.Path:
        return self.path.with_name(f".{self.path.name}.{purpose}-{uuid.uuid4().hex}")

    def _encrypt(self, text: str) -> bytes:
        vault_id, secret = match_encrypt_secret(self.vault.secrets, C.DEFAULT_VAULT_ENCRYPT_IDENTITY)
        return self.vault.encrypt(text, secret, vault_id=vault_id)


def keys_text(host: str, init_id: str, unseal_threshold: int, unseal_shares: c.Iterable[str], root_token: str) -> str:
    """Return the YAML of a keys file. Values are JSON scalars, which YAML reads as they are."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        "---",
        f"# Keys of the Vault on {host}, made {now}.",
        f"# Without {unseal_threshold} of these shares nobody opens that Vault again: keep a copy elsewhere.",
        f"init_id: {json.dumps(init_id)}",
        f"unseal_threshold: {json.dumps(unseal_threshold)}",
        "unseal_shares:",
        *(f"  - {json.dumps(share)}" for share in unseal_shares),
        f"root_token: {json.dumps(root_token)}",
        "",
    ]
    return "\n".join(lines)


class ActionModule(ActionBase):
    """Run the module on the host, keep its answer to itself and return only what is not secret.

    Ansible prints a module's raw answer in places that no result filter reaches: the ssh connection does with -vvv,
    and a failure to parse it does always. So the keys come back under a one-time pad, which travels only the other way.
    """

    _supports_check_mode = True
    _supports_async = False
    TRANSFERS_FILES = False

    def run(self, tmp: None = None, task_vars: dict | None = None) -> dict:
        """Return changed, initialized, sealed, must_reset and keys_file."""
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        if not args.get("keys_file"):
            raise AnsibleActionFail("missing required arguments: keys_file")
        keys = KeysFile(str(args["keys_file"]), self._loader._vault.secrets or [])
        init_id = uuid.uuid4().hex
        pad = secrets.token_bytes(pad_length(int(args.get("secret_shares", 5))))

        args.update(step="begin", init_id=init_id, pad=base64.b64encode(pad).decode())
        args.update(keys_present=keys.present(), keys_init_id=None)
        if keys.present():
            args["keys_init_id"] = keys.read().get("init_id")
        elif not self._task.check_mode:
            keys.prove_possible()

        answer = self._ask_host(args, task_vars)
        custody = answer.pop("custody", None)
        if custody:
            host = (task_vars or {}).get("inventory_hostname", "this host")
            made = json.loads(with_pad(base64.b64decode(custody), pad))
            self._take_over(keys, keys_text(host, init_id, **made))
            self._ask_host({**args, "step": "confirm"}, task_vars)
        result.update({name: answer.get(name) for name in SHOWN}, keys_file=str(keys.path))
        for name in ("warnings", "deprecations", "ansible_facts"):
            if name in answer:
                result[name] = answer[name]
        return result

    def _take_over(self, keys: KeysFile, text: str) -> None:
        try:
            keys.write(text)
        except (OSError, AnsibleError) as error:
            raise AnsibleActionFail(
                f"Vault was initialised, but its keys could not be stored at {keys.path}: {error}."
                " Nothing was put into it yet: run again, and it is reset and initialised anew."
            ) from None

    def _ask_host(self, args: dict, task_vars: dict | None) -> dict:
        """Run the module and return its answer; raise AnsibleActionFail with its message if it failed."""
        answer = self._execute_module(module_name=self._task.action, module_args=args, task_vars=task_vars)
        if answer.get("failed"):
            details = answer.get("module_stderr") or answer.get("module_stdout") or ""
            raise AnsibleActionFail(f"{answer.get('msg', 'vault_init failed')} {details}".strip())
        return answer

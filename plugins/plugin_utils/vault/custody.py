# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted files of a Vault on the controller: its keys, and the secret of the identity that manages it.

Both files are in one directory, so that a copy of the directory is complete.
"""

from __future__ import annotations

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
from ansible_collections.openmates.server.plugins.module_utils.atomic import sync_folder, write_atomically
from ansible_collections.openmates.server.plugins.plugin_utils.vault.action import CONNECTION, KEYS, VaultAction


class KeysFile:
    """A file of one Vault on the controller: YAML that is ansible-vault encrypted as a whole."""

    def __init__(self, path: str, vault_secrets: list) -> None:
        """`path` is absolute, `vault_secrets` are the run's ansible-vault secrets. Raises AnsibleActionFail."""
        self.path = pathlib.Path(path)
        if not self.path.is_absolute():
            raise AnsibleActionFail(f"keys_file must be an absolute path on the controller, not {path!r}.")
        self.vault = VaultLib(vault_secrets)

    def present(self) -> bool:
        """Return whether the path exists, even as a dangling link: it must never be overwritten."""
        return self.path.is_symlink() or self.path.exists()

    def read(self) -> dict[str, t.Any]:
        """Return the file's content. Raises AnsibleActionFail if it is not a keys file that this run can decrypt."""
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
            # No cause: a parser's message would quote the content.
            raise AnsibleActionFail(f"{self.path} is not an ansible-vault encrypted keys file.") from None
        return data

    def prove_possible(self) -> None:
        """Test that a keys file can be written, before Vault is initialised. Raises AnsibleActionFail."""
        if not self.vault.secrets:
            raise AnsibleActionFail(
                "Vault's keys are encrypted with an ansible-vault password, and this run has none. Set one"
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

        A file that does not read back correctly never gets the final name.
        """
        fresh = KeysFile(str(self._sibling("new")), self.vault.secrets)
        expected = yaml.safe_load(text)
        try:
            write_atomically(fresh.path, self._encrypt(text), 0o600)
            if fresh.read() != expected:
                raise AnsibleActionFail(f"{fresh.path} does not read back as it was written.")
            if self.present():
                raise AnsibleActionFail(f"{self.path} was created meanwhile and is not overwritten.")
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


def keys_text(
    host: str,
    init_id: str,
    unseal_threshold: int,
    root_token: str,
    unseal_shares: c.Iterable[str] = (),
    pgp_shares: c.Iterable[str] = (),
) -> str:
    """Return the YAML of a keys file. Values are JSON scalars, which YAML reads as they are.

    `pgp_shares` are already encrypted, each for one holder; a file has those or `unseal_shares`.
    """
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        "---",
        f"# Keys of the Vault on {host}, created {now}.",
        f"# Without {unseal_threshold} of these shares this Vault cannot be unsealed: keep a copy elsewhere.",
        f"init_id: {json.dumps(init_id)}",
        f"unseal_threshold: {json.dumps(unseal_threshold)}",
        "pgp_shares:" if pgp_shares else "unseal_shares:",
        *(f"  - {json.dumps(share)}" for share in pgp_shares or unseal_shares),
        "# Revoked at the end of the first run.",
        f"root_token: {json.dumps(root_token)}",
        "",
    ]
    return "\n".join(lines)


def access_text(host: str, secret_id: str) -> str:
    """Return the YAML of an access file."""
    lines = [
        "---",
        f"# Lets Ansible manage the Vault on {host} without a root token. If it is lost, a run with the unseal shares",
        "# creates another one.",
        f"secret_id: {json.dumps(secret_id)}",
        "",
    ]
    return "\n".join(lines)


class CustodyAction(VaultAction):
    """Runs the module of the same name with the secrets that it needs from the controller's encrypted files.

    They are read into the arguments of this call only, so that no playbook has them in a variable. The names of
    the files are arguments of the task: `keys_file`, and `access_file` for modules that manage an open Vault.
    """

    defaults = CONNECTION | KEYS

    def arguments(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Return the module's arguments from the task's."""
        keys_path = str(args.pop("keys_file"))
        keys = KeysFile(keys_path, self._loader._vault.secrets or [])
        args["keys_present"] = keys.present()
        held = keys.read() if keys.present() else {}
        if "access_file" in args:
            args["access_secret"] = self._access(args, keys, task_vars)
        if args.get("elevate"):
            args["root_token"] = held.get("root_token")
            args["shares"] = args.get("shares") or held.get("unseal_shares") or []
        return args

    def _access(self, args: dict[str, t.Any], keys: KeysFile, task_vars: dict[str, t.Any]) -> str | None:
        """Return the secret of the managing identity; create one before a run that may install it."""
        access = KeysFile(str(args.pop("access_file")), keys.vault.secrets)
        if access.present():
            return access.read().get("secret_id")
        if not args.get("elevate") or not keys.present() or self._task.check_mode:
            return None
        access.prove_possible()
        secret_id = secrets.token_urlsafe(32)
        try:
            access.write(access_text(task_vars.get("inventory_hostname", "this host"), secret_id))
        except OSError as error:
            raise AnsibleActionFail(f"{access.path} cannot be written: {error.strerror}.") from error
        return secret_id

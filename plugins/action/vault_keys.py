# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of vault_keys: compare the shares with the host's record, and hand over those to be proven."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.vault import get_file_vault_secret
from ansible_collections.openmates.server.plugins.plugin_utils.vault import keys_state
from ansible_collections.openmates.server.plugins.plugin_utils.vault.action import CONNECTION, KEYS, STATE, VaultAction
from ansible_collections.openmates.server.plugins.plugin_utils.vault.custody import KeysFile

ROOT = {"root_url": "vault_root_url", "root_container": "vault_container"}


class ActionModule(VaultAction):
    """Shares travel only to be proven."""

    defaults = CONNECTION | KEYS | STATE | ROOT

    def arguments(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        self.prove = str(args.get("prove", False)).lower() in ("true", "yes", "1")
        self.again = str(args.get("again", False)).lower() in ("true", "yes", "1")
        self.held = self._held(args)
        return args | {"shares": None}

    def _held(self, args: dict[str, t.Any]) -> keys_state.Held:
        path = str(args["keys_file"])
        if args.get("shares"):
            return keys_state.Held("vault_given_shares", [str(share) for share in args["shares"]])
        try:
            keys = KeysFile(path, self._secrets(args.get("vault_password_file")))
            return keys_state.held_in(path, keys.read()) if keys.present() else keys_state.Held(path, missing=True)
        except AnsibleActionFail as problem:
            reason = str(problem.message).removeprefix(f"The keys file {path} ").removeprefix(f"{path} ")
            return keys_state.Held(path, fault=reason.rstrip("."))

    def _secrets(self, file: str | None) -> list:
        if not file:
            return self._loader._vault.secrets or []
        try:
            secret = get_file_vault_secret(filename=file, loader=self._loader)
            secret.load()
        except AnsibleError as problem:
            raise AnsibleActionFail(f"cannot be opened: the password file {file} cannot be read") from problem
        return [("default", secret)]

    def ask_host(self, args: dict, task_vars: dict | None) -> dict:
        answer = super().ask_host(args, task_vars)
        if answer.get("failed"):
            return answer
        found = keys_state.state_of(self.held, answer)
        shares = list(dict.fromkeys(self.held.shares))
        due = found.due or (self.again and answer.get("state") == "open" and provable(found, self.held, shares))
        if self.prove and due:
            if self._task.check_mode:
                return {"changed": True, **found.result()}
            answer = super().ask_host({**args, "shares": shares}, task_vars)
            if answer.get("failed"):
                return answer
            found = keys_state.state_of(self.held, answer)
        return {"changed": bool(answer.get("changed")), **found.result()}


def provable(found: keys_state.State, held: keys_state.Held, shares: list[str]) -> bool:
    """Whether the shares can be given to Vault: they are there and have the form of shares."""
    known_wrong = found.state == keys_state.PROBLEM and "do not open" not in found.reason
    return bool(shares) and not keys_state.malformed(held.shares) and not known_wrong

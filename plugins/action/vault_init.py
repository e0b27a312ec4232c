# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of vault_init: take Vault's keys over from the host and prove that they are in custody."""

from __future__ import annotations

import base64
import json
import secrets
import uuid

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.openmates.server.plugins.module_utils.vault.custody import pad_length, with_pad
from ansible_collections.openmates.server.plugins.plugin_utils.vault.action import (
    CONNECTION,
    KEYS,
    STATE,
    VaultAction,
)
from ansible_collections.openmates.server.plugins.plugin_utils.vault.custody import KeysFile, keys_text

SHOWN = ("changed", "initialized", "sealed", "must_reset")


class ActionModule(VaultAction):
    """Run the module on the host, keep its answer to itself and return only what is not secret.

    Ansible prints a module's raw answer in places that no result filter reaches: the ssh connection does with -vvv,
    and a failure to parse it does always. So the keys come back under a one-time pad, which travels only the other way.
    """

    defaults = CONNECTION | KEYS | STATE

    def run(self, tmp: None = None, task_vars: dict | None = None) -> dict:
        """Return changed, initialized, sealed, must_reset and keys_file."""
        result = ActionBase.run(self, tmp, task_vars)
        args = self.completed(task_vars or {})
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
                " It is still empty: run again, and it is reset and initialised again."
            ) from None

    def _ask_host(self, args: dict, task_vars: dict | None) -> dict:
        """Run the module and return its answer; raise AnsibleActionFail with its message if it failed."""
        answer = self._execute_module(module_name=self._task.action, module_args=args, task_vars=task_vars)
        if answer.get("failed"):
            details = answer.get("module_stderr") or answer.get("module_stdout") or ""
            raise AnsibleActionFail(f"{answer.get('msg', 'vault_init failed')} {details}".strip())
        return answer

# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller's part of vault_root: pass the shares, and write the token to an encrypted file."""

from __future__ import annotations

import base64
import json
import secrets
import typing as t

from ansible.errors import AnsibleActionFail
from ansible_collections.openmates.server.plugins.module_utils.vault.custody import with_pad
from ansible_collections.openmates.server.plugins.plugin_utils.vault.action import KEYS, STATE
from ansible_collections.openmates.server.plugins.plugin_utils.vault.custody import CustodyAction, KeysFile


class ActionModule(CustodyAction):
    """As with vault_init, the result is encrypted with a one-time pad, because the most verbose output prints it."""

    # Not CONNECTION's address: root tokens are made at another one, inside the container's network.
    defaults = {"deadline": "vault_deadline"} | KEYS | STATE

    def arguments(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        keys = KeysFile(str(args["keys_file"]), self._loader._vault.secrets or [])
        if not args.get("shares"):
            args["shares"] = keys.read().get("unseal_shares") if keys.present() else None
        if not args["shares"]:
            raise AnsibleActionFail(f"{keys.path} has no unseal share in plaintext. Pass them as vault_given_shares.")
        self.root_file = KeysFile(str(args["root_file"]), keys.vault.secrets)
        self.pad = secrets.token_bytes(256)
        if not self._task.check_mode:
            self.root_file.prove_possible()
        return {**args, "keys_present": keys.present(), "pad": base64.b64encode(self.pad).decode()}

    def ask_host(self, args: dict, task_vars: dict | None) -> dict:
        answer = super().ask_host(args, task_vars)
        hidden = answer.pop("custody", None)
        if hidden:
            token = with_pad(base64.b64decode(hidden), self.pad).decode()
            self.root_file.path.unlink(missing_ok=True)
            self.root_file.write(
                f"---\n# A root token; the next run of site.yml revokes it.\nroot_token: {json.dumps(token)}\n"
            )
        return {**answer, "root_file": str(self.root_file.path)}

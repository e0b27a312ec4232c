# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pin the SSH host key of a server, on the controller."""

from __future__ import annotations

import shlex
from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleActionSkip, AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.openmates.server.plugins.modules.host_key import ARGUMENTS
from ansible_collections.openmates.server.plugins.plugin_utils import host_keys
from ansible_collections.openmates.server.plugins.plugin_utils.commands import command
from ansible_collections.openmates.server.plugins.plugin_utils.ssh_messages import host_and_port, meaning

QUESTION = """
{title} shows an SSH host key that this machine does not know:

    ED25519 {fingerprint}

Compare it with the one in the provider's console. If the console shows none, log in there and run:
ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
Is it the same? (yes/no) """


class ActionModule(ActionBase):
    """Compares the key of the server or its bastion with the known ones, and asks about an unknown one."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(ARGUMENTS)
        if self._task.check_mode:
            raise AnsibleActionSkip("A host key is not pinned in check mode.")
        if self._connection.transport != "ssh":
            return result | {"changed": False, "pinned": []}
        options["bootstrap"] = f"`{command('bootstrap', task_vars)}`"
        arguments = shlex.split(self._connection.get_option("ssh_common_args") or "")
        if options["key_of"] == "bastion":
            place = host_and_port(options["bastion"].rpartition("@")[2])
            pinned = self._pin(arguments, *place, "The bastion", options | {"bastion": ""})
        else:
            arguments += shlex.split(self._connection.get_option("ssh_extra_args") or "")
            place = self._connection.get_option("host"), int(self._connection.get_option("port") or 22)
            pinned = self._pin(arguments, *place, task_vars["inventory_hostname"], options)
        return result | {"changed": bool(pinned), "pinned": pinned}

    def _pin(self, arguments: list[str], address: str, port: int, title: str, options: dict) -> list[dict[str, str]]:
        """What was written: nothing if the key is known. Raises AnsibleActionFail."""
        file, arguments = Path(options["file"]), [*arguments, "-p", str(port)]
        title = f"{title} ({address}, port {port})"
        try:
            key = host_keys.fetch(arguments, address, options["timeout"])
        except host_keys.Failed as error:
            more = {name: options[name] for name in ("bastion", "bootstrap")}
            cause = meaning(str(error), address=address, port=port, user="", **more)
            raise AnsibleActionFail(f"{title} {cause.what}. {cause.remedy}") from None
        known = host_keys.known(arguments, address, key.name, file)
        if key.key in known:
            return []
        if known:
            other = next(iter(known.values()))
            raise AnsibleActionFail(
                f"{title} shows the host key {key.fingerprint}, but this machine knows another one. If the server was "
                f"reinstalled, run `{shlex.join(['ssh-keygen', '-f', str(other), '-R', key.name])}` and this "
                "playbook again. If it was not, do not connect: it may be another server."
            )
        self._confirm(title, key.fingerprint, options["fingerprints"])
        host_keys.add(file, key)
        return [{"name": key.name, "fingerprint": key.fingerprint}]

    def _confirm(self, title: str, fingerprint: str, accepted: list[str]) -> None:
        """Raises AnsibleActionFail unless the fingerprint is among the accepted ones, or the operator says so."""
        if fingerprint in accepted or "accept" in accepted:
            return
        unattended = f"-e bootstrap_fingerprints={fingerprint}"
        if accepted:
            raise AnsibleActionFail(
                f"{title} shows the host key {fingerprint}, which is none of bootstrap_fingerprints. Compare it with "
                f"the one in the provider's console; if it is the same, pass {unattended}."
            )
        try:
            answer = Display().prompt_until(QUESTION.format(title=title, fingerprint=fingerprint))
        except AnsiblePromptNoninteractive:
            raise AnsibleActionFail(
                f"{title} shows the host key {fingerprint}, which this machine does not know, and there is no terminal "
                f"to ask on. Compare it with the one in the provider's console; if it is the same, pass {unattended}."
            ) from None
        except AnsiblePromptInterrupt:
            raise AnsibleActionFail("The host key was not confirmed.") from None
        if answer.decode(errors="replace").strip().lower() not in ("yes", "y"):
            raise AnsibleActionFail(f"{title}: the host key was not confirmed, so no connection was made.")

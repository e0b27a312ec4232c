# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy files from another host of the inventory through this machine's memory."""

from __future__ import annotations

import base64
import binascii
import shlex
from collections.abc import Iterator

from ansible.errors import AnsibleActionFail
from ansible_collections.openmates.server.plugins.modules.host_transfer import ARGUMENTS
from ansible_collections.openmates.server.plugins.plugin_utils.other_host import OtherHost
from ansible_collections.openmates.server.plugins.plugin_utils.pipelined import PipelinedAction

MIB = 1 << 20
PIECE = 8  # MiB


class ActionModule(PipelinedAction):
    """Reads on one host and writes on the task's; it runs no module."""

    _supports_check_mode = False

    def ask_host(self, args: dict, task_vars: dict | None) -> dict:
        _, given = self.validate_argument_spec(ARGUMENTS)
        self._require_pipelining()
        name = given["source_host"]
        variables = (task_vars or {}).get("hostvars", {})
        if name not in variables:
            raise AnsibleActionFail(f"The inventory has no host {name}.")
        source = OtherHost(name, self._task, self._play_context, variables[name])
        copied = 0
        try:
            for file in given["files"]:
                self._write(file["dest"], b"", ">")
                for piece in pieces(source, file["src"], file["bytes"]):
                    self._write(file["dest"], piece, ">>")
                    copied += len(piece)
        finally:
            source.close()
        return {"changed": True, "bytes": copied}

    def _write(self, path: str, content: bytes, how: str) -> None:
        command = f"umask 077; cat {how} {shlex.quote(path)}" if content else f"umask 077; : {how} {shlex.quote(path)}"
        done = self._low_level_execute_command(command, in_data=content or None)
        if done["rc"]:
            raise AnsibleActionFail(f"{path} cannot be written: {done['stderr'].strip()[-300:]}")


def pieces(source: OtherHost, path: str, size: int) -> Iterator[bytes]:
    """The content of a file. Raises AnsibleActionFail if it is not as long as expected."""
    read = 0
    while read < size:
        skip = read // MIB
        command = f"dd if={shlex.quote(path)} bs={MIB} skip={skip} count={PIECE} status=none | base64 --wrap=0"
        status, output, errors = source.output(command)
        try:
            piece = base64.b64decode("".join(output.split()), validate=True)
        except binascii.Error:
            status, piece = 1, b""
        if status or len(piece) != min(PIECE * MIB, size - read):
            raise AnsibleActionFail(
                f"{path} cannot be read on {source.name}: {errors.strip()[-300:] or 'it is not as long as it was'}"
            )
        read += len(piece)
        yield piece

#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install the units with which a host unseals its Vault and keeps the services' token valid."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_host
short_description: Equip a host to unseal its Vault and to keep the services' token valid
description:
  - Writes systemd units with what they run, enables their timers, and keeps as many unseal shares on the host as it
    takes, as a credential that systemd encrypted with the host's own key (and its TPM where there is one).
  - With O(unseal=operator) there are no shares on the host; any that were are removed.
  - The shares travel only when the host has none for this Vault. They are in no result, log, argument or plain file.
options:
  unseal:
    description: Who unseals Vault after a restart.
    type: str
    choices: [host, operator]
    default: host
  shares_credential:
    description: Where the encrypted shares are on the host. The file's name is the credential's.
    type: path
    default: /etc/credstore.encrypted/openmates-vault-shares
  program:
    description:
      - Path on the host of the units' program, C(module_utils/vault_host_program.py). The files that it shares with the
        modules are written to the same directory.
    type: path
  files:
    description: Text of each file, by absolute path.
    type: dict
    default: {}
  timers:
    description: Timers to run, now and at boot.
    type: list
    elements: str
    default: []
  unseal_files:
    description: As O(files), for O(unseal=host) only; removed otherwise.
    type: dict
    default: {}
  unseal_timers:
    description: As O(timers), for O(unseal=host) only; stopped otherwise.
    type: list
    elements: str
    default: []
  start:
    description: Services to run once, now, and to wait for.
    type: list
    elements: str
    default: []
  init_id:
    description: Set by the action plugin.
    type: str
  shares:
    description: Set by the action plugin.
    type: list
    elements: str
requirements:
  - systemd-creds on the host
author: [The openmates.server contributors]
extends_documentation_fragment: [openmates.server.vault.custody]
attributes:
  check_mode:
    description: Reports what would change.
    support: full
  diff_mode:
    description: Names only.
    support: full
"""

EXAMPLES = r"""
- name: Install the host's Vault units
  openmates.server.vault_host:
    keys_file: /home/operator/keys/prod1.yml
    unseal: host
    unseal_files:
      /etc/systemd/system/vault-unseal.service: "{{ lookup('ansible.builtin.template', 'vault-unseal.service.j2') }}"
      /etc/systemd/system/vault-unseal.timer: "{{ lookup('ansible.builtin.template', 'vault-unseal.timer.j2') }}"
    unseal_timers: [vault-unseal.timer]
"""

RETURN = r"""
changes:
  description: What was changed, or would be, by name.
  returned: success
  type: list
  elements: str
shares_due:
  description: Whether nothing was done because the host has no shares for this Vault. The action hands them over.
  returned: success
  type: bool
"""

import inspect
import pathlib
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import (
    atomic,
    docker_api,
    vault,
    vault_api,
    vault_credential,
    vault_host_program,
)

FILE_MODE = 0o644
#: How long the output of a service that has ended may take to reach the journal.
JOURNAL_SECONDS = 5


def program_files(path: str) -> dict[str, str]:
    """Map each file of the host's program to its text; `path` is the program itself, the last to be written."""
    folder = pathlib.Path(path).parent
    imported = {
        str(folder / f"{part.__name__.rpartition('.')[2]}.py"): part for part in (atomic, docker_api, vault_api)
    }
    return {name: inspect.getsource(part) for name, part in {**imported, path: vault_host_program}.items()}


class Host:
    """Brings the host to the declared state, or in check mode only records the differences."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.check = module.check_mode
        self.changes: list[str] = []

    def run(self) -> bool:
        """Do everything and return whether shares are needed for that. Raises VaultProblem."""
        params, by_host = self.params, self.params["unseal"] == "host"
        if by_host and not self.shares():
            return True
        files = program_files(params["program"]) if params["program"] else {}
        files |= params["files"] | (params["unseal_files"] if by_host else {})
        stale = [] if by_host else [path for path in params["unseal_files"] if pathlib.Path(path).exists()]
        for timer in [] if by_host else params["unseal_timers"]:
            if stale and not self.check:
                self.systemctl("disable", "--now", timer)
        for path in stale:
            self.remove(path)
        for path, text in files.items():
            self.write(path, text)
        if not by_host and pathlib.Path(params["shares_credential"]).exists():
            self.remove(params["shares_credential"])
        if not self.check:
            self.timers(params["timers"] + (params["unseal_timers"] if by_host else []))
        else:
            self.timers_due(params["timers"] + (params["unseal_timers"] if by_host else []))
        for unit in params["start"]:
            self.start(unit)
        return False

    def shares(self) -> bool:
        """Have the shares on the host, and return False if they are needed for that and not at hand."""
        credential = vault_credential.Credential(self.module, self.params["shares_credential"])
        held = credential.read()
        self.module.no_log_values.update((held or {}).get("shares", []))
        if held and held.get("init_id") == self.params["init_id"]:
            return True
        if not self.check and not self.params["shares"]:
            return False
        self.changes.append(f"credential {credential.path.name}: {'replaced' if held else 'made'}")
        if not self.check:
            credential.write({"init_id": self.params["init_id"], "shares": self.params["shares"]})
        return True

    def write(self, path: str, text: str) -> None:
        """Have the file with this text."""
        file = pathlib.Path(path)
        if file.is_file() and file.read_text() == text:
            return
        self.changes.append(f"file {path}: written")
        if not self.check:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                atomic.write_atomically(file, text.encode(), FILE_MODE)
            except OSError as error:
                raise vault.VaultProblem(f"{path} cannot be written: {error.strerror}.") from error

    def remove(self, path: str) -> None:
        self.changes.append(f"file {path}: removed")
        if not self.check:
            pathlib.Path(path).unlink()

    def timers(self, names: list[str]) -> None:
        """Make the timers run as their files declare, also after an earlier run was interrupted."""
        states = self.states(names)
        if any(
            state.get("NeedDaemonReload") == "yes" or state.get("LoadState") != "loaded" for state in states.values()
        ):
            self.systemctl("daemon-reload")
            # A running timer goes by the old text until it is started again.
            due, states = [name for name in names if states[name].get("ActiveState") == "active"], self.states(names)
            for name in due:
                self.systemctl("restart", name)
        for name, state in states.items():
            if state.get("UnitFileState") != "enabled" or state.get("ActiveState") != "active":
                self.changes.append(f"timer {name}: started")
                self.systemctl("enable", "--now", name)

    def timers_due(self, names: list[str]) -> None:
        """Note, for check mode, the timers that would be started."""
        for name, state in self.states(names).items():
            if state.get("UnitFileState") != "enabled" or state.get("ActiveState") != "active":
                self.changes.append(f"timer {name}: started")

    def states(self, names: list[str]) -> dict[str, dict[str, str]]:
        """What systemd knows of each timer and of the service it starts."""
        if not names:
            return {}
        services = [f"{name.removesuffix('.timer')}.service" for name in names]
        keys = ("LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload")
        text = self.systemctl("show", *names, *services, *(f"--property={key}" for key in keys))
        found = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in text.split("\n\n")]
        for timer, service in zip(found, found[len(names) :], strict=False):
            if service["NeedDaemonReload"] == "yes":
                timer["NeedDaemonReload"] = "yes"
        return dict(zip(names, found, strict=False))

    def start(self, unit: str) -> None:
        """Run a service once and wait for its end. Raises VaultProblem with its own output if it failed."""
        self.changes.append(f"service {unit}: run")
        if self.check:
            return
        # Not `start`: that would be content with a run that began before what it needs was there.
        began = time.time()
        code, _, _ = self.module.run_command(["systemctl", "restart", unit])
        if code:
            raise vault.VaultProblem(f"{unit} failed: {self.last_words(unit, began)}")

    def last_words(self, unit: str, began: float) -> str:
        """The service's own last lines in the journal since then, without those of systemd."""
        # Not by the invocation's id: lines that the journal receives after the end of the service lack it.
        look = ["journalctl", f"_SYSTEMD_UNIT={unit}", f"--since=@{began:.6f}", "--lines=3", "--output=cat"]
        end = time.monotonic() + JOURNAL_SECONDS
        while time.monotonic() < end:
            _, said, _ = self.module.run_command([*look, "--quiet", "--no-pager"])
            if said.strip():
                return " ".join(said.split())
            time.sleep(0.2)
        return f"see journalctl --unit {unit}"

    def systemctl(self, *arguments: str) -> str:
        code, out, error = self.module.run_command(["systemctl", *arguments])
        if code:
            raise vault.VaultProblem(f"systemctl {' '.join(arguments)} failed: {error.strip()}")
        return out


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **vault.CUSTODY,
            "unseal": {"type": "str", "choices": ["host", "operator"], "default": "host"},
            "shares_credential": {
                "type": "path",
                "default": "/etc/credstore.encrypted/openmates-vault-shares",
                "no_log": False,
            },
            "program": {"type": "path"},
            "files": {"type": "dict", "default": {}},
            "timers": {"type": "list", "elements": "str", "default": []},
            "unseal_files": {"type": "dict", "default": {}},
            "unseal_timers": {"type": "list", "elements": "str", "default": []},
            "start": {"type": "list", "elements": "str", "default": []},
            "init_id": {"type": "str"},
            "shares": {"type": "list", "elements": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    host = Host(module)
    # The units' texts would only make the most verbose output longer.
    shown = {"module_args": {**module.params, "shares": None, "files": list(module.params["files"])}}
    shown["module_args"]["unseal_files"] = list(module.params["unseal_files"])
    try:
        shares_due = host.run()
    except vault.VaultProblem as problem:
        module.fail_json(msg=str(problem), invocation=shown)
    result = {"changed": bool(host.changes), "changes": host.changes, "shares_due": shares_due, "invocation": shown}
    if module._diff:
        result["diff"] = {"before": "", "after": "".join(f"{change}\n" for change in host.changes)}
    module.exit_json(**result)


if __name__ == "__main__":
    main()

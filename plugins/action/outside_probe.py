# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe a host from the controller, and scan its ports while the play goes on."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from pathlib import Path

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.openmates.server.plugins.modules import outside_probe
from ansible_collections.openmates.server.plugins.plugin_utils.change.outcome import OUTCOMES


class ActionModule(ActionBase):
    """Runs in the worker of its task. A scan that is started runs in a process of its own, which outlives that."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = False
    TRANSFERS_FILES = False

    def run(self, tmp: None = None, task_vars: dict | None = None) -> dict:
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(outside_probe.ARGUMENTS, **outside_probe.RULES)
        try:
            outside_probe.check(options)
            if options["start"]:
                changes = OUTCOMES.count((task_vars or {}).get("inventory_hostname", ""))
                return {"changed": False, "scan": started(options), "changes": changes}
            if options["scan"]:
                parameters, found = finished(Path(options["scan"]))
                return {"changed": False, **outside_probe.probe_after(parameters, found, options)}
            return {"changed": False, **outside_probe.probe(options)}
        except (ValueError, RuntimeError) as error:
            raise AnsibleActionFail(str(error)) from None


def started(parameters: dict) -> str:
    """Start a scan in the background and return the file that will have its result.

    The process has a lock on the file until it ends, however it ends, so that its end can be waited for. A run that
    ends before leaves a process that ends by itself at its deadline.
    """
    number, file = tempfile.mkstemp(prefix="scan-", dir=C.DEFAULT_LOCAL_TMP)
    with os.fdopen(number, "w") as result:
        fcntl.flock(result, fcntl.LOCK_EX)
        if os.fork():
            return file
        try:
            os.setsid()
            result.write(json.dumps([parameters, _scanned(parameters)]))
            result.flush()
        finally:
            os._exit(0)  # the code above is that of the worker, whose task is not this process's


def _scanned(parameters: dict) -> dict | str:
    """What was found, or why there is no result."""
    try:
        return outside_probe.scan_ports(parameters)
    except (ValueError, RuntimeError, OSError) as error:
        return str(error)


def finished(file: Path) -> tuple[dict, dict]:
    """The parameters and the result of a scan, after its end, once. Raises RuntimeError if there is none."""
    with contextlib.suppress(OSError), file.open() as result:
        fcntl.flock(result, fcntl.LOCK_SH)
        text = result.read()
        file.unlink()
        if text:
            parameters, found = json.loads(text)
            if isinstance(found, dict):
                return parameters, found
            raise RuntimeError(found)
    raise RuntimeError("the scan ended without a result")

# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program that only reads. Not AnsibleModule.run_command, which threads cannot share."""

from __future__ import annotations

import os
import subprocess
import typing as t

SECONDS = 120

#: As the command task of Ansible returns it: rc, stdout and stderr.
Answer = dict[str, t.Any]


def run(*command: str, text: str = "") -> Answer:
    """The result of a command. One that cannot be run or does not end has the exit status 127."""
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
        )
    except subprocess.TimeoutExpired:
        return {"rc": 127, "stdout": "", "stderr": f"{command[0]} did not end within {SECONDS} s"}
    except OSError as error:
        return {"rc": 127, "stdout": "", "stderr": f"{command[0]} cannot be run: {error.strerror}"}
    return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}

#!/usr/bin/env python3
"""Run a command, and start it again whenever a Python or YAML file below a directory changes.

Usage: reload.py DIRECTORY COMMAND [ARGUMENT...]. For development only. Needs watchfiles, which OpenMates' image has.
"""

import shlex
import sys

from watchfiles import DefaultFilter, run_process


class Code(DefaultFilter):
    """Files that the backend reads when it starts."""

    def __call__(self, change, path: str) -> bool:
        return path.endswith((".py", ".yml", ".yaml", ".json")) and super().__call__(change, path)


if __name__ == "__main__":
    directory, *command = sys.argv[1:]
    run_process(directory, target=shlex.join(command), target_type="command", watch_filter=Code())

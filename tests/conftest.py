"""Makes the collection importable under its own name, as Ansible does, and its modules callable."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import progress
import pytest
from ansible.module_utils.common.parameters import PASS_VARS
from ansible.module_utils.testing import patch_module_args
from ansible.plugins.loader import init_plugin_loader

# Whatever a test talks to is on this machine.
os.environ.update(NO_PROXY="*", no_proxy="*")

init_plugin_loader([str(Path(__file__).parents[1] / "collections")])


def pytest_configure(config: pytest.Config) -> None:
    progress.register(config)


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture) -> Callable[..., dict]:
    """Run a module's ``main`` with arguments and return its result; ``check`` and ``diff`` are Ansible's modes."""

    def run(main: Callable[[], None], *, check: bool = False, diff: bool = False, **arguments: object) -> dict:
        modes = {"_ansible_check_mode": check, "_ansible_diff": diff}
        if "inject_invocation" in PASS_VARS:  # since ansible-core 2.21 an answer tells the arguments only when asked
            modes["_ansible_inject_invocation"] = True
        with patch_module_args({**arguments, **modes}), pytest.raises(SystemExit):
            main()
        return json.loads(capsys.readouterr().out)

    return run

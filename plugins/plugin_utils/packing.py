# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack the modules of a play while its first tasks run.

Ansible packs a module with all that it imports before its first call, for which it parses fifty files, and keeps the
package until the end of the run. Here the same function fills the same store, in the order in which the modules are
needed. A worker that needs one that is not there yet packs it by itself, or waits for this process: Ansible has a lock
for that, since workers for several hosts do the same.
"""

from __future__ import annotations

import contextlib
import functools
import os
import typing as t
from collections.abc import Iterable, Iterator

from ansible import constants as C
from ansible.executor import module_common
from ansible.playbook.block import Block
from ansible.plugins.loader import action_loader, module_loader
from ansible.template import Templar
from ansible.utils.display import Display


def actions(tasks: Iterable) -> Iterator[str]:
    """The actions of tasks and of all tasks in blocks, which is what an imported role is too."""
    for task in tasks:
        if isinstance(task, Block):
            yield from actions([*task.block, *task.rescue, *task.always])
        else:
            yield task.resolved_action or task.action


def sent(names: Iterable[str]) -> list[str]:
    """Those of the actions that may send a module to the host, each once, in order."""
    plugins = {name: action_loader.get(name, class_only=True) for name in dict.fromkeys(names)}
    return [name for name, plugin in plugins.items() if getattr(plugin, "_requires_connection", True)]


def parse_once() -> None:
    """Have this process parse each file once: Ansible does it for each module, and nearly all import the same files."""
    parse = getattr(module_common, "_compile_module_ast", None)
    if parse:  # another Ansible may have another name for it
        module_common._compile_module_ast = functools.cache(parse)


def pack(names: Iterable[str], loader: t.Any) -> None:
    """Pack these modules. `loader`: Ansible's, of this run."""
    for name in names:
        found = module_loader.find_plugin_with_context(name)
        if found.resolved and found.plugin_resolved_path.endswith(".py"):
            module_common.modify_module(
                module_name=found.resolved_fqcn,
                module_path=found.plugin_resolved_path,
                module_args={},
                templar=Templar(loader),
                task_vars={},
                module_compression=C.DEFAULT_MODULE_COMPRESSION,
            )


def start(names: Iterable[str], loader: t.Any) -> int:
    """Pack these modules in a process of its own, whose end is of no interest; the id of the process.

    Whatever goes wrong in it, a worker meets it too, and reports it.
    """
    with Display()._lock:  # as Ansible forks its workers: no thread is in the middle of a line
        child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        silence = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(silence, standard)
        with contextlib.suppress(Exception):
            parse_once()
            pack(names, loader)
    finally:
        os._exit(0)

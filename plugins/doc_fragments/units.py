# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option `units` of all modules that start services; module_utils/units.py has the same as argument spec."""

from __future__ import annotations


class ModuleDocFragment:
    """One shape for systemd units, wherever they are started."""

    DOCUMENTATION = r"""
options:
  units:
    description: The systemd units, in this order.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Name of the unit., type: str, required: true}
      state:
        description: >-
          V(started) runs now and at boot, V(stopped) neither. V(run) starts a service that ends, and waits for its end.
          V(loaded) only has systemd read its file again if that changed: a timer or another unit starts it.
          V(refreshed) reads its files again if it runs, and is neither started nor enabled.
        type: str
        choices: [started, stopped, run, loaded, refreshed]
        default: started
      files:
        description: The configuration files that the unit reads when it starts or reloads.
        type: list
        elements: path
        default: []
      refresh:
        description: How a running unit reads its files again.
        type: str
        choices: [reload, restart]
        default: reload
      restart_files:
        description: Files that take effect only after a restart, such as a timer's own or drop-ins of a service.
        type: list
        elements: path
        default: []
      reason: {description: "The reason, as documentation.", type: str}
"""

#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply kernel settings now and at boot in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sysctl_settings
short_description: Write kernel settings to a file that is read at boot, and apply them to the running kernel
description:
  - The file is always written. In the running kernel each value is compared and, if it differs, set.
  - Settings that this kernel does not have, or does not allow to be set, are skipped and listed in RV(left).
options:
  path:
    description: The file, one that systemd-sysctl reads at boot.
    type: path
    required: true
  settings:
    description: The settings.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the setting. A C(*) between dots stands for every network interface, at boot also for those that
            appear later.
        type: str
        required: true
      value: {description: "Its value.", type: str, required: true}
      reason: {description: "The reason. Becomes a comment in the file.", type: str, required: true}
  header:
    description: First line of the file, a comment.
    type: str
    default: Managed by Ansible.
  root:
    description: Directory of the kernel's settings.
    type: path
    default: /proc/sys
attributes:
  check_mode: {support: full, description: Reports what would change.}
  diff_mode: {support: full, description: Shows the file and the running values that differ.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Ignore ICMP redirects
  openmates.server.sysctl_settings:
    path: /etc/sysctl.d/99-openmates.conf
    settings:
      - {name: net.ipv4.conf.*.accept_redirects, value: "0", reason: Other hosts cannot redirect this host's packets.}
"""

RETURN = r"""
applied:
  description: Settings of the running kernel that differed and were set.
  type: list
  elements: str
  returned: always
  sample: [net.ipv4.conf.all.accept_redirects]
left:
  description: Names of settings that this kernel does not have, or that differ and cannot be set.
  type: list
  elements: str
  returned: always
"""

import os
import stat
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import files


def text(header: str, settings: list[dict]) -> str:
    """The file's text: each setting below its reason."""
    lines = [f"# {header}"]
    for setting in settings:
        lines += ["", f"# {setting['reason']}", f"{setting['name']} = {setting['value']}"]
    return "\n".join(lines) + "\n"


def places(root: Path, name: str) -> list[Path]:
    """Paths of a setting, one per interface if the name has a star. Dots and slashes are swapped."""
    relative = name.translate(str.maketrans("./", "/."))
    return sorted(root.glob(relative)) if "*" in relative else [path for path in [root / relative] if path.exists()]


def current(path: Path) -> str | None:
    """A setting's current value with single spaces, None if it cannot be read."""
    try:
        return " ".join(path.read_text().split())
    except OSError:
        return None


def set_value(path: Path, value: str) -> bool:
    """Whether the kernel accepted the value."""
    try:
        path.write_text(value)
    except OSError:
        return False
    return True


def apply(root: Path, settings: list[dict], dry: bool) -> tuple[list[dict[str, str]], list[str]]:
    """Apply the settings to the running kernel; returns the differences and the names of skipped settings."""
    differed, left = [], []
    for setting in settings:
        value, found, refused = " ".join(setting["value"].split()), places(root, setting["name"]), False
        for path in found:
            before = current(path)
            if before == value:
                continue
            if os.access(path, os.W_OK) and (dry or set_value(path, value)):
                name = str(path.relative_to(root)).translate(str.maketrans("./", "/."))
                differed.append({"name": name, "before": before or "", "after": value})
            elif path.exists():  # an interface may have been removed meanwhile
                refused = True
        if refused or not found:
            left.append(setting["name"])
    return differed, left


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "settings": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "value": {"type": "str", "required": True},
                    "reason": {"type": "str", "required": True},
                },
            },
            "header": {"type": "str", "default": "Managed by Ansible."},
            "root": {"type": "path", "default": "/proc/sys"},
        },
        supports_check_mode=True,
    )
    path, settings = Path(module.params["path"]), module.params["settings"]
    content = text(module.params["header"], settings)
    before = path.read_text(errors="replace") if path.is_file() else ""
    wrong = before != content or stat.S_IMODE(path.stat().st_mode) != 0o644
    diff = [files.difference(str(path), before, content)] * wrong
    try:
        if wrong and not module.check_mode:
            files.write(path, content, 0o644)
    except OSError as error:
        module.fail_json(msg=f"{path} cannot be written: {error}")
    differed, left = apply(Path(module.params["root"]), settings, module.check_mode)
    if differed:
        lines = ["".join(f"{item['name']} = {item[when]}\n" for item in differed) for when in ("before", "after")]
        diff.append(files.difference("running kernel", *lines))
    result = {"changed": bool(wrong or differed), "applied": [item["name"] for item in differed], "left": left}
    module.exit_json(**result, diff=diff if module._diff else [])


if __name__ == "__main__":
    main()

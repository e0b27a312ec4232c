# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge the names of the variables that an operator set."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.verb_arguments import nearest

PREFIX = "openmates_"
#: Settings that have another name now.
RENAMED: dict[str, str] = {
    "verify_addresses": "openmates_public_addresses",
    "verify_families": "openmates_probe_families",
}
#: Settings that are gone, and what to do about each.
REMOVED = {
    "openmates_ready_path": (
        "Remove it: the readiness probe is a part of this project. "
        "Caddy and the health check request openmates_health_path"
    ),
    "openmates_images": "Set openmates_services: {cms: {image: ...}} instead, with the services' names",
    "openmates_memory": "Set openmates_services: {cms: {memory: ...}} instead, with the services' names",
    "openmates_ports": "Set openmates_services: {cms: {host_port: ...}} instead, for api, cms and grafana",
    "openmates_tools": "Set openmates_services: {cms: {address: ..., tunnel: ...}} instead, with the services' names",
    "hardening_sysctl": "Name what this server does without in openmates_hardening_without",
    "hardening_blocked_modules": "Name what this server does without in openmates_hardening_without",
}
#: Ansible's variables that the playbooks set. In group_vars they have no effect; elsewhere Ansible would connect in
#: another way than the firewall, verify and the bastion expect.
CONNECTION = {
    "ansible_port": "openmates_ssh_port",
    "ansible_ssh_port": "openmates_ssh_port",
    "ansible_ssh_extra_args": "ansible_ssh_common_args",
    "ansible_sftp_extra_args": "ansible_ssh_common_args",
    "ansible_scp_extra_args": "ansible_ssh_common_args",
}
#: Names under which an operator may look for what this project cannot do, and what to do instead.
UNSUPPORTED = {
    name: (
        "The Caddy of Debian 13 (2.6.2) cannot read the PROXY protocol. Switch it off at the load balancer, let it "
        "send X-Forwarded-For, and name its network in openmates_trusted_proxies"
    )
    for name in ("openmates_proxy_protocol", "openmates_caddy_proxy_protocol")
}
#: From this likeness on the first word of a name is taken for the prefix, misspelt: openmate_, openmats_, open_mates_.
PREFIX_ALIKE = 0.8
#: From this likeness on a name is taken for another one, misspelt.
ALIKE = 0.85
_WIRED = re.compile(r'^([a-z]\w*): "{{ settings\.(\w+) }}"$', re.MULTILINE)


def settings_by_role_variable(wiring: str) -> dict[str, str]:
    """The setting that decides each variable of a role, read from the text of the playbooks' group_vars."""
    return {variable: PREFIX + setting for variable, setting in _WIRED.findall(wiring)}


def misspelt_prefix(name: str, settings: Collection[str]) -> str:
    """The setting that a name without the prefix probably is: openmate_domain, Openmates-domain. Or an empty string."""
    if name.startswith(PREFIX):
        return ""
    text = re.sub(r"[-.]", "_", name.lower()).replace("open_mate", "openmate", 1)
    if not text.startswith(PREFIX):
        first, separator, rest = text.partition("_")
        if not separator or difflib.SequenceMatcher(None, first, PREFIX.rstrip("_")).ratio() < PREFIX_ALIKE:
            return ""
        text = PREFIX + rest
    return _nearest(text, settings)


def problem_of(
    name: str,
    settings: Collection[str],
    project: Collection[str],
    roles: Collection[str],
    wired: Mapping[str, str],
) -> str:
    """What is wrong with a name in an inventory and what to do about it, or an empty string.

    settings: the names of all settings. project: the names of all variables of roles and playbooks, with the settings.
    roles: the names of the roles. wired: the setting that decides a variable of a role, where there is one.
    """
    if name in settings:
        return ""
    if name in CONNECTION:
        return f"the playbooks set it. Set {CONNECTION[name]} instead."
    if name in RENAMED:
        return f"it is called {RENAMED[name]} now. Rename it."
    if name in REMOVED:
        return f"there is no such setting any more. {REMOVED[name]}."
    if name in UNSUPPORTED:
        return f"there is no such setting. {UNSUPPORTED[name]}."
    if name.startswith(PREFIX):
        if name in project:
            return "the playbooks derive it from other settings. Remove it."
        meant = nearest(name, settings)
        return "there is no such setting. " + (
            f"Did you mean {meant}?" if meant else "roles/settings/defaults/main has all of them."
        )
    if meant := misspelt_prefix(name, settings):
        return f"there is no such setting. Did you mean {meant}?"
    role = next((role for role in roles if name.startswith(f"{role}_")), "")
    if not role:
        return ""
    variable = name if name in project else _resembled(name, role, project)
    if not variable:
        return ""  # a variable of another project, which shares the inventory
    meant = wired.get(variable) or (PREFIX + variable if PREFIX + variable in settings else "")
    remedy = f"Set {meant} instead." if meant else "Remove it: there is no setting for it."
    if variable != name:
        return f"it resembles {variable}, a variable of the role {role}, which only the playbooks set. {remedy}"
    return f"it is a variable of the role {role}, which only the playbooks set. {remedy}"


def _resembled(name: str, role: str, project: Collection[str]) -> str:
    return _nearest(name, [variable for variable in project if variable.startswith(f"{role}_")])


def _nearest(name: str, known: Collection[str]) -> str:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=ALIKE)), "")

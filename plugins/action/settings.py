# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate the settings of an operator and convert them to their types, before any connection."""

from __future__ import annotations

from pathlib import Path

from ansible import context
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.openmates.server.plugins.plugin_utils.services.catalogue import SETTING as SERVICES
from ansible_collections.openmates.server.plugins.plugin_utils.settings import inventory, names, overrides, reading
from ansible_collections.openmates.server.plugins.plugin_utils.verb_arguments import names_in

COLLECTION = Path(__file__).resolve().parents[2]
COMMAND_LINE = "the command line (-e)"


class ActionModule(ActionBase):
    """Reads the variables of a host as its inventory and the command line set them."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        self.validate_argument_spec({})
        specs = reading.specifications(COLLECTION)
        host = task_vars["inventory_hostname"]
        if problem := inventory.misnamed(task_vars["hostvars"], host):
            raise AnsibleActionFail(problem)
        values = inventory.variables(task_vars["hostvars"], host, self._loader)
        extra = load_extra_vars(self._loader)
        places = {name: given[-1][1] for name, given in values.items()}
        wrong = _misnamed(specs, places, extra)
        places |= _places_of(extra)

        default = reading.defaults(COLLECTION, self._loader)[SERVICES]
        given = values.get(SERVICES, []) + [(extra[name], places[name]) for name in extra if name == SERVICES]
        if sum(self._sets_services(str(option)) for option in context.CLIARGS.get("extra_vars") or ()) > 1:
            raise AnsibleActionFail(f"{SERVICES} is set in {COMMAND_LINE} twice. Set it once.")
        try:
            services = overrides.collect(overrides.in_order(task_vars[SERVICES], default, given), self._templar)
        except ValueError as files:
            raise AnsibleActionFail(f"{SERVICES} is set in {files}. Set it in one of them.") from None
        places |= services.places

        settings = reading.read(specs, task_vars, places, self._templar, default, services.values)
        for name, why in (services.wrong | settings.wrong).items():
            wrong.append(f"{name} in {places.get(name, reading.DEFAULTS)} {why}{'' if why[-1] in '.?' else '.'}")
        if wrong:
            lines = [f"{host} was left as it was, because of its settings:", *(f"- {problem}" for problem in wrong)]
            return result | {"failed": True, "msg": "\n".join(lines)}
        hidden = {"_ansible_no_log": True}  # secrets are among them; a failure above shows none
        set_in = {name: where for name, where in places.items() if name.partition(".")[0] in specs}
        secrets = [name for name, spec in specs.items() if spec.get("no_log")]
        more = {"changed": False, "named": settings.values, "unresolved": settings.unresolved, "places": set_in}
        more["plaintext"] = inventory.in_plaintext(values, secrets)
        return result | settings.short | more | hidden

    def _sets_services(self, option: str) -> bool:
        """Whether an option of the command line sets openmates_services, by itself or in the file that it names."""
        if not option.startswith("@"):
            return SERVICES in option
        return SERVICES in self._loader.load_from_file(option[1:])  # Ansible has read it before, as a mapping


def _places_of(extra: dict) -> dict[str, str]:
    """Where the variables of the command line are: there, or in a file that it names."""
    return {name: inventory.place(name, value, otherwise=COMMAND_LINE) for name, value in extra.items()}


def _misnamed(specs: dict[str, dict], places: dict[str, str], extra: dict) -> list[str]:
    """What is wrong with the names of the variables in the inventory and on the command line."""
    roles = sorted(path.name for path in (COLLECTION / "roles").iterdir() if path.is_dir())
    prefixes = tuple(f"{role}_" for role in (names.PREFIX.rstrip("_"), *roles))

    def ours(name: str) -> bool:
        return name.startswith(names.PREFIX) or name in names.CONNECTION or bool(names.misspelt_prefix(name, specs))

    given = {
        name: where for name, where in places.items() if name not in specs and (name.startswith(prefixes) or ours(name))
    }
    # On the command line a variable of a role is an argument of a playbook, or a trial.
    unknown = {name: value for name, value in extra.items() if name not in specs and ours(name)}
    given |= _places_of(unknown)
    if not given:
        return []
    wiring = sorted((COLLECTION / "playbooks/group_vars").rglob("*.yml"))
    project = names_in([*wiring, *COLLECTION.glob("roles/*/defaults/**/*.yml"), *COLLECTION.glob("roles/*/vars/*.yml")])
    wired = names.settings_by_role_variable("\n".join(file.read_text(encoding="utf-8") for file in wiring))
    problems = []
    for name, where in sorted(given.items()):
        if name in unknown and name in project and name not in names.CONNECTION:
            continue
        problem = names.problem_of(name, specs, project, roles, wired)
        if problem:
            problems.append(f"{name} in {where}: {problem}")
    return problems

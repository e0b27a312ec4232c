# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check settings and host facts before a run, and return problems as sentences for an operator.

Each check has one concern and yields its problems. A problem must never contain the value of a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.preflight import (
    access,
    addresses,
    alerts,
    backend,
    backup,
    database,
    directus,
    docker,
    exposure,
    forms,
    hooks,
    host,
    images,
    memory,
    names,
    neighbours,
    network,
    secrets,
    services,
    vault,
)
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import ENVIRONMENTS, Preflight
from ansible_collections.openmates.server.plugins.plugin_utils.settings.reading import TEMPLATE


def check_worked_out(run: Preflight) -> Iterator[str]:
    for name, error in run.broken.items():
        if error == TEMPLATE:
            remedy = "Put !unsafe before the value if it is meant literally, or define what it refers to"
            yield run.problem(name, error, remedy)
            continue
        yield run.problem(
            name, f"it cannot be evaluated: {error}", "Define what it refers to, or give it a plain value"
        )


def check_environment(run: Preflight) -> Iterator[str]:
    if run.environment not in ENVIRONMENTS:
        known = " or ".join(ENVIRONMENTS)
        yield run.problem(
            "openmates_environment",
            f"{run.environment!r} is not an environment",
            f"Put the host into the inventory group {known}, which sets it",
        )


CHECKS = (
    check_environment,
    *forms.CHECKS,
    *alerts.CHECKS,
    *hooks.CHECKS,
    *host.CHECKS,
    *neighbours.CHECKS,
    *docker.CHECKS,
    *network.CHECKS,
    *memory.CHECKS,
    *addresses.CHECKS,
    *names.CHECKS,
    *secrets.CHECKS,
    *exposure.CHECKS,
    *access.CHECKS,
    *services.CHECKS,
    *backend.CHECKS,
    *images.CHECKS,
    *database.CHECKS,
    *directus.CHECKS,
    *vault.CHECKS,
    *backup.CHECKS,
    check_worked_out,
)


def preflight_problems(
    settings: Mapping,
    facts: Mapping | None = None,
    files: Mapping | None = None,
    values: Mapping | None = None,
    unresolved: Mapping[str, str] | None = None,
    places: Mapping[str, str] | None = None,
    host_state: Mapping | None = None,
) -> list[str]:
    """The problems that prevent a run, one or two sentences each; an empty list if there are none.

    ``settings``: openmates_* variables by name; undefined ones may raise when read.
    ``values`` and ``unresolved``: more of them that have been read before, and why others have no value.
    ``places``: where settings are set, by name; for others a message names the file that they belong in.
    ``facts``: the host's ansible_facts.
    ``host_state``: what the module host_info returned.
    ``files``: paths for the messages, keys ``settings``, ``secrets``, ``exposure``, ``inventory``, all optional.
    """
    run = Preflight(settings, facts or {}, files or {}, values or {}, unresolved or {}, places or {}, host_state or {})
    return [problem for check in CHECKS for problem in check(run)]

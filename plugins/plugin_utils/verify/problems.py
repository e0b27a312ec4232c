# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The problems of a live server, each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.verify.backup import problems_of_backup
from ansible_collections.openmates.server.plugins.plugin_utils.verify.network import (
    problems_of_addresses,
    problems_of_listeners,
    problems_of_ports,
)
from ansible_collections.openmates.server.plugins.plugin_utils.verify.results import (
    Readiness,
    not_provisioned,
    probed_addresses,
    service_names,
    service_trouble,
    to_be_made,
    web_answers,
)

MIN_DAYS_LEFT = 7
OPERATOR, MAINTENANCE_STATUS = "operator", 503
SETUP = "site.yml --tags stack runs cms-setup again. See `sudo docker compose logs cms-setup` on the host for refusals"
POLICIES = "site.yml --tags vault writes the policies and the engines"
#: Remedy for each failed part of the readiness.
REMEDIES = {
    "directus_login": "The api logs in with openmates_admin_email and openmates_admin_password: site.yml writes both "
    "for the api and for Directus's administrator",
    "collections": SETUP,
    "fields": SETUP,
    "vault_token": "site.yml --tags vault issues a token; `sudo journalctl -u openmates-vault-token` shows its "
    "renewals",
    "vault_policy": POLICIES,
    "transit": POLICIES,
    "cache": "site.yml writes openmates_cache_password for the cache and its clients; see "
    "`sudo docker compose logs cache`",
    "queue": "See `sudo docker compose ps --all` and the worker's `sudo docker compose logs`. Which queues a worker "
    "consumes is set by openmates_worker_queues and openmates_apps",
    "health": "See `sudo docker compose logs api` on the host",
    "initialisation": "Remove the cause, then `sudo docker compose restart api` in the project's directory on the host",
}


def _problems_of_maintenance(seen: Mapping) -> Iterator[str]:
    if not seen.get("maintenance_allowed"):
        yield from problems_of_flag(Readiness(seen).maintenance)


def problems_of_flag(flag: Mapping | None) -> Iterator[str]:
    """The problem of a server with this flag of maintenance, which is None while clients are served."""
    if flag is None:
        return
    words = [f"since {flag.get('since') or 'an unknown time'}", f"by {flag.get('by') or 'an unknown operator'}"]
    words += [str(flag["reason"])] if flag.get("reason") else []
    owner = str(flag.get("owner") or OPERATOR)
    left = "" if owner == OPERATOR else f"A run of {owner} did not succeed: run it again. "
    remedy = f"{left}`maintenance.yml -e state=off` ends it"
    yield f"Clients get 503, the server is in maintenance ({', '.join(words)}). {remedy}"


def _problems_of_web(seen: Mapping) -> Iterator[str]:
    silent = {address for address, entry in probed_addresses(seen).items() if not entry["answered"]}
    closed = Readiness(seen).maintenance is not None
    for answer in web_answers(seen):
        if closed and answer.get("status") == MAINTENANCE_STATUS:
            continue  # reported as maintenance
        if answer["address"] in silent:
            continue  # reported for the address
        if not answer["ok"]:
            issuer = f" (certificate by {answer['issuer']})" if answer.get("issuer") else ""
            yield f"{answer['url']} at {answer['address']}: {answer['error']}{issuer}{_caddy_hint(seen, answer)}"
        elif answer.get("days_left") is not None and answer["days_left"] < MIN_DAYS_LEFT:
            days = answer["days_left"]
            yield f"{answer['url']} at {answer['address']}: its certificate expires in {days} days and was not renewed"


def _caddy_hint(seen: Mapping, answer: Mapping) -> str:
    """A hint for a 503 that Caddy sends because it considers the upstream down."""
    if answer.get("status") != 503 or not Readiness(seen).ok:
        return ""
    return (
        ". OpenMates is ready, but Caddy considers this name's upstream down (was its health probe refused?): "
        "`sudo journalctl -u caddy` on the host"
    )


def problems_of_readiness(seen: Mapping) -> Iterator[str]:
    readiness = Readiness(seen)
    if not readiness.wanted or readiness.ok:
        return
    if not readiness.failing:
        remedy = "If it is missing, site.yml --tags stack writes it"
        yield f"openmates-ready failed on the host: {readiness.error}. {remedy}"
        return
    groups = readiness.by_detail()
    if len(readiness.failing) == len(readiness.parts) and len(groups) == 1:
        yield (
            f"OpenMates is not ready: {next(iter(groups))}. "
            "See `sudo docker compose ps --all api` and `sudo docker compose logs api` on the host"
        )
        return
    for detail, names in groups.items():
        yield f"OpenMates is not ready, {', '.join(names)}: {detail}{_remedy(seen, names[0], detail)}"


def _remedy(seen: Mapping, name: str, detail: str) -> str:
    """The remedy for a part that failed; empty if another part's failure is the cause."""
    if detail.startswith("not asked:"):
        return ""
    remedy = REMEDIES.get(name.partition(":")[0], "")
    if name == "vault_token" and "sealed" in detail:
        remedy = (seen.get("hints") or {}).get("vault") or remedy
    return f". {remedy}" if remedy else ""


def _problems_of_services(seen: Mapping) -> Iterator[str]:
    if seen.get("services_problem"):
        yield f"The services could not be read: {seen['services_problem']}"
        return
    for name in service_names(seen):
        trouble = service_trouble(seen, name)
        if trouble and not to_be_made(seen, name):
            hint = (seen.get("hints") or {}).get(name, "")
            hint = f". {hint}" if hint else ""
            yield f"Service {name}: {trouble}. See `sudo docker compose logs {name}` on the host{hint}"


def _problems_of_keys(seen: Mapping) -> Iterator[str]:
    problem = (seen.get("keys") or {}).get("problem")
    if problem:
        yield f"Keys on this machine: {problem}"


def problems_of(seen: Mapping) -> list[str]:
    """All problems, one sentence each; empty if there are none.

    What a dry run finds missing on a new server is not a problem.
    """
    if not_provisioned(seen):
        return list(problems_of_addresses(seen))
    parts = (
        problems_of_addresses,
        problems_of_ports,
        problems_of_listeners,
        _problems_of_maintenance,
        _problems_of_web,
        problems_of_readiness,
        _problems_of_services,
        _problems_of_keys,
        problems_of_backup,
    )
    return [problem for part in parts for problem in part(seen)]

# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results of verifying a live server, as a table for an operator and as a list of problems.

Both filters take the same dictionary, whose keys the documentation of ``verify_report`` describes.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

FAMILIES = {4: "IPv4", 6: "IPv6"}
PUBLISHED = re.compile(r"(?P<address>\S*):(?P<first>\d+)(-(?P<last>\d+))?->\S+/tcp")
MIN_DAYS_LEFT = 7
#: How compose_info begins when Docker is installed and fails; its other reasons are what a new server lacks.
ENGINE_BROKEN = "Docker does not answer"
SETUP = "site.yml --tags stack runs cms-setup again. See `sudo docker compose logs cms-setup` on the host for refusals"
POLICIES = "site.yml --tags vault writes the policies and the engines"
#: Remedy for each failed part of the readiness.
REMEDIES = {
    "directus_login": "The api logs in with openmates_admin_email and openmates_admin_password: site.yml writes both "
    "for the api and for Directus's administrator",
    "collections": SETUP,
    "fields": SETUP,
    "vault_token": "site.yml --tags vault issues a token; journalctl -u openmates-vault-token shows its renewals",
    "vault_policy": POLICIES,
    "transit": POLICIES,
    "cache": "site.yml writes openmates_cache_password for the cache and its clients; see `docker compose logs cache`",
    "queue": "See `docker compose ps --all` and the worker's `docker compose logs`. Which queues a worker consumes is "
    "set by openmates_worker_queues and openmates_apps",
    "health": "See `docker compose logs api` on the host",
    "initialisation": "Remove the cause, then `docker compose restart api` in the project's directory on the host",
}


def _family(address: str) -> str:
    return FAMILIES[ipaddress.ip_address(str(address).partition("%")[0]).version]


def _selected(seen: Mapping) -> list[str]:
    """The families to probe, as the report writes them."""
    wanted = seen.get("families") or ["ipv4", "ipv6"]
    return [name for name in FAMILIES.values() if name.lower() in {str(family).lower() for family in wanted}]


def _expected(seen: Mapping) -> list[int]:
    return sorted({int(port) for port in seen.get("expected_ports") or []})


def _restricted(seen: Mapping) -> list[int]:
    """Expected ports that only some networks may reach: from here they may be open or closed."""
    return [int(port) for port in seen.get("restricted_ports") or []]


def _probed(seen: Mapping) -> dict[str, Mapping]:
    """The probe's results by address, for the addresses that it could reach."""
    found = (seen.get("probe") or {}).get("addresses") or {}
    return {address: entry for address, entry in found.items() if entry.get("reachable")}


def _port_name(seen: Mapping, port: int) -> str:
    return (seen.get("port_names") or {}).get(str(port), "")


def unexpected_ports(seen: Mapping) -> dict[int, list[str]]:
    """Ports that are open but must be closed, each with the addresses where it is open."""
    return _ports_where(seen, lambda port, entry: port not in _expected(seen) and port in entry["open"])


def missing_ports(seen: Mapping) -> dict[int, list[str]]:
    """Ports that are closed but must be open, each with the addresses where it is closed."""
    required = set(_expected(seen)) - set(_restricted(seen))
    return _ports_where(seen, lambda port, entry: port in required and port not in entry["open"])


def _ports_where(seen: Mapping, condition: Any) -> dict[int, list[str]]:
    probed = _probed(seen)
    ports = sorted({port for entry in probed.values() for port in entry["open"]} | set(_expected(seen)))
    found = {port: [address for address, entry in probed.items() if condition(port, entry)] for port in ports}
    return {port: addresses for port, addresses in found.items() if addresses}


def who_listens(seen: Mapping, port: int) -> str:
    """The process and the container behind a host port, if the host's listeners were read."""
    processes = [entry for entry in seen.get("listeners") or [] if int(entry.get("port", 0)) == port]
    # A listener on loopback counts only if there is no other.
    processes = [entry for entry in processes if not _is_loopback(entry.get("address", ""))] or processes
    words = [f"process {e.get('name') or '?'} (pid {e.get('pid') or '?'}) on {e.get('address')}" for e in processes]
    for line in seen.get("containers") or []:
        try:
            container = json.loads(line)
        except ValueError:
            continue
        published = [
            match["address"]
            for match in PUBLISHED.finditer(container.get("Ports", ""))
            if int(match["first"]) <= port <= int(match["last"] or match["first"])
        ]
        if published:
            words.append(f"container {container.get('Names')} publishes it on {', '.join(published)}")
    return "; ".join(dict.fromkeys(words))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(str(address).partition("%")[0]).is_loopback
    except ValueError:
        return False


class Readiness:
    """The result of openmates-ready, as returned by the command task. Its output may be invalid."""

    def __init__(self, seen: Mapping) -> None:
        result = seen.get("ready") or {}
        self.wanted = bool(result) and not result.get("skipped")
        self.parts: list[tuple[str, bool, str]] = []
        try:
            answer = json.loads(result.get("stdout") or "")
            self.parts = [(str(p["name"]), bool(p["ok"]), str(p["detail"])) for p in answer["parts"]]
        except (ValueError, KeyError, TypeError):
            pass
        self.failing = [(name, detail) for name, ok, detail in self.parts if not ok]
        self.ok = bool(self.parts) and not self.failing and result.get("rc", 0) == 0
        self.error = str(result.get("stderr") or result.get("msg") or "it printed no result").strip().rstrip(".")

    def by_detail(self) -> dict[str, list[str]]:
        """The names of the failing parts by their detail."""
        found: dict[str, list[str]] = {}
        for name, detail in self.failing:
            found.setdefault(detail, []).append(name)
        return found


def service_trouble(seen: Mapping, name: str) -> str:
    """The problem of a service, or an empty string."""
    service = (seen.get("services") or {}).get(name) or {"state": "missing"}
    state, health = service.get("state"), service.get("health") or ""
    if state == "missing":
        return "it has no container"
    if service.get("one_shot"):
        if state != "exited":
            return f"it runs once and is {state}, not exited"
        return "" if service.get("exit_code") == 0 else f"it ended with exit code {service.get('exit_code')}"
    if state != "running":
        return f"it is {state}, with exit code {service.get('exit_code')}"
    return "" if health in ("", "healthy") else f"it is {health}"


def not_provisioned(seen: Mapping) -> bool:
    """Whether a dry run saw a server on which no service has a container: it is new, and nothing is wrong with that."""
    services = (seen.get("services") or {}).values()
    broken = str(seen.get("services_problem") or "").startswith(ENGINE_BROKEN)
    return bool(seen.get("dry_run")) and not broken and all(service.get("state") == "missing" for service in services)


def to_be_made(seen: Mapping, name: str) -> bool:
    """Whether the run that a dry run describes would make this service's container."""
    state = ((seen.get("services") or {}).get(name) or {}).get("state", "missing")
    return bool(seen.get("dry_run")) and state == "missing"


def _service_names(seen: Mapping) -> list[str]:
    return list(dict.fromkeys([*(seen.get("expected_services") or []), *(seen.get("services") or {})]))


def _problems_of_addresses(seen: Mapping) -> Iterator[str]:
    selected = _selected(seen)
    addresses = list(seen.get("addresses") or [])
    found = (seen.get("probe") or {}).get("addresses") or {}
    for address in addresses:
        entry = found.get(address)
        if _family(address) not in selected or entry is None:
            continue
        if not entry["reachable"]:
            family = _family(address)
            other = ", ".join(name.lower() for name in selected if name != family)
            yield (
                f"{family} {address} could not be probed from here: {entry['reason']}. Run verify from a machine with "
                f"{family}, or set openmates_probe_families: [{other}] to leave it unverified"
            )
        elif not entry["reliable"]:
            yield f"The scan of {address} is not reliable: {entry['reason']}"
        elif not entry["answered"]:
            yield f"Nothing answered at {address}: the host is down, or a network in between drops all packets"
    if seen.get("require_ipv6") and "IPv6" not in map(_family, addresses):
        yield "The host has no IPv6 address, but openmates_require_ipv6 is set"
    if not any(_family(address) in selected for address in addresses):
        yield "No address was probed: set openmates_public_addresses to the server's public addresses"


def _problems_of_ports(seen: Mapping) -> Iterator[str]:
    for port, addresses in unexpected_ports(seen).items():
        who = who_listens(seen, port) or "no listener was found on the host"
        yield (
            f"Port {port} is open to the internet at {', '.join(addresses)} and must be closed: {who}. "
            "Stop it, or bind it to 127.0.0.1, and check why the firewall accepted it"
        )
    for port, addresses in missing_ports(seen).items():
        if not _probed(seen)[addresses[0]]["answered"]:
            continue  # reported for the address
        who = who_listens(seen, port)
        why = f"{who}, so check the firewalls in between" if who else "nothing listens there on the host"
        why = why if _asked(seen) else "no answer"
        name = f" ({_port_name(seen, port)})" if _port_name(seen, port) else ""
        yield f"Port {port}{name} must be open and is closed at {', '.join(addresses)}: {why}"


def _asked(seen: Mapping) -> bool:
    """Whether the host's listeners were read."""
    return bool(seen.get("listeners") or seen.get("containers"))


def _problems_of_web(seen: Mapping) -> Iterator[str]:
    for answer in _web(seen):
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
        "journalctl -u caddy on the host"
    )


def _web(seen: Mapping) -> list[Mapping]:
    return list((seen.get("probe") or {}).get("web") or [])


def _problems_of_readiness(seen: Mapping) -> Iterator[str]:
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
            "See `docker compose ps --all api` and `docker compose logs api` on the host"
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
    for name in _service_names(seen):
        trouble = service_trouble(seen, name)
        if trouble and not to_be_made(seen, name):
            hint = (seen.get("hints") or {}).get(name, "")
            yield f"Service {name}: {trouble}. See `docker compose logs {name}` on the host{'. ' if hint else ''}{hint}"


def verify_problems(seen: Mapping) -> list[str]:
    """All problems, one sentence each; empty if there are none.

    What a dry run finds missing on a new server is not a problem.
    """
    if not_provisioned(seen):
        return list(_problems_of_addresses(seen))
    parts = (
        _problems_of_addresses,
        _problems_of_ports,
        _problems_of_web,
        _problems_of_readiness,
        _problems_of_services,
    )
    return [problem for part in parts for problem in part(seen)]


def _table(rows: list[list[str]], indent: str = "  ") -> list[str]:
    """Rows of cells as aligned lines."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return [
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]


def _lines_of_ports(seen: Mapping) -> Iterator[str]:
    found = (seen.get("probe") or {}).get("addresses") or {}
    probed, expected = _probed(seen), _expected(seen)
    new = not_provisioned(seen)
    yield "Open from outside"
    ports = sorted({port for entry in probed.values() for port in entry["open"]} | set(expected))
    rows = [["port", "service", *(f"{_family(address)} {address}" for address in found)]]
    for port in ports:
        who = _port_name(seen, port) or ("" if port in expected else "not expected")
        rows.append(
            [str(port), who, *(_port_cell(port, entry, expected, _restricted(seen), new) for entry in found.values())]
        )
    yield from _table(rows)
    for address, entry in found.items():
        if entry["reachable"]:
            yield (
                f"  {address}: {len(entry['open'])} open, {entry['closed']} refused, {entry['silent']} silent, "
                f"in {entry['elapsed']:.1f} s"
            )
        else:
            yield f"  {address}: NOT PROBED, {entry['reason']}"
    for address in seen.get("addresses") or []:
        if _family(address) not in _selected(seen):
            yield f"  {address}: NOT PROBED, {_family(address)} is not in openmates_probe_families"


def _port_cell(port: int, entry: Mapping, expected: list[int], restricted: list[int], new: bool) -> str:
    if not entry["reachable"]:
        return "?"
    if port in entry["open"]:
        return "open" if port in expected else "open, to be closed" if new else "OPEN, MUST BE CLOSED"
    if port in restricted:
        return "not from here"
    if new:
        return "not yet" if port in expected else "-"
    return "NOT OPEN" if port in expected else "-"


def _lines_of_web(seen: Mapping) -> Iterator[str]:
    if not _web(seen) or not_provisioned(seen):
        return
    yield ""
    yield "Web"
    rows = []
    for answer in _web(seen):
        state = str(answer["status"] or "-") if answer["ok"] else "FAILED"
        target = f" to {answer['location']}" if answer["ok"] and answer["location"] else ""
        certificate = ""
        if answer.get("days_left") is not None:
            certificate = f"certificate by {answer['issuer']}, {answer['days_left']} days left"
        rows.append([answer["url"], _family(answer["address"]), state + target, answer["error"] or certificate])
    yield from _table(rows)


def _lines_of_readiness(seen: Mapping) -> Iterator[str]:
    readiness = Readiness(seen)
    if not readiness.wanted or not_provisioned(seen):
        return
    failing = f": {len(readiness.failing)} of {len(readiness.parts)} parts failed" if readiness.failing else ""
    yield ""
    yield f"OpenMates is {'ready' if readiness.ok else 'NOT READY'}{failing}"
    yield from _table([[name, "ok" if ok else "FAILED", detail] for name, ok, detail in readiness.parts])


def _lines_of_services(seen: Mapping) -> Iterator[str]:
    names, services = _service_names(seen), seen.get("services") or {}
    if not names:
        return
    if not_provisioned(seen):
        yield ""
        yield f"Services: none yet; the run makes {len(names)}: {', '.join(names)}"
        return
    fine = sum(not service_trouble(seen, name) for name in names)
    stand_ins = [name for name in names if (services.get(name) or {}).get("stand_in")]
    yield ""
    yield f"Services: {fine} of {len(names)} without problems" + (f", {len(stand_ins)} stand-ins" if stand_ins else "")
    rows = []
    for name in names:
        service = services.get(name) or {}
        state = service.get("state", "missing")
        # The health of an exited container is outdated.
        detail = f"code {service.get('exit_code')}" if state == "exited" else service.get("health") or ""
        what = service.get("software") or service.get("image", "")
        if service.get("reported"):
            what = f"{service['reported']} (reported by the server)"
        kind = f"STAND-IN for {service['stand_in'].partition(';')[0]}" if service.get("stand_in") else "real"
        trouble = "not yet" if to_be_made(seen, name) else "PROBLEM" if service_trouble(seen, name) else "ok"
        rows.append([name, trouble, f"{state} {detail}".strip(), kind if service else "", what])
    yield from _table(rows)


def verify_report(seen: Mapping) -> list[str]:
    """The results, as lines of text."""
    problems = verify_problems(seen)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    fine = "not provisioned yet" if not_provisioned(seen) else "no problems"
    verdict = f"{count}, listed below" if problems else fine
    title = f"{seen.get('host', 'the host')} ({seen.get('environment') or 'unknown environment'}): {verdict}"
    parts = (_lines_of_ports, _lines_of_web, _lines_of_readiness, _lines_of_services)
    return [title, "", *(line for part in parts for line in part(seen))]


def verify_ask_host(seen: Mapping) -> bool:
    """Whether to read the host's listeners: only if a port is open or closed against the expectation."""
    return bool(unexpected_ports(seen) or missing_ports(seen))


class FilterModule:
    """Filters of openmates.server about a live server."""

    def filters(self) -> dict:
        return {
            "verify_ask_host": verify_ask_host,
            "verify_problems": verify_problems,
            "verify_report": verify_report,
        }

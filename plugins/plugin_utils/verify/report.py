# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was found out about a live server, as a table for an operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.openmates.server.plugins.plugin_utils.columns import aligned
from ansible_collections.openmates.server.plugins.plugin_utils.verify.backup import lines_of_backup
from ansible_collections.openmates.server.plugins.plugin_utils.verify.problems import problems_of
from ansible_collections.openmates.server.plugins.plugin_utils.verify.results import (
    Readiness,
    expected_ports,
    family_of,
    name_of_port,
    not_provisioned,
    probed_addresses,
    restricted_ports,
    selected_families,
    service_names,
    service_trouble,
    to_be_made,
    unseen_attempts,
    web_answers,
)

#: Unexpected ports that are listed, one per line.
MAX_UNEXPECTED = 20
INDENT = "  "


def _lines_of_ports(seen: Mapping) -> Iterator[str]:
    found = (seen.get("probe") or {}).get("addresses") or {}
    probed, expected = probed_addresses(seen), expected_ports(seen)
    new = not_provisioned(seen)
    yield "Open from outside"
    ports = sorted({port for entry in probed.values() for port in entry["open"]} | set(expected))
    surplus = [port for port in ports if port not in expected][MAX_UNEXPECTED:]
    ports = [port for port in ports if port not in surplus]
    rows = [["port", "service", *(f"{family_of(address)} {address}" for address in found)]]
    for port in ports:
        who = name_of_port(seen, port) or ("" if port in expected else "not expected")
        rows.append(
            [
                str(port),
                who,
                *(_port_cell(port, entry, expected, restricted_ports(seen), new) for entry in found.values()),
            ]
        )
    yield from aligned(rows, INDENT)
    if surplus:
        yield f"  and {len(surplus)} more that are not expected"
    for address, entry in found.items():
        if entry.get("intercepted"):
            yield f"  {address}: NOT SEEN, {entry['reason']}"
        elif entry["reachable"]:
            yield (
                f"  {address}: {len(entry['open'])} open, {entry['closed']} refused, {entry['silent']} silent, "
                f"in {entry['elapsed']:.1f} s"
            )
        else:
            yield f"  {address}: NOT PROBED, {entry['reason']}"
    for address, (arrived, made) in unseen_attempts(seen).items():
        rest = "a firewall dropped the rest"
        yield f"  {address}: {arrived} of {made} attempts at closed ports reached the server; {rest}"
    for address in seen.get("addresses") or []:
        if family_of(address) not in selected_families(seen):
            yield f"  {address}: NOT PROBED, {family_of(address)} is not in openmates_probe_families"


def _port_cell(port: int, entry: Mapping, expected: list[int], restricted: list[int], new: bool) -> str:
    if not entry["reachable"] or entry.get("intercepted"):
        return "?"
    if port in entry["open"]:
        return "open" if port in expected else "open, to be closed" if new else "OPEN, MUST BE CLOSED"
    if port in restricted:
        return "not from here"
    if new:
        return "not yet" if port in expected else "-"
    return "NOT OPEN" if port in expected else "-"


def _lines_of_web(seen: Mapping) -> Iterator[str]:
    if not web_answers(seen) or not_provisioned(seen):
        return
    yield ""
    yield "Web"
    rows = []
    for answer in web_answers(seen):
        state = str(answer["status"] or "-") if answer["ok"] else "FAILED"
        target = f" to {answer['location']}" if answer["ok"] and answer["location"] else ""
        certificate = ""
        if answer.get("days_left") is not None:
            certificate = f"certificate by {answer['issuer']}, {answer['days_left']} days left"
        rows.append([answer["url"], family_of(answer["address"]), state + target, answer["error"] or certificate])
    yield from aligned(rows, INDENT)


def _lines_of_readiness(seen: Mapping) -> Iterator[str]:
    readiness = Readiness(seen)
    if not readiness.wanted or not_provisioned(seen):
        return
    failing = f": {len(readiness.failing)} of {len(readiness.parts)} parts failed" if readiness.failing else ""
    yield ""
    yield f"OpenMates is {'ready' if readiness.ok else 'NOT READY'}{failing}"
    yield from aligned([[name, "ok" if ok else "FAILED", detail] for name, ok, detail in readiness.parts], INDENT)


def _lines_of_services(seen: Mapping) -> Iterator[str]:
    names, services = service_names(seen), seen.get("services") or {}
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
    yield from aligned(rows, INDENT)


def _lines_of_keys(seen: Mapping) -> Iterator[str]:
    sentence = (seen.get("keys") or {}).get("sentence")
    if sentence and not not_provisioned(seen):
        yield ""
        yield sentence


def _lines_of_alerts(seen: Mapping) -> Iterator[str]:
    alerts = seen.get("alerts")
    if alerts is None or not_provisioned(seen):
        return
    yield ""
    if not alerts["channels"]:
        yield (
            "Alerts: SENT NOWHERE. Set openmates_alerts_mail, openmates_alerts_ntfy_url or "
            "openmates_alerts_webhook_url: docs/alerts.md"
        )
    else:
        without = "" if alerts["watchdog"] else "; none if the whole server is down (openmates_alerts_watchdog_url)"
        yield f"Alerts go out by {', '.join(alerts['channels'])}{without}"


def _lines_of_logs(seen: Mapping) -> Iterator[str]:
    if seen.get("log_collector") == "promtail" and not not_provisioned(seen):
        successor = "openmates_log_collector: alloy replaces it"
        yield f"Logs are collected by Promtail, whose support ended in March 2026: {successor}"


def report_of(seen: Mapping) -> list[str]:
    """The results, as lines of text."""
    problems = problems_of(seen)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    fine = "not provisioned yet" if not_provisioned(seen) else "no problems"
    verdict = f"{count}, listed below" if problems else fine
    closed = "IN MAINTENANCE, clients get 503; " if Readiness(seen).maintenance is not None else ""
    title = f"{seen.get('host', 'the host')} ({seen.get('environment') or 'unknown environment'}): {closed}{verdict}"
    parts = (_lines_of_ports, _lines_of_web, _lines_of_readiness, _lines_of_services, _lines_of_keys, lines_of_backup)
    parts += (_lines_of_alerts, _lines_of_logs)
    return [title, "", *(line for part in parts for line in part(seen))]

#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe a host from outside: open TCP ports, and answers of its web addresses."""

from __future__ import annotations

DOCUMENTATION = r"""
module: outside_probe
short_description: Find the open TCP ports of addresses and check web addresses, from where it runs
description:
  - Connects to every given TCP port of every given address, without privileges, and reports those that accept.
  - Runs on the controller, by an action plugin, so that it sees the host as clients do. It changes nothing and sends no
    data to ports.
  - With O(start) the ports are scanned in the background while the play goes on, since a scan waits for silence most of
    its time. A later call with O(scan) takes the result.
  - Ports that stay silent are tried a second time when anything else at the address answered, so that a lost packet
    does not hide an open port. Ports in O(expected) are tried once more, with a longer timeout.
  - Silence is paced at O(concurrency) per timeout; an answer allows the next connection at once.
  - A few random ports are tried first. If nearly all of them accept, something in between answers for the host, and the
    scan of that address ends.
  - All addresses are probed at the same time, each within O(deadline) seconds.
  - A module of our own because M(ansible.builtin.wait_for) takes one port per call and M(ansible.builtin.uri) cannot
    request a name from a given address; a scanner such as nmap would have to be installed.
options:
  addresses:
    description: IPv4 and IPv6 addresses to probe. Required without O(scan).
    type: list
    elements: str
  start:
    description: Start the scan of the ports and return at once. O(web) is not requested.
    type: bool
    default: false
  scan:
    description:
      - The RV(scan) of a call with O(start). Waits for its end and takes its addresses, ports and result.
      - The ports in O(expected) of that call are tried once more. If others of them are open now, a service has started
        or ended since, and all ports are scanned again.
    type: path
  ports:
    description: Ports and inclusive ranges, separated by commas.
    type: str
    default: 1-65535
  expected:
    description:
      - Ports that should be open. They are tried first, which also measures how long an answer takes, and again last if
        they did not answer.
    type: list
    elements: int
    default: []
  timeout:
    description:
      - The longest that an answer may take, in seconds. Where the expected ports answered, it is shortened to what
        their answers took, with a wide margin, but never below 0.2 seconds. Silence counts that long after the second
        packet, which the system sends after a second, since the first may have been lost.
    type: float
    default: 1.0
  concurrency:
    description: The most connections under way for each address. Lowered to what the limit of open files allows.
    type: int
    default: 16384
  deadline:
    description: The longest that the ports of an address may take altogether, in seconds.
    type: float
    default: 120.0
  web:
    description: Requests to send to every address that can be reached, with the name in SNI and Host header.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name to request. The certificate must be valid for it.
        type: str
        required: true
      scheme:
        description: With V(https) the certificate is verified in full.
        type: str
        choices: [http, https]
        default: https
      port:
        description: TCP port, 443 or 80 by scheme if left out.
        type: int
      path:
        description: Path to request.
        type: str
        default: /
      ca_file:
        description: PEM file of the only trusted authority. By default the system's are trusted.
        type: path
      expect_status:
        description: The expected statuses.
        type: list
        elements: int
        default: [200]
      expect_redirect:
        description: Required beginning of the Location header.
        type: str
  web_timeout:
    description: The longest that one request may take, in seconds.
    type: float
    default: 10.0
  web_wait:
    description:
      - Seconds for which a request is repeated until it is answered as expected. A new certificate may take a moment.
    type: float
    default: 0.0
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Probe the host from outside
  openmates.server.outside_probe:
    addresses: ["198.51.100.11", "2001:db8:51::11"]
    expected: [22, 80, 443]
    web:
      - {name: api.example.com, path: /health}
      - {name: api.example.com, scheme: http, expect_status: [301, 302, 307, 308], expect_redirect: "https://api.example.com"}

- name: Start a scan while the play goes on
  openmates.server.outside_probe: {addresses: ["198.51.100.11"], expected: [22, 80, 443], start: true}
  register: started

- name: Take its result
  openmates.server.outside_probe: {scan: "{{ started.scan }}"}
"""

RETURN = r"""
addresses:
  description: The result for each address, by address.
  type: dict
  returned: without O(start)
  contains:
    reachable: {type: bool, description: Whether this machine has a route to the address.}
    reason: {type: str, description: Why it has none, or why the result is not reliable, or empty.}
    reliable: {type: bool, description: Whether every port was tried and the open ones still answered at the end.}
    intercepted:
      type: bool
      description:
        - Whether something between this machine and the host accepts every connection, such as a transparent proxy.
          Nothing is known of the host's ports then, and RV(addresses.open) is empty.
    answered: {type: bool, description: "Whether anything answered, open or closed."}
    open: {type: list, description: "Open ports, ascending."}
    closed: {type: int, description: Number of ports that refused.}
    silent: {type: int, description: Number of ports that did not answer.}
    errors: {type: dict, description: "Ports not tried, by this machine's error, e.g. EPERM for a local firewall."}
    elapsed: {type: float, description: Seconds.}
web:
  description: The answer to each request at each address.
  type: list
  returned: without O(start)
  contains:
    address: {type: str, description: Address that it was sent to.}
    url: {type: str, description: The requested URL.}
    ok: {type: bool, description: "Whether the answer, and the certificate if any, was as expected."}
    status: {type: int, description: "HTTP status, 0 if none."}
    location: {type: str, description: "Location header, or empty."}
    issuer: {type: str, description: "Issuer of the certificate, or empty."}
    not_after: {type: str, description: "Expiry of the certificate, ISO 8601 in UTC, or empty."}
    days_left: {type: int, description: "Whole days until then, null if unknown."}
    error: {type: str, description: "The problem, or empty."}
elapsed:
  description: Seconds that the probe took.
  type: float
  returned: without O(start)
scan:
  description: Where the result of the scan will be, on the controller and until the end of the run.
  type: path
  returned: with O(start)
changes:
  description: What the lookup P(openmates.server.changes#lookup) returned when the scan started.
  type: raw
  returned: with O(start)
"""

import multiprocessing
import threading
import time
from collections.abc import Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils.tcp_scan import family_of, no_way, parse_ports, scan
from ansible_collections.openmates.server.plugins.module_utils.web_request import ask_until


def in_process(job: Callable[[], dict], context: multiprocessing.context.BaseContext) -> tuple:
    """Start a job in a separate process, since one Python process uses one core."""
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        sender.send(job())

    process = context.Process(target=work, daemon=True)
    process.start()
    sender.close()
    return process, receiver


def probe(parameters: dict) -> dict:
    """Probe all addresses at the same time. Takes the module's parameters and returns its result."""
    began = time.monotonic()
    running = start(parameters)
    web = ask_everywhere([address for address in running if not no_way(address)], parameters)
    return {"addresses": collect(running, parameters, began), "web": web, "elapsed": _since(began)}


def probe_after(parameters: dict, found: dict, web: dict) -> dict:
    """The same, from what a scan with these parameters has found earlier, and with the parameters of the requests."""
    began = time.monotonic()
    expected = set(parameters["expected"])
    now = scan_ports(parameters | {"ports": ",".join(map(str, sorted(expected)))}) if expected else {}
    if any(set(entry["open"]) != expected.intersection(found[address]["open"]) for address, entry in now.items()):
        found = scan_ports(parameters)
    answers = ask_everywhere([address for address in found if not no_way(address)], web)
    return {"addresses": found, "web": answers, "elapsed": _since(began)}


def scan_ports(parameters: dict) -> dict[str, dict]:
    """The entry of each address, without any request."""
    return collect(start(parameters), parameters, time.monotonic())


def start(parameters: dict) -> dict[str, tuple]:
    """The processes that scan, by address."""
    ports = parse_ports(parameters["ports"])
    names = ("expected", "timeout", "concurrency", "deadline")
    context = multiprocessing.get_context("fork")
    running = {}
    for address in dict.fromkeys(parameters["addresses"]):
        job = (lambda where: lambda: scan(where, ports, *(parameters[name] for name in names)))(address)
        running[address] = in_process(job, context)
    return running


def collect(running: dict[str, tuple], parameters: dict, began: float) -> dict[str, dict]:
    """What those processes have found. Raises RuntimeError for one that ended without a result."""
    found = {}
    for address, (process, receiver) in running.items():
        left = max(0.0, began + parameters["deadline"] + 30 - time.monotonic())
        try:
            if not receiver.poll(left):
                raise EOFError
            found[address] = receiver.recv()
        except EOFError:
            raise RuntimeError(f"the scan of {address} ended without a result") from None
        finally:
            process.kill()
            process.join()
    return found


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)


def ask_everywhere(addresses: list[str], parameters: dict) -> list[dict]:
    """Each request at each address, at the same time, in a stable order."""
    pairs = [(address, request) for request in parameters["web"] for address in addresses]
    answers: list[dict] = [{} for _pair in pairs]

    def work(position: int) -> None:
        address, request = pairs[position]
        answers[position] = ask_until(address, request, parameters["web_timeout"], parameters["web_wait"])

    threads = [threading.Thread(target=work, args=(position,), daemon=True) for position in range(len(pairs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


REQUEST = {
    "name": {"type": "str", "required": True},
    "scheme": {"type": "str", "choices": ["http", "https"], "default": "https"},
    "port": {"type": "int"},
    "path": {"type": "str", "default": "/"},
    "ca_file": {"type": "path"},
    "expect_status": {"type": "list", "elements": "int", "default": [200]},
    "expect_redirect": {"type": "str"},
}
ARGUMENTS = {
    "addresses": {"type": "list", "elements": "str"},
    "start": {"type": "bool", "default": False},
    "scan": {"type": "path"},
    "ports": {"type": "str", "default": "1-65535"},
    "expected": {"type": "list", "elements": "int", "default": []},
    "timeout": {"type": "float", "default": 1.0},
    "concurrency": {"type": "int", "default": 16384},
    "deadline": {"type": "float", "default": 120.0},
    "web": {"type": "list", "elements": "dict", "default": [], "options": REQUEST},
    "web_timeout": {"type": "float", "default": 10.0},
    "web_wait": {"type": "float", "default": 0.0},
}
RULES = {"required_one_of": [("addresses", "scan")], "mutually_exclusive": [("addresses", "scan")]}


def check(parameters: dict) -> None:
    """Raises ValueError for values that their types allow and that make no sense."""
    for name in ("timeout", "concurrency", "deadline", "web_timeout"):
        if parameters[name] <= 0:
            raise ValueError(f"{name} must be greater than 0")
    for address in parameters["addresses"] or []:
        family_of(address)
    parse_ports(parameters["ports"])


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **RULES)
    if module.params["scan"] or module.params["start"]:
        module.fail_json(msg="start and scan are for the action plugin, on the controller.")
    try:
        check(module.params)
        result = probe(module.params)
    except (ValueError, RuntimeError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()

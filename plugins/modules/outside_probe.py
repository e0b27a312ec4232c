#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""See a host as the internet does: which TCP ports answer, and what its web addresses say."""

from __future__ import annotations

DOCUMENTATION = r"""
module: outside_probe
short_description: Find the open TCP ports of addresses and check web addresses, from where it runs
description:
  - Connects to every given TCP port of every given address, without privileges, and reports those that accept.
  - Runs on the controller (delegate it to localhost), so that it sees what others see. It changes nothing and sends no
    data to ports.
  - Ports that stay silent are tried a second time when anything else at the address answered, so that a lost packet
    does not hide an open port. Ports in O(expected) are tried once more, with more patience.
  - Silence is paced at O(concurrency) per timeout; answers make room at once, as a network that answers can take more.
  - It always ends. All addresses are probed at the same time, and each within O(deadline) seconds.
options:
  addresses:
    description: IPv4 and IPv6 addresses to probe.
    type: list
    elements: str
    required: true
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
      - The longest to wait for a port, in seconds. Where the expected ports answered, it is shortened to what their
        answers took, with a wide margin, but never below 0.2 seconds.
    type: float
    default: 1.0
  concurrency:
    description: The most connections under way for each address. Lowered to what the limit of open files allows.
    type: int
    default: 8192
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
        description: The name to ask for. A certificate has to be valid for it.
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
        description: What to ask for.
        type: str
        default: /
      ca_file:
        description: PEM file of the only authority to trust. Left out, the system's are.
        type: path
      expect_status:
        description: The statuses that are right.
        type: list
        elements: int
        default: [200]
      expect_redirect:
        description: What the Location header has to begin with.
        type: str
  web_timeout:
    description: The longest that one request may take, in seconds.
    type: float
    default: 10.0
  web_wait:
    description:
      - How long to repeat a request that is not answered as expected, in seconds. A new certificate may take a moment.
    type: float
    default: 0.0
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: See the host as the internet does
  openmates.server.outside_probe:
    addresses: ["198.51.100.11", "2001:db8:51::11"]
    expected: [22, 80, 443]
    web:
      - {name: api.example.com, path: /health}
      - {name: api.example.com, scheme: http, expect_status: [301, 302, 307, 308], expect_redirect: "https://api.example.com"}
  delegate_to: localhost
  become: false
"""

RETURN = r"""
addresses:
  description: What was found at each address, by address.
  type: dict
  returned: always
  contains:
    reachable: {type: bool, description: Whether this machine has a way to the address at all.}
    reason: {type: str, description: Why it has none, or why the result cannot be relied on, or empty.}
    reliable: {type: bool, description: Whether every port was tried and the open ones still answered at the end.}
    answered: {type: bool, description: "Whether anything answered, open or closed."}
    open: {type: list, description: "Open ports, ascending."}
    closed: {type: int, description: Number of ports that refused.}
    silent: {type: int, description: Number of ports that did not answer.}
    errors: {type: dict, description: "Ports not tried, by this machine's error, e.g. EPERM for a local firewall."}
    elapsed: {type: float, description: Seconds.}
web:
  description: The answer to each request at each address.
  type: list
  returned: always
  contains:
    address: {type: str, description: Where it was sent.}
    url: {type: str, description: What was asked for.}
    ok: {type: bool, description: "Whether the answer, and the certificate if any, was as expected."}
    status: {type: int, description: "HTTP status, 0 if none."}
    location: {type: str, description: "Location header, or empty."}
    issuer: {type: str, description: "Who issued the certificate, or empty."}
    not_after: {type: str, description: "When the certificate ends, ISO 8601 in UTC, or empty."}
    days_left: {type: int, description: "Whole days until then, null if unknown."}
    error: {type: str, description: "What is wrong, or empty."}
elapsed:
  description: Seconds that everything took.
  type: float
  returned: always
"""

import contextlib
import datetime
import errno
import http.client
import ipaddress
import math
import multiprocessing
import os
import random
import resource
import selectors
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable

from ansible.module_utils.basic import AnsibleModule

NO_WAY = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETDOWN)
REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET)
# A router said no. It may only have been slow to find the host, so these ports are tried again before they are closed.
TURNED_AWAY = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.ENOPROTOOPT)
SPARE_FILES = 64
FIRST_BURST = 256
WAKE_FOR = 32  # connections: waking up for each single one would cost more than it sends
MAX_PATIENT_PORTS = 64
LINUX_SILENT_RETRY_SECONDS = 1.0  # Linux sends a second SYN after this long


def parse_ports(text: str) -> list[int]:
    """The ports that ``1-1024,8000`` stands for, ascending. Raises ValueError with the part that is wrong."""
    ports: set[int] = set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        first, dash, last = part.partition("-")
        try:
            low, high = int(first), int(last if dash else first)
        except ValueError:
            raise ValueError(f"{part!r} is not a port or range of ports") from None
        if not 1 <= low <= high <= 65535:
            raise ValueError(f"{part!r} is not within 1 to 65535")
        ports.update(range(low, high + 1))
    return sorted(ports)


def family_of(address: str) -> int:
    return socket.AF_INET6 if ipaddress.ip_address(address.partition("%")[0]).version == 6 else socket.AF_INET


def no_way(address: str) -> str:
    """Why this machine cannot send to the address, or an empty string. Sends nothing: it only looks the route up."""
    version = "IPv6" if family_of(address) == socket.AF_INET6 else "IPv4"
    try:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError as error:
        if error.errno in NO_WAY:
            return f"this machine has no {version} route to it ({os.strerror(error.errno)})"
        return f"this machine cannot send to it ({error})"
    return ""


def raise_file_limit(wanted: int) -> int:
    """Raise the soft limit of open files as far as needed and allowed; returns how many sockets fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted + SPARE_FILES:
        target = wanted + SPARE_FILES if hard == unlimited else min(hard, wanted + SPARE_FILES)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if soft == unlimited else max(16, min(wanted, soft - SPARE_FILES))


class Scanner:
    """Connects to ports of one address; what it learns piles up in its attributes."""

    def __init__(self, address: str, concurrency: int, deadline: float) -> None:
        self.target = (address, 0) if family_of(address) == socket.AF_INET else (address, 0, 0, 0)
        if "%" in address:  # a link-local address names its interface
            self.target = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0][4]
        self.family = family_of(address)
        self.concurrency = concurrency
        self.ends = time.monotonic() + deadline
        self.open: set[int] = set()
        self.closed: set[int] = set()
        self.errors: dict[int, int] = {}
        self.fastest = math.inf

    def sweep(self, ports: Iterable[int], timeout: float) -> list[int]:
        """Try each port once, waiting at most ``timeout`` seconds for each; returns those still undecided."""
        waiting = deque(ports)
        undecided: list[int] = []
        flying: dict[int, tuple[socket.socket, int, float]] = {}
        oldest: deque[tuple[int, int, float]] = deque()  # all wait equally long, so the first in is the first out
        began = time.monotonic()
        budget = float(FIRST_BURST)
        pace, last = self.concurrency / timeout, began
        with selectors.DefaultSelector() as selector:
            while waiting or flying:
                now = time.monotonic()
                if now > self.ends:
                    undecided.extend(waiting)
                    undecided.extend(entry[1] for entry in flying.values())
                    break
                budget = min(budget + (now - last) * pace, self.concurrency)
                last = now
                while waiting and budget >= 1 and len(flying) < self.concurrency:
                    port = waiting.popleft()
                    budget -= 1
                    connection = self._start(port)
                    if connection is None:
                        if port not in self.open and port not in self.closed:
                            undecided.append(port)
                        else:
                            budget += 1  # an answer
                        continue
                    number = connection.fileno()
                    started = time.monotonic()
                    selector.register(number, selectors.EVENT_WRITE)
                    flying[number] = (connection, port, started)
                    oldest.append((number, port, started))
                looked = time.monotonic()
                may_send = bool(waiting) and len(flying) < self.concurrency
                pause = min(self._pause(oldest, timeout, may_send, budget, pace), max(0.0, self.ends - looked))
                for key, _events in selector.select(pause):
                    connection, port, started = flying.pop(key.fd)
                    selector.unregister(key.fd)
                    budget += 1
                    if not self._settle(connection, port, started):
                        undecided.append(port)
                    connection.close()
                # Overdue when we looked, not now: this process may have been held up after the look.
                while oldest and (oldest[0][2] + timeout <= looked or oldest[0][0] not in flying):
                    number, port, started = oldest.popleft()
                    entry = flying.get(number)
                    if entry is None or entry[1:] != (port, started):
                        continue  # answered; the number may serve another port by now
                    selector.unregister(number)
                    del flying[number]
                    undecided.append(port)
                    entry[0].close()
            for connection, _port, _started in flying.values():
                connection.close()
        return undecided

    @staticmethod
    def _pause(oldest: deque, timeout: float, may_send: bool, budget: float, pace: float) -> float:
        """How long to wait for answers: until one is overdue, or until the pace lets some more connections go."""
        overdue = max(0.0, oldest[0][2] + timeout - time.monotonic()) if oldest else timeout
        return min(overdue, max(0.001, (WAKE_FOR - budget) / pace)) if may_send else overdue

    def _start(self, port: int) -> socket.socket | None:
        """Begin to connect; None if that was decided, or failed, at once."""
        try:
            connection = socket.socket(self.family, socket.SOCK_STREAM)
        except OSError as error:
            self.errors[port] = error.errno or 0
            return None
        connection.setblocking(False)
        code = connection.connect_ex((self.target[0], port, *self.target[2:]))
        if code == errno.EINPROGRESS:
            return connection
        self._record(port, code)
        connection.close()
        return None

    def _settle(self, connection: socket.socket, port: int, started: float) -> bool:
        """Note how a connection ended; False if that says nothing about the port."""
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == errno.ETIMEDOUT:
            return False
        if code == 0:
            self.fastest = min(self.fastest, time.monotonic() - started)
        return self._record(port, code)

    def _record(self, port: int, code: int) -> bool:
        """Note what the code of a connection says about the port; False if it says nothing."""
        if code == 0:
            self.open.add(port)
        elif code in REFUSED:
            self.closed.add(port)
        else:
            self.errors[port] = code
            return False
        self.errors.pop(port, None)
        return True


def scan(
    address: str, ports: list[int], expected: list[int], timeout: float, concurrency: int, deadline: float
) -> dict:
    """Every port of one address. Returns the entry described in RETURN."""
    began = time.monotonic()
    result = {
        "reachable": True,
        "reason": "",
        "reliable": True,
        "answered": False,
        "open": [],
        "closed": 0,
        "silent": 0,
    }
    reason = no_way(address)
    if reason:
        return {**result, "reachable": False, "reliable": False, "reason": reason, "errors": {}, "elapsed": 0.0}
    scanner = Scanner(address, raise_file_limit(concurrency), deadline)
    patient = max(3 * timeout, LINUX_SILENT_RETRY_SECONDS + timeout)
    wanted = sorted(set(expected) & set(ports))
    left = set(scanner.sweep(wanted, timeout))
    # The fastest answer is the way's own time; slower ones were this machine's.
    timeout = min(timeout, 0.2 + 20 * scanner.fastest)
    others = [port for port in ports if port not in set(wanted)]
    random.shuffle(others)
    left |= set(scanner.sweep(others, timeout))
    if scanner.open or scanner.closed:
        again = list(left)
        random.shuffle(again)
        # Slower: if the first pass was too much for a link, this one is not.
        left = set(scanner.sweep(again, min(2 * timeout, max(timeout, 1.0))))
    left = (left - set(wanted)) | set(scanner.sweep(sorted(left & set(wanted))[:MAX_PATIENT_PORTS], patient))
    codes = [scanner.errors[port] for port in left if port in scanner.errors]
    turned_away = sum(code in TURNED_AWAY for code in codes)
    errors = Counter(errno.errorcode.get(code, "unknown") for code in codes if code not in TURNED_AWAY)
    result |= {
        "answered": bool(scanner.open or scanner.closed),
        "open": sorted(scanner.open),
        "closed": len(scanner.closed - scanner.open) + turned_away,
        "silent": len(left) - len(codes),
        "errors": dict(errors),
    }
    if time.monotonic() > scanner.ends:
        result |= {"reliable": False, "reason": f"not every port was tried within {deadline:.0f} s"}
    elif errors:
        name, count = errors.most_common(1)[0]
        result |= {
            "reliable": False,
            "reason": f"this machine could not try {count} ports ({os.strerror(getattr(errno, name, 0))})",
        }
    elif result["open"] and left:
        # A home router whose table of connections is full drops what it cannot note: then silence means nothing.
        witness = Scanner(address, concurrency, deadline)
        witness.sweep(result["open"][:MAX_PATIENT_PORTS], patient)
        if not witness.open:
            result |= {
                "reliable": False,
                "reason": "ports that were open fell silent during the scan: lower the concurrency",
            }
    result["elapsed"] = round(time.monotonic() - began, 2)
    return result


def ask(address: str, request: dict, timeout: float) -> dict:
    """Send one request to an address. Returns the entry described in RETURN."""
    secure = request["scheme"] == "https"
    standard = 443 if secure else 80
    port = request.get("port") or standard
    host = request["name"] if port == standard else f"{request['name']}:{port}"
    answer = {
        "address": address,
        "url": f"{request['scheme']}://{host}{request['path']}",
        "ok": False,
        "status": 0,
        "location": "",
        "issuer": "",
        "not_after": "",
        "days_left": None,
        "error": "",
    }
    try:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection((address, port), timeout=timeout))
            # A server that sends a byte now and then must not hold the run up.
            guard = threading.Timer(timeout, lambda: _cut(connection))
            guard.daemon = True
            guard.start()
            stack.callback(guard.cancel)
            if secure:
                context = ssl.create_default_context(cafile=request.get("ca_file"))
                connection = stack.enter_context(
                    context.wrap_socket(connection, server_hostname=request["name"], do_handshake_on_connect=False)
                )
                connection.do_handshake()
                answer |= certificate(connection.getpeercert() or {})
            response = exchange(connection, host, request["path"])
            answer |= {"status": response.status, "location": response.getheader("Location") or ""}
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, ssl.SSLCertVerificationError):
            answer |= refused_certificate(address, port, request["name"], timeout)
        return {**answer, "error": explain(error, request)}
    return {**answer, **verdict(answer, request)}


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def exchange(connection: socket.socket, host: str, path: str) -> http.client.HTTPResponse:
    """One GET over an open connection; reads the status and the headers, not the body."""
    fields = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: openmates-verify",
        "Accept: */*",
        "Connection: close",
    )
    connection.sendall("\r\n".join((*fields, "", "")).encode())
    response = http.client.HTTPResponse(connection, method="GET")
    response.begin()
    return response


def certificate(fields: dict) -> dict:
    """Issuer and end of a certificate that was verified, as ``ssl`` describes it."""
    issuer = dict(pair for group in fields.get("issuer", ()) for pair in group)
    ends = datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(fields["notAfter"]), datetime.UTC)
    return {"issuer": issuer.get("commonName") or issuer.get("organizationName", ""), **lifetime(ends)}


def refused_certificate(address: str, port: int, name: str, timeout: float) -> dict:
    """What a certificate that failed verification says of itself, as far as this machine can read it."""
    try:
        from cryptography import x509  # ansible-core brings it along
    except ImportError:
        return {}
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, port), timeout=timeout) as connection,
            context.wrap_socket(connection, server_hostname=name) as secure,
        ):
            found = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError):
        return {}
    # Property names differ between releases of cryptography.
    ends = getattr(found, "not_valid_after_utc", None) or found.not_valid_after.replace(tzinfo=datetime.UTC)
    issuer = [part.value for part in found.issuer if part.oid == x509.NameOID.COMMON_NAME]
    return {
        "issuer": issuer[0] if issuer else found.issuer.rfc4514_string(),
        **lifetime(ends),
    }


def lifetime(ends: datetime.datetime) -> dict:
    left = ends - datetime.datetime.now(datetime.UTC)
    return {"not_after": ends.strftime("%Y-%m-%dT%H:%M:%SZ"), "days_left": left.days}


def explain(error: Exception, request: dict) -> str:
    """An error in words that tell a person where to look."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, FileNotFoundError):
        return f"there is no file {request.get('ca_file')} (ca_file) on this machine"
    if isinstance(error, ssl.SSLError) and "alert" in str(error).lower():
        return f"the server refused the name {request['name']} ({error.reason}): it may have no certificate for it yet"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.HTTPException):
        return "the connection ended without an answer to the request"
    return f"{os.strerror(error.errno)}" if error.errno else str(error)


def verdict(answer: dict, request: dict) -> dict:
    """Whether an answer is the expected one, and otherwise what is wrong with it."""
    allowed = request["expect_status"]
    if answer["status"] not in allowed:
        return {"ok": False, "error": f"status {answer['status']} instead of {' or '.join(map(str, allowed))}"}
    start = request.get("expect_redirect")
    if start and not answer["location"].startswith(start):
        return {"ok": False, "error": f"it redirects to {answer['location'] or 'nowhere'} instead of {start}"}
    return {"ok": True, "error": ""}


def ask_until(address: str, request: dict, timeout: float, wait: float) -> dict:
    """Repeat a request until the answer is as expected, at most ``wait`` seconds longer than the first one takes."""
    ends = time.monotonic() + wait
    pace = threading.Event()
    while True:
        answer = ask(address, request, timeout)
        left = ends - time.monotonic()
        if answer["ok"] or left <= 0:
            return answer
        pace.wait(min(1.0, left))


def in_process(job: Callable[[], dict], context: multiprocessing.context.BaseContext) -> tuple:
    """Start a job in a process of its own, since one Python uses one core."""
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        sender.send(job())

    process = context.Process(target=work, daemon=True)
    process.start()
    sender.close()
    return process, receiver


def probe(parameters: dict) -> dict:
    """Everything, for all addresses at once. Takes the module's parameters and returns its result."""
    began = time.monotonic()
    ports = parse_ports(parameters["ports"])
    names = ("expected", "timeout", "concurrency", "deadline")
    context = multiprocessing.get_context("fork")
    running = {}
    for address in dict.fromkeys(parameters["addresses"]):
        job = (lambda where: lambda: scan(where, ports, *(parameters[name] for name in names)))(address)
        running[address] = in_process(job, context)
    web = ask_everywhere([address for address in running if not no_way(address)], parameters)
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
    return {"addresses": found, "web": web, "elapsed": round(time.monotonic() - began, 2)}


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


def main() -> None:
    request = {
        "name": {"type": "str", "required": True},
        "scheme": {"type": "str", "choices": ["http", "https"], "default": "https"},
        "port": {"type": "int"},
        "path": {"type": "str", "default": "/"},
        "ca_file": {"type": "path"},
        "expect_status": {"type": "list", "elements": "int", "default": [200]},
        "expect_redirect": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "addresses": {"type": "list", "elements": "str", "required": True},
            "ports": {"type": "str", "default": "1-65535"},
            "expected": {"type": "list", "elements": "int", "default": []},
            "timeout": {"type": "float", "default": 1.0},
            "concurrency": {"type": "int", "default": 8192},
            "deadline": {"type": "float", "default": 120.0},
            "web": {"type": "list", "elements": "dict", "default": [], "options": request},
            "web_timeout": {"type": "float", "default": 10.0},
            "web_wait": {"type": "float", "default": 0.0},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    for name in ("timeout", "concurrency", "deadline", "web_timeout"):
        if parameters[name] <= 0:
            module.fail_json(msg=f"{name} has to be greater than 0")
    try:
        for address in parameters["addresses"]:
            family_of(address)
        result = probe(parameters)
    except (ValueError, RuntimeError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()

"""HcloudApi: a local HTTP server that implements the part of Hetzner's documented Cloud API that this project uses.

Not Hetzner's. Written from https://docs.hetzner.cloud/reference/cloud as of November 2026: resources have no field
`datacenter`, which was removed on 1 July 2026. What it does not know, it answers with 404 and records in `unknown`.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
import threading
import typing as t
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

TOKEN = "hcloud-canary-" + "k7Qm" * 12
CREATED = "2026-11-26T12:00:00+00:00"
LOCATIONS = {"fsn1": 1, "nbg1": 2, "hel1": 3, "ash": 4}
#: Name: architecture, locations where it is sold.
TYPES = {
    "cax11": ("arm", ["fsn1", "nbg1", "hel1"]),
    "cax21": ("arm", ["fsn1", "nbg1", "hel1"]),
    "cpx31": ("x86", ["ash"]),
}
#: Name and architecture of each image.
IMAGES = [("debian-13", "arm"), ("debian-13", "x86"), ("fedora-45", "x86")]
#: The code of an error, and its HTTP status.
STATUS = {
    "unauthorized": 401, "forbidden": 403, "not_found": 404, "uniqueness_error": 409, "conflict": 409,
    "resource_unavailable": 412, "invalid_input": 422, "protected": 403, "locked": 423, "rate_limit_exceeded": 429,
    "resource_limit_exceeded": 403, "service_error": 500, "placement_error": 412,
}  # fmt: skip
Body = dict[str, t.Any]


class Refused(Exception):
    """An answer other than success."""

    def __init__(self, code: str, message: str, details: Body | None = None) -> None:
        super().__init__(message)
        self.status = STATUS[code]
        self.body = {"error": {"code": code, "message": message, "details": details}}


class HcloudApi:
    """A project at Hetzner, with what happens to it."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.ids = itertools.count(1001)
        self.lock = threading.RLock()
        self.stored: dict[str, dict[int, Body]] = {
            kind: {} for kind in ("ssh_keys", "firewalls", "primary_ips", "servers", "actions")
        }
        self.requests: list[tuple[str, str]] = []  # all, without the query
        self.unknown: list[tuple[str, str]] = []
        self.seen_in_argv: set[str] = set()  # programs with the token in their command line
        self.modules_in_files: set[str] = set()  # and files that modules are run from, which hold their arguments
        self.limits: dict[str, int] = {}
        #: How often an action is asked about until it ends.
        self.polls = 1
        #: Commands of actions that fail, with the message.
        self.failing: dict[str, str] = {}
        #: Requests to refuse: method and path, the exception, how often.
        self.refusals: list[tuple[str, str, Refused, int]] = []
        #: Called after a change was made, before it is answered.
        self.after_change: Callable[[str, str], None] = lambda method, path: None

    def refuse(self, method: str, path: str, code: str, message: str, times: int = 1000) -> None:
        """Answer the next requests of this method, to a path that matches the pattern, with an error."""
        self.refusals.append((method, path, Refused(code, message), times))

    def changes(self) -> list[tuple[str, str]]:
        return [(method, path) for method, path in self.requests if method != "GET"]

    def one(self, kind: str) -> Body:
        (thing,) = self.stored[kind].values()
        return thing

    # --- a request ------------------------------------------------------------------------------------------------

    def answer(self, method: str, target: str, token: str, body: Body) -> tuple[int, Body]:
        url = urlsplit(target)
        path = url.path.removeprefix("/v1")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        with self.lock:
            self.requests.append((method, path))
            self._look_at_processes()
            try:
                if token != f"Bearer {TOKEN}":
                    raise Refused("unauthorized", "the token you provided is invalid")
                self._refuse_if_asked(method, path)
                result = self._route(method, path, query, body)
            except Refused as error:
                return error.status, error.body
        if method != "GET":
            self.after_change(method, path)
        return (200 if method in ("GET", "PUT") else 201), result

    def _look_at_processes(self) -> None:
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command, environment = file.read_bytes(), file.with_name("environ").read_bytes()
            except OSError:
                continue
            if self.endpoint.encode() not in environment:
                continue  # a run of another test
            if module := re.search(rb"AnsiballZ_(server|firewall|primary_ip|ssh_key|image|rdns)\w*", command):
                self.modules_in_files.add(module[0].decode())
            if TOKEN.encode() in command:
                self.seen_in_argv.add(command.decode(errors="replace").split("\0")[0])

    def _refuse_if_asked(self, method: str, path: str) -> None:
        for number, (a_method, pattern, error, times) in enumerate(self.refusals):
            if method == a_method and re.fullmatch(pattern, path) and times:
                self.refusals[number] = (a_method, pattern, error, times - 1)
                raise error

    def _route(self, method: str, path: str, query: Body, body: Body) -> Body:
        match (method, *path.strip("/").split("/")):
            case ("GET", "locations", *rest):
                return self._listed("locations", [_location(name) for name in LOCATIONS], query, rest)
            case ("GET", "server_types", *rest):
                return self._listed("server_types", [_server_type(name) for name in TYPES], query, rest)
            case ("GET", "images", *rest):
                images = [_image(number) for number in range(len(IMAGES))]
                if "architecture" in query:
                    images = [image for image in images if image["architecture"] == query["architecture"]]
                return self._listed("images", images, query, rest)
            case ("GET", "actions", number):
                return {"action": self._progress(int(number))}
            case ("GET", kind, *rest) if kind in self.stored:
                result = self._listed(
                    kind, [self._shown(kind, thing) for thing in self.stored[kind].values()], query, rest
                )
                if kind == "servers":
                    self._pass_time()
                return result
            case ("POST", kind) if kind in self.stored:
                return getattr(self, f"_create_{kind}")(body)
            case ("PUT", kind, number):
                thing = self._thing(kind, number)
                thing.update({name: body[name] for name in ("name", "labels", "auto_delete") if name in body})
                return {kind.removesuffix("s"): self._shown(kind, thing)}
            case ("POST", kind, number, "actions", command):
                return getattr(self, f"_do_{command}")(kind, self._thing(kind, number), body)
        self.unknown.append((method, path))
        raise Refused("not_found", f"HcloudApi does not know {method} {path}")

    def _listed(self, kind: str, things: list[Body], query: Body, rest: list[str]) -> Body:
        if rest:
            if not rest[0].isdigit():
                raise Refused("invalid_input", "invalid input in field 'id'")
            found = [thing for thing in things if thing["id"] == int(rest[0])]
            if not found:
                raise Refused("not_found", f"{kind.removesuffix('s')} with ID '{rest[0]}' not found")
            return {kind.removesuffix("s"): found[0]}
        for field in ("name", "fingerprint"):
            if field in query:
                things = [thing for thing in things if thing.get(field) == query[field]]
        pages = {"page": 1, "per_page": 50, "previous_page": None, "next_page": None, "last_page": 1}
        return {kind: things, "meta": {"pagination": pages | {"total_entries": len(things)}}}

    def _thing(self, kind: str, number: str) -> Body:
        try:
            return self.stored[kind][int(number)]
        except (KeyError, ValueError):
            raise Refused("not_found", f"{kind} {number} not found") from None

    def _new(self, kind: str, body: Body, unique: tuple[str, ...] = ("name",), **fields: t.Any) -> Body:
        for field in unique:
            value = body.get(field, fields.get(field))
            if any(thing[field] == value for thing in self.stored[kind].values()):
                raise Refused("uniqueness_error", f"{field} is already used", {"fields": [{"name": field}]})
        if len(self.stored[kind]) >= self.limits.get(kind, 1000):
            raise Refused("resource_limit_exceeded", f"{kind.removesuffix('s')} limit exceeded")
        number = next(self.ids)
        thing = {"id": number, "name": body["name"], "labels": body.get("labels") or {}, "created": CREATED, **fields}
        self.stored[kind][number] = thing
        return thing

    def _action(self, command: str, thing: Body, then: Callable[[], None] = lambda: None) -> Body:
        number = next(self.ids)
        action = {
            "id": number, "command": command, "status": "running", "progress": 0, "started": CREATED, "finished": None,
            "resources": [{"id": thing["id"], "type": "server"}], "error": None,
        }  # fmt: skip
        self.stored["actions"][number] = action | {"left": self.polls, "then": then}
        return action

    def _progress(self, number: int) -> Body:
        action = self._thing("actions", str(number))
        if action["status"] == "running":
            action["left"] -= 1
            if action["left"] <= 0:
                self._finish(action)
        return {name: value for name, value in action.items() if name not in ("left", "then")}

    def _finish(self, action: Body) -> None:
        message = self.failing.get(action["command"])
        action.update(status="error" if message else "success", progress=100, finished=CREATED)
        if message:
            action["error"] = {"code": "action_failed", "message": message}
        else:
            action["then"]()

    def _pass_time(self) -> None:
        """For a caller that asks about the server and not about the action."""
        for number in self.stored["actions"]:
            self._progress(number)

    # --- the resources --------------------------------------------------------------------------------------------

    def _create_ssh_keys(self, body: Body) -> Body:
        words = body["public_key"].split()
        if len(words) < 2 or not words[1].startswith("AAAA"):
            raise Refused("invalid_input", "SSH key not valid")
        key = self._new(
            "ssh_keys", body, ("name", "fingerprint"), public_key=body["public_key"], fingerprint=words[1][-16:]
        )
        return {"ssh_key": key}

    def _create_firewalls(self, body: Body) -> Body:
        firewall = self._new("firewalls", body, rules=_rules(body.get("rules") or []), servers=[])
        return {"firewall": self._shown("firewalls", firewall), "actions": []}

    def _create_primary_ips(self, body: Body) -> Body:
        if body.get("datacenter"):
            raise Refused("invalid_input", "datacenter was removed")
        count = len(self.stored["primary_ips"]) + 7
        ip = f"198.51.100.{count}" if body["type"] == "ipv4" else f"2001:db8:{count}::/64"
        address = self._new(
            "primary_ips", body, ip=ip, type=body["type"], location=body["location"], assignee_id=None, dns_ptr=[],
            auto_delete=body.get("auto_delete", False), protection={"delete": False}, blocked=False,
        )  # fmt: skip
        return {"primary_ip": self._shown("primary_ips", address), "action": None}

    def _create_servers(self, body: Body) -> Body:
        if body.get("datacenter"):
            raise Refused("invalid_input", "datacenter was removed")
        image = next(_image(n) for n in range(len(IMAGES)) if str(_image(n)["id"]) == str(body["image"]))
        kind = _by_id("server_types", body["server_type"])
        if image["architecture"] != kind["architecture"]:
            raise Refused("invalid_input", "image architecture does not match the server type")
        for key in body.get("ssh_keys") or []:
            self._thing("ssh_keys", key)
        net = body.get("public_net") or {}
        addresses = {family: net.get(family) for family in ("ipv4", "ipv6")}
        for number in filter(None, addresses.values()):
            if self._thing("primary_ips", number)["assignee_id"]:
                raise Refused("conflict", "primary IP is already assigned")
        location = next(name for name, number in LOCATIONS.items() if str(body["location"]) in (name, str(number)))
        server = self._new(
            "servers", body, status="initializing", server_type=kind["name"], location=location, image=image,
            protection={"delete": False, "rebuild": False}, ssh_keys=body.get("ssh_keys") or [],
            user_data=body.get("user_data"),
        )  # fmt: skip
        for number in filter(None, addresses.values()):
            self._thing("primary_ips", number)["assignee_id"] = server["id"]
        for entry in body.get("firewalls") or []:
            self._thing("firewalls", entry["firewall"])["servers"].append(server["id"])
        action = self._action("create_server", server, lambda: server.update(status="running"))
        password = None if body.get("ssh_keys") else "a-password-of-the-provider"
        return {
            "server": self._shown("servers", server),
            "action": action,
            "next_actions": [self._action("start_server", server)],
            "root_password": password,
        }

    def _shown(self, kind: str, thing: Body) -> Body:
        """A resource as the API shows it."""
        if kind == "primary_ips":
            location = next(name for name, number in LOCATIONS.items() if str(thing["location"]) in (name, str(number)))
            kind_of = "server" if thing["assignee_id"] else "unassigned"
            return thing | {"location": _location(location), "assignee_type": kind_of}
        if kind == "firewalls":
            applied = [{"type": "server", "server": {"id": number}} for number in thing["servers"]]
            return {**{name: value for name, value in thing.items() if name != "servers"}, "applied_to": applied}
        if kind != "servers":
            return dict(thing)
        ipv4, ipv6 = self._address(thing, "ipv4"), self._address(thing, "ipv6")
        firewalls = [
            {"id": firewall["id"], "status": "applied"}
            for firewall in self.stored["firewalls"].values()
            if thing["id"] in firewall["servers"]
        ]
        return {
            "id": thing["id"], "name": thing["name"], "status": thing["status"], "created": CREATED,
            "labels": thing["labels"], "protection": thing["protection"], "image": thing["image"], "iso": None,
            "server_type": _server_type(thing["server_type"]), "location": _location(thing["location"]),
            "public_net": {
                "ipv4": ipv4 and {"id": ipv4["id"], "ip": ipv4["ip"], "blocked": False, "dns_ptr": _name_of(ipv4)},
                "ipv6": ipv6 and {"id": ipv6["id"], "ip": ipv6["ip"], "blocked": False, "dns_ptr": ipv6["dns_ptr"]},
                "floating_ips": [], "firewalls": firewalls,
            },
            "private_net": [], "rescue_enabled": False, "locked": False, "backup_window": None, "volumes": [],
            "load_balancers": [], "placement_group": None, "primary_disk_size": 80, "outgoing_traffic": 0,
            "ingoing_traffic": 0, "included_traffic": 0,
        }  # fmt: skip

    def _address(self, server: Body, family: str) -> Body | None:
        found = (ip for ip in self.stored["primary_ips"].values() if ip["assignee_id"] == server["id"])
        return next((ip for ip in found if ip["type"] == family), None)

    # --- the actions ----------------------------------------------------------------------------------------------

    def _do_poweron(self, kind: str, server: Body, body: Body) -> Body:
        if server["status"] == "initializing":
            raise Refused("locked", "server is locked because it is initializing")
        return {"action": self._action("start_server", server, lambda: server.update(status="running"))}

    def _do_change_protection(self, kind: str, thing: Body, body: Body) -> Body:
        thing["protection"].update(body)
        return {"action": self._action("change_protection", thing)}

    def _do_change_dns_ptr(self, kind: str, thing: Body, body: Body) -> Body:
        family = "ipv6" if ":" in body["ip"] else "ipv4"
        address = self._address(thing, family) if kind == "servers" else thing
        if not address or ipaddress.ip_address(body["ip"]) not in ipaddress.ip_network(address["ip"]):
            raise Refused("invalid_input", "the server does not have this IP")
        address["dns_ptr"] = [entry for entry in address["dns_ptr"] if entry["ip"] != body["ip"]]
        address["dns_ptr"].append({"ip": body["ip"], "dns_ptr": body["dns_ptr"]})
        return {"action": self._action("change_dns_ptr", thing)}

    def _do_set_rules(self, kind: str, firewall: Body, body: Body) -> Body:
        firewall["rules"] = _rules(body["rules"])
        return {"actions": [self._action("set_firewall_rules", firewall)]}

    def _do_apply_to_resources(self, kind: str, firewall: Body, body: Body) -> Body:
        numbers = [entry["server"]["id"] for entry in body["apply_to"]]
        if set(numbers) & set(firewall["servers"]):
            raise Refused("uniqueness_error", "firewall was already applied")
        firewall["servers"] += numbers
        return {"actions": [self._action("apply_firewall", firewall)]}


def _rules(rules: list[Body]) -> list[Body]:
    """The rules with all fields, as the API shows them."""
    for rule in rules:
        for network in rule["source_ips"]:
            try:
                ipaddress.ip_network(network)  # without host bits
            except ValueError:
                raise Refused("invalid_input", f"invalid source IP {network}") from None
            if "/" not in network:
                raise Refused("invalid_input", f"{network} is not in CIDR notation")
    empty = {"description": None, "port": None, "source_ips": [], "destination_ips": []}
    return [empty | rule for rule in rules]


def _name_of(address: Body) -> str:
    """The name of an IPv4 address, which the API shows as text."""
    named = [entry["dns_ptr"] for entry in address["dns_ptr"]]
    return named[0] if named else f"static.{address['ip']}.clients.your-server.de"


def _by_id(kind: str, number: int | str) -> Body:
    return next(thing for thing in map(_server_type, TYPES) if str(number) in (str(thing["id"]), thing["name"]))


def _location(name: str) -> Body:
    return {"id": LOCATIONS[name], "name": name, "description": name, "country": "DE", "city": name, "latitude": 0.0,
            "longitude": 0.0, "network_zone": "eu-central"}  # fmt: skip


def _server_type(name: str) -> Body:
    architecture, sold = TYPES[name]
    places = [{"id": LOCATIONS[place], "name": place, "deprecation": None, "available": True, "recommended": False}
              for place in sold]  # fmt: skip
    return {"id": 100 + list(TYPES).index(name), "name": name, "description": name, "category": "Shared",
            "cores": 4, "memory": 8.0, "disk": 80, "deprecated": False, "deprecation": None, "prices": [],
            "storage_type": "local",
            "cpu_type": "shared", "architecture": architecture, "locations": places,
            "included_traffic": None}  # fmt: skip


def _image(number: int) -> Body:
    name, architecture = IMAGES[number]
    return {"id": 500 + number, "type": "system", "status": "available", "name": name, "description": name,
            "image_size": None, "disk_size": 5, "created": CREATED, "created_from": None, "bound_to": None,
            "os_flavor": name.split("-")[0], "os_version": name.split("-")[1], "rapid_deploy": True, "labels": {},
            "protection": {"delete": False}, "deprecated": None, "deleted": None,
            "architecture": architecture}  # fmt: skip


def serve(api: HcloudApi) -> Iterator[str]:
    """Serve a project on loopback; yields the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else {}
            status, answer = api.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _reply

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        api.endpoint = f"http://127.0.0.1:{server.server_address[1]}/v1"
        yield api.endpoint
    finally:
        server.shutdown()
        server.server_close()

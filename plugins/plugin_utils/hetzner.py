# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server at Hetzner Cloud should be, what is in the way, and what a refusal of the API means."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import typing as t
from collections.abc import Iterable, Mapping, Sequence

ANYWHERE = ("0.0.0.0/0", "::/0")
#: The label that says which server of this project a thing at Hetzner belongs to.
LABEL = "openmates"
_KEY = re.compile(r"\b((?:ssh|ecdsa|sk)-\S+)\s+(AAAA[A-Za-z0-9+/=]+)")
_AGAIN = "Run this again in some minutes."

#: What to do about an error code of the API, https://docs.hetzner.cloud/reference/cloud#errors.
_MEANINGS: dict[str, tuple[str, str]] = {
    "unauthorized": (
        "Hetzner does not accept the token",
        "Make one in the console (the project, Security, API tokens; read and write), and set HCLOUD_TOKEN or "
        "openmates_hcloud_token to it.",
    ),
    "forbidden": ("the token does not allow it", "Make one that may read and write."),
    "token_readonly": ("the token may only read", "Make one that may read and write."),
    "rate_limit_exceeded": ("too many requests were made with this project's tokens", _AGAIN),
    "resource_limit_exceeded": (
        "the project has reached its limit",
        "Remove something that is not needed any more, or have the limit raised in the console (Limits).",
    ),
    "resource_unavailable": (
        "Hetzner has none free at the moment",
        "Choose another openmates_hcloud_location or openmates_hcloud_server_type, or run this again later.",
    ),
    "placement_error": (
        "Hetzner has no room for it at the moment",
        "Choose another openmates_hcloud_location or openmates_hcloud_server_type, or run this again later.",
    ),
    "uniqueness_error": (
        "something else in the project has the same name or the same SSH key",
        "Run this again. If it remains, rename or remove the other one in the console.",
    ),
    "locked": ("Hetzner is still working on it", _AGAIN),
    "conflict": ("it was changed at the same time", _AGAIN),
    "maintenance": ("Hetzner is doing maintenance", _AGAIN),
    "service_error": ("an error in Hetzner's API", _AGAIN),
    "server_error": ("an error in Hetzner's API", _AGAIN),
    "unavailable": ("Hetzner's API is not available", _AGAIN),
    "timeout": ("Hetzner's API took too long", _AGAIN),
    "protected": ("it is protected", "Remove the protection in the console, or set openmates_hcloud_protection."),
    "invalid_input": ("Hetzner does not accept a value", "Correct the setting that the message is about."),
}
_ACTION = (
    "Hetzner could not do it",
    "Run this again. If it remains, look at the server in the console; one that was never provisioned can be deleted "
    "there and made anew.",
)
_UNREACHABLE = (
    "Hetzner's API cannot be reached",
    "This machine needs HTTPS to api.hetzner.cloud, or a proxy in HTTPS_PROXY.",
)


class Keys(t.TypedDict):
    """The names of SSH keys at Hetzner, and those of them that have to be created."""

    names: list[str]
    missing: list[dict[str, str]]


def firewall_rules(
    port_names: Mapping[str, str], sources: Mapping[str, Iterable[str]] | None = None
) -> list[dict[str, t.Any]]:
    """The rules of a cloud firewall for the TCP ports of the host's one, in the form that the API returns.

    port_names: the name of the service for each port. sources: networks that may reach a port; any, if it is not named.
    ICMP is open: path MTU discovery needs it, and the host limits it.
    """
    limited = {str(port): networks for port, networks in (sources or {}).items()}
    rules = [_rule("icmp", None, ANYWHERE, "ping and path MTU")]
    for port, name in sorted(port_names.items(), key=lambda item: int(item[0])):
        networks = [str(ipaddress.ip_network(network, strict=False)) for network in limited.get(str(port), ())]
        rules.append(_rule("tcp", str(port), sorted(networks) or ANYWHERE, name))
    return rules


def _rule(protocol: str, port: str | None, sources: Sequence[str], description: str) -> dict[str, t.Any]:
    return {
        "description": description,
        "direction": "in",
        "protocol": protocol,
        "port": port,
        "source_ips": list(sources),
        "destination_ips": [],
    }


def ssh_keys(lines: Iterable[str], present: Iterable[Mapping[str, t.Any]]) -> Keys:
    """Where Hetzner has a public key already, under whatever name, that one is used: it accepts no key twice."""
    names = {_key(key["public_key"]): key["name"] for key in present}
    result: Keys = {"names": [], "missing": []}
    for line in lines:
        key = _key(line)
        if not key:
            continue
        if key not in names:
            names[key] = f"openmates-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
            result["missing"].append({"name": names[key], "public_key": key})
        if names[key] not in result["names"]:
            result["names"].append(names[key])
    return result


def _key(line: str) -> str:
    """Type and key of a line, without options and comment."""
    found = _KEY.search(line)
    return f"{found[1]} {found[2]}" if found else ""


def problems(found: Mapping[str, t.Any], wanted: Mapping[str, t.Any]) -> list[str]:
    """What cannot become the server that is wanted, one sentence with a remedy each.

    found: ``server``, ``server_types``, ``images``, ``ssh_keys``, ``firewall``, ``primary_ips``, as the API has them.
    wanted: ``name``, ``server_type``, ``location``, ``image``, ``ssh_keys``, ``ssh_key_names``, ``ssh_port`` and
    ``address``, the one in the inventory.
    """
    result = [*_foreign(found, wanted["name"]), *_address(found, wanted)]
    return result + list(_of_existing(found["server"], wanted) if found["server"] else _of_new(found, wanted))


def _foreign(found: Mapping[str, t.Any], name: str) -> t.Iterator[str]:
    things = [("server", found["server"]), ("firewall", found["firewall"])]
    things += [("primary IP", address) for address in found["primary_ips"]]
    for kind, thing in things:
        if thing and (thing.get("labels") or {}).get(LABEL) != name:
            yield (
                f"Hetzner has a {kind} {thing['name']} that this project did not make. Give it the label "
                f"{LABEL}={name} in the console to have it taken over, or rename or remove it."
            )


def _address(found: Mapping[str, t.Any], wanted: Mapping[str, t.Any]) -> t.Iterator[str]:
    try:
        address = ipaddress.ip_address(wanted["address"])
    except ValueError:
        return  # none, or a name
    networks = [found["server"].get("ipv4_address"), found["server"].get("ipv6")]
    networks += [thing["ip"] for thing in found["primary_ips"]]
    if not any(address in ipaddress.ip_network(network) for network in networks if network):
        yield (
            f"ansible_host is {address}, which is no address of {wanted['name']} at Hetzner. Remove ansible_host from "
            "the inventory if the server is to be created; for a server that is elsewhere, run bootstrap instead."
        )


def _of_existing(server: Mapping[str, t.Any], wanted: Mapping[str, t.Any]) -> t.Iterator[str]:
    if server["server_type"] != wanted["server_type"]:
        yield (
            f"openmates_hcloud_server_type is {wanted['server_type']}, but the server is a {server['server_type']}. "
            "Rescale it in the console while it is off, or correct the setting."
        )
    if server["location"] != wanted["location"]:
        yield (
            f"openmates_hcloud_location is {wanted['location']}, but the server is in {server['location']}, and cannot "
            "be moved. Correct the setting."
        )


def _of_new(found: Mapping[str, t.Any], wanted: Mapping[str, t.Any]) -> t.Iterator[str]:
    kind, place = wanted["server_type"], wanted["location"]
    if not found["server_types"]:
        yield f"openmates_hcloud_server_type: Hetzner has no type {kind}. Choose one of its types, such as cax21."
    else:
        sold = [location["name"] for location in found["server_types"][0].get("locations") or ()]
        if sold and place not in sold:
            others = ", ".join(sorted(sold))
            yield f"openmates_hcloud_location: Hetzner has no {kind} in {place}. Choose one of {others}."
        if not found["images"]:
            architecture = found["server_types"][0]["architecture"]
            yield (
                f"openmates_hcloud_image: Hetzner has no image {wanted['image']} for {kind}, whose architecture is "
                f"{architecture}. The default, debian-13, is the one that this project supports."
            )
    if wanted["ssh_port"] != 22:
        yield (
            f"openmates_ssh_port is {wanted['ssh_port']}, but a new server listens on 22. Remove the setting, or "
            "set it after sshd was moved."
        )
    known = {key["name"] for key in found["ssh_keys"]}
    for name in wanted["ssh_key_names"]:
        if name not in known:
            yield f"openmates_hcloud_ssh_keys: the project at Hetzner has no SSH key {name}. Add it in the console."
    if not wanted["ssh_key_names"] and not any(_key(line) for line in wanted["ssh_keys"]):
        yield (
            "The new server would have no SSH key. Set openmates_ssh_keys to your public key, or name keys of the "
            "project at Hetzner in openmates_hcloud_ssh_keys."
        )


def failure(result: Mapping[str, t.Any], task: str) -> str:
    """The message for a call of the API that failed.

    result: what the module returned. The collection returns a ``failure`` for most errors; for others the code is in
    the text of the exception.
    """
    result = _failed_item(result)
    details = result.get("failure") or {}
    text = " ".join(str(result.get(key) or "") for key in ("msg", "module_stderr", "exception"))
    code = str(details.get("code") or "")
    if code not in _MEANINGS:
        code = next((name for name in _MEANINGS if re.search(rf"\({name}[,)]", text)), code)
    if "action" in details or "The pending action" in text:
        what, remedy = _ACTION
    elif code in _MEANINGS:
        what, remedy = _MEANINGS[code]
    elif re.search(r"requests\.exceptions|ConnectionError|Max retries exceeded", text):
        what, remedy = _UNREACHABLE
    else:
        what, remedy = "the call failed", "Run this again with -vvv for more."
    said = str(details.get("message") or result.get("msg") or "").strip().rstrip(".").splitlines()[:1]
    return f"{task}: {what}{f' ({said[0][:300]})' if said else ''}. {remedy}"


def _failed_item(result: Mapping[str, t.Any]) -> Mapping[str, t.Any]:
    """Of a loop, the result that failed."""
    return next((item for item in result.get("results") or () if item.get("failed")), result)

# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else is on the server: programs on our ports, packages and users; and its clock."""

from __future__ import annotations

import fnmatch
import ipaddress
import time
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.exposure import exposed
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight
from ansible_collections.openmates.server.plugins.plugin_utils.services.ports import host_ports

#: Programs that hold a port for us on a server that was provisioned before.
CADDY, DOCKER, SSH = {"caddy"}, {"docker-proxy", "dockerd"}, {"sshd", "systemd"}
#: Packages that Debian's docker.io cannot be installed beside.
OTHER_DOCKER = (
    *("docker-ce", "docker-ce-cli", "docker-ce-rootless-extras", "docker-compose-plugin", "containerd.io"),
    *("moby-engine", "moby-cli", "moby-containerd", "moby-compose", "podman-docker"),
)
#: Signatures and certificates are refused when the clock is wrong by more than a few minutes.
CLOCK_SECONDS = 300


def _needed(run: Preflight) -> dict[int, tuple[str, set[str], bool]]:
    """For each port of the host that we use: for what, the programs that may hold it, and whether on loopback only."""
    needed = {run.get("openmates_ssh_port", 22): ("SSH", SSH, False)}
    if str(run.get("openmates_domain", "")).strip():
        needed |= {port: ("Caddy", CADDY, False) for port in (80, 443)}
    exposure = run.get("openmates_exposure", {})
    for service, value in exposed(run).items():
        try:
            ports = host_ports(value)
        except ValueError:
            continue  # reported by check_ports
        needed |= {port: (service, DOCKER, exposure.get(service) == "proxy") for port in ports}
    return needed


def check_ports_are_free(run: Preflight) -> Iterator[str]:
    needed, found = _needed(run), {}
    for listener in run.host.get("listeners") or []:
        purpose, ours, loopback = needed.get(listener["port"], ("", set(), False))
        elsewhere = loopback and not _meets_loopback(listener["address"])
        if purpose and listener["program"] not in ours and not elsewhere:
            found[listener["port"]] = (purpose, listener)
    for port, (purpose, listener) in sorted(found.items()):
        program = f"{listener['program']} (process {listener['pid']})" if listener["program"] else "another program"
        yield run.host_problem(
            f"port {port}, which {purpose} needs, is taken by {program}",
            "Stop and remove that program, or use a server of its own",
        )


def _meets_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return parsed.is_unspecified or parsed == ipaddress.ip_address("127.0.0.1")


def check_kernel_settings(run: Preflight) -> Iterator[str]:
    """What another file sets at boot after the role hardening's would be in force until the next run."""
    wanted = {setting["name"]: " ".join(setting["value"].split()) for setting in run.host.get("kernel_settings") or []}
    for later in run.host.get("sysctl_later") or []:
        for name, value in wanted.items():
            same = fnmatch.fnmatch(later["name"], name) or fnmatch.fnmatch(name, later["name"])
            if same and later["value"] != value:
                yield run.host_problem(
                    f"{later['path']} sets {later['name']} = {later['value']} at each boot, after this project's file",
                    f"Remove that line, or name {name} in openmates_hardening_without",
                )


def check_packages(run: Preflight) -> Iterator[str]:
    others = [name for name in OTHER_DOCKER if name in (run.host.get("packages") or {})]
    if others:
        yield run.host_problem(
            f"{', '.join(others)} cannot be installed together with Debian's Docker, which this project uses",
            f"Run `sudo apt-get remove {' '.join(others)}` on it: volumes in /var/lib/docker stay",
        )


def check_other_engines(run: Preflight) -> Iterator[str]:
    for program in run.host.get("other_engines") or []:
        remedy = "`sudo snap remove docker`" if program.startswith("/snap/") else "its own instructions"
        yield run.host_problem(
            f"{program} is another Docker, which no Debian package brought",
            f"Remove it by {remedy}, or use a server of its own",
        )


def check_firewalls(run: Preflight) -> Iterator[str]:
    """Those that the base role would remove count, too: what they close or open would change with it."""
    for name in run.host.get("firewalls") or []:
        stop = "`sudo ufw disable`" if name == "ufw" else f"`sudo systemctl disable --now {name}.service`"
        yield run.host_problem(
            f"the firewall {name} is in force or starts at boot, and would undo this project's or Docker's rules",
            f"This project has a firewall of its own, which opens what is declared: disable the other with {stop}",
        )


def check_administrator(run: Preflight) -> Iterator[str]:
    """The administrator of a cloud's image often has the number that containers run as."""
    user = str(run.get("openmates_ssh_user", "admin"))
    uid = (run.host.get("uids") or {}).get(user)
    same = [name for name, fields in run.services.items() if str(fields.get("user", "")).partition(":")[0] == str(uid)]
    if uid and same:
        yield run.problem(
            "openmates_ssh_user",
            f"{user} exists on this host with the number {uid}, which {', '.join(same)} run as: a program that breaks "
            "out of its container would be the administrator",
            f"Set it to another name, such as operator, and openmates_ssh_initial_user to {user}",
        )


def check_clock(run: Preflight) -> Iterator[str]:
    if "time" not in run.host:
        return
    seconds = run.host["time"] - time.time()
    if abs(seconds) > CLOCK_SECONDS:
        size = f"{abs(seconds) / 60:.0f} minutes" if abs(seconds) < 7200 else f"{abs(seconds) / 3600:.0f} hours"
        yield run.host_problem(
            f"its clock is {size} {'ahead of' if seconds > 0 else 'behind'} this machine's: package lists and "
            "certificates would be refused",
            f"Correct the one that is wrong, on the server with `sudo date --set @{time.time():.0f}`",
        )


CHECKS = (
    check_ports_are_free,
    check_kernel_settings,
    check_packages,
    check_other_engines,
    check_firewalls,
    check_administrator,
    check_clock,
)

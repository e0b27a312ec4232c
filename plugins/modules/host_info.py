#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the state of a Debian host and the features of its kernel in one round trip."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Read the state of a Debian host and the features of its kernel
description:
  - Returns facts that several tasks need, so that a run without changes needs one short call.
  - Features are tested in the kernel, not derived from the type of machine.
  - Returns facts of Ansible, too, under their usual names. Of the hardware, which M(ansible.builtin.setup) collects as
    a whole, it returns memory and mounts only.
  - A module of our own because M(ansible.builtin.setup), M(ansible.builtin.package_facts), M(ansible.builtin.getent)
    and M(ansible.builtin.mount_facts) are four calls on the path of every run, and cannot tell what the kernel
    supports.
options:
  database_volume:
    description: Docker's volume of a PostgreSQL database, of whose data the version is returned.
    type: str
    default: ""
  names:
    description: Names to resolve on the host by DNS, without C(/etc/hosts).
    type: list
    elements: str
    default: []
  names_without_ipv4:
    description: More of them for a host that has no default route by IPv4.
    type: list
    elements: str
    default: []
  certified:
    description: Names whose CAA records to read on the host.
    type: list
    elements: str
    default: []
  docker_root:
    description: The directory that Docker's engine is to keep its data in.
    type: path
    default: /var/lib/docker
  project_src:
    description: The directory of the Compose project, whose real path is returned.
    type: path
    default: /opt/openmates
attributes:
  check_mode: {support: full, description: Changes nothing.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Read the state of the host
  openmates.server.host_info:
    names: [api.example.com]
    database_volume: openmates-postgres-data
  register: host
"""

RETURN = r"""
ansible_facts:
  description:
    - Those of the subsets C(platform), C(distribution) and C(network), and C(memtotal_mb) and C(mounts).
    - A mount has its mount point, device, type and sizes only.
  type: dict
  returned: always
packages:
  description: The Debian packages on the host and their state, C(installed) or that of an interrupted installation.
  type: dict
  returned: always
  sample: {chrony: installed}
groups:
  description: Each local group's members, without the users whose first group it is.
  type: dict
  returned: always
  sample: {ssh-admins: [admin]}
users:
  description: Each local user's login shell.
  type: dict
  returned: always
  sample: {admin: /bin/bash}
uids:
  description: Each local user's number.
  type: dict
  returned: always
  sample: {admin: 20000}
listeners:
  description:
    - The TCP ports that programs accept connections on, each with C(port), C(address), C(program) and C(pid).
    - The last two are empty and 0 if the process cannot be told.
  type: list
  elements: dict
  returned: always
  sample: [{port: 22, address: 0.0.0.0, program: sshd, pid: 612}]
firewalls:
  description: Firewalls that are in force, or will be after the next boot, besides the project's own.
  type: list
  elements: str
  returned: always
  sample: [ufw]
docker:
  description:
    - What a running engine has. Empty if none runs. C(root) is its directory.
    - C(objects) are its containers, networks and volumes whose name or Compose project is the project's, each with
      C(kind), C(name), C(project) and C(directory).
    - C(subnets) are those of other networks, each with C(network) and C(subnet).
  type: dict
  returned: always
docker_access:
  description: Owner, group and permissions of the socket of Docker's engine; empty if there is none.
  type: str
  returned: always
  sample: "root:docker 660"
other_engines:
  description: Programs of a Docker that no Debian package brought.
  type: list
  elements: str
  returned: always
docker_disk:
  description:
    - The real C(path) of O(docker_root), the mount point that holds it (C(mount)), and the one that holds it after a
      boot (C(mount_at_boot)), by /etc/fstab and the mount units.
  type: dict
  returned: always
project_src:
  description: The real path of O(project_src).
  type: str
  returned: always
name_servers:
  description: The name servers that Docker passes queries of containers to.
  type: list
  elements: str
  returned: always
resolved:
  description: The addresses of each name that was looked up; null if the lookup failed.
  type: dict
  returned: always
  sample: {api.example.com: [192.0.2.1]}
caa:
  description:
    - The CAA records that apply to each of O(certified), each with C(tag), C(value) and C(critical).
    - Null if no name server answered.
  type: dict
  returned: always
ipv6:
  description: Whether the kernel has IPv6 switched on.
  type: bool
  returned: always
time:
  description: The host's clock, in seconds since 1970.
  type: float
  returned: always
database_version:
  description:
    - The major version of PostgreSQL whose data the volume O(database_volume) holds.
    - Empty without data, C(unknown) for files of something else.
  type: str
  returned: always
  sample: "17"
mounts:
  description: The options of each mount point in force.
  type: dict
  returned: always
  sample: {/dev/shm: [rw, nosuid]}
hostname:
  description: The static host name.
  type: str
  returned: always
timezone:
  description: The time zone by its name, empty if it is unknown.
  type: str
  returned: always
  sample: Etc/UTC
sysctl_later:
  description: Kernel settings in files of sysctl.d that overrule the role hardening's at boot, being read after them.
  type: list
  elements: dict
  returned: always
  sample: [{path: /etc/sysctl.d/zzz.conf, name: kernel.kptr_restrict, value: "0"}]
release:
  description:
    - What was rolled out last, as C(openmates-release) recorded it, with its C(id); empty before the first time.
    - Its C(overwritten) is whether the project has other files by now, which a run that did not end has left.
  type: dict
  returned: always
move:
  description:
    - What the server has recorded of a move to or from another one, with C(state), C(peer) and C(addresses).
    - Empty without a move.
  type: dict
  returned: always
alerts_tested:
  description: Whether a test alert has reached every channel that Alertmanager has now.
  type: bool
  returned: always
rollout:
  description: Whether containers are being replaced, by a run that is under way or was killed.
  type: bool
  returned: always
processor_lacks:
  description: Instructions of x86-64-v2 that this processor does not have; none on another architecture.
  type: list
  elements: str
  returned: always
can:
  description: Features that root can use on this kernel.
  type: dict
  returned: always
  contains:
    clock: {description: Set the clock., type: bool}
    modules: {description: Load kernel modules., type: bool}
    zram: {description: Compress memory for swap., type: bool}
    audit: {description: Record system calls., type: bool}
    apparmor: {description: Confine programs with AppArmor., type: bool}
    usb: {description: Block USB devices., type: bool}
"""

import grp
import json
import os
import platform
import pwd
import socket
import struct
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import (
    alert_channels,
    docker_state,
    firewalls,
    host_facts,
    listeners,
    name_servers,
    postgres_data,
    sysctl,
)
from ansible_collections.openmates.server.plugins.module_utils.docker_api import Docker
from ansible_collections.openmates.server.plugins.module_utils.file_lock import locked

CAP_SYS_MODULE = 16
CAP_SYS_TIME = 25
NETLINK_AUDIT = 9
AUDIT_GET = 1000
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
#: As openmates-release has it: secrets stay what they are, whatever release runs.
NOT_RELEASED = {"secrets", ".vault-init", ".vault-root", ".vault-wipe"}
#: What x86-64-v2 adds, as the kernel names it.
X86_64_V2 = frozenset({"cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"})


def package_states(status: str) -> dict[str, str]:
    """Each package's state by the text of dpkg's status file, without those of which only the configuration remains."""
    states, name = {}, ""
    for line in status.splitlines():
        if line.startswith("Package: "):
            name = line[9:]
        elif line.startswith("Status: "):
            states[name] = line.split()[-1]
    return {name: state for name, state in states.items() if state not in ("not-installed", "config-files")}


def processor_lacks(machine: str, cpuinfo: str) -> list[str]:
    """The instructions of x86-64-v2 that are missing, by the text of /proc/cpuinfo."""
    if machine != "x86_64":
        return []
    line = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), "")
    return sorted(X86_64_V2.difference(line.split()))


def has_capability(number: int, status: str) -> bool:
    """Whether a capability is effective, by the text of /proc/self/status."""
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> number & 1)


def audit_answers() -> bool:
    """Whether the kernel's audit subsystem accepts commands: it then reports its status."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT) as kernel:
            kernel.settimeout(2)
            kernel.sendto(struct.pack("=IHHII", 16, AUDIT_GET, NLM_F_REQUEST, 1, 0), (0, 0))
            return struct.unpack_from("=IH", kernel.recv(8192))[1] != NLMSG_ERROR
    except OSError:
        return False


def capabilities() -> dict[str, bool]:
    status = Path("/proc/self/status").read_text()
    modules = Path("/lib/modules", platform.release())
    loads = has_capability(CAP_SYS_MODULE, status) and modules.is_dir()
    zram = Path("/sys/class/zram-control").exists() or (loads and any(modules.rglob("zram.ko*")))
    enforced = Path("/sys/module/apparmor/parameters/enabled")
    return {
        "clock": has_capability(CAP_SYS_TIME, status),
        "modules": loads,
        "zram": zram and os.access("/sys", os.W_OK),  # devices are created there, and it is read-only in a container
        "audit": audit_answers(),
        "usb": Path("/sys/bus/usb/devices").is_dir() and os.access("/sys", os.W_OK),
        "apparmor": enforced.is_file() and enforced.read_text().strip() == "Y",
    }


def mounts(table: str) -> dict[str, list[str]]:
    """Options by mount point, from the text of /proc/mounts; the topmost mount counts."""
    return {line.split()[1]: line.split()[3].split(",") for line in table.splitlines()}


def ipv6_is_on(kernel: Path = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")) -> bool:
    """Whether the kernel has IPv6: the file is missing if it was started without."""
    return kernel.is_file() and kernel.read_text().strip() == "0"


def newest_release(folder: Path, project: Path) -> dict:
    """The record of what was rolled out last; empty if there is none."""
    for file in sorted(folder.glob("*/release.json"), reverse=True)[:1]:
        try:
            overwritten = contents(file.parent / "files") != contents(project)
            return {"id": file.parent.name, "overwritten": overwritten} | json.loads(file.read_text())
        except (OSError, ValueError):
            return {}
    return {}


def record(file: Path) -> dict:
    """The content of a JSON file; empty if there is none."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def contents(folder: Path) -> dict[str, bytes]:
    """The files of the project, or of a release of it, by their path; what openmates-release leaves out is no part."""
    names = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in names.items() if name.parts[0] not in NOT_RELEASED}


def main() -> None:
    names = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "database_volume": {"type": "str", "default": ""},
            "names": names,
            "names_without_ipv4": names,
            "certified": names,
            "docker_root": {"type": "path", "default": docker_state.DEFAULT_ROOT},
            "project_src": {"type": "path", "default": "/opt/openmates"},
        },
        supports_check_mode=True,
    )
    given = module.params
    data = Path(given["docker_root"], "volumes", given["database_volume"], "_data")
    link, hostname = Path("/etc/localtime"), Path("/etc/hostname")
    zone = str(link.readlink()) if link.is_symlink() else ""
    packages = package_states(Path("/var/lib/dpkg/status").read_text(errors="replace"))
    mounted = mounts(Path("/proc/mounts").read_text())
    facts = host_facts.collected(module)
    has_ipv4 = facts["ansible_default_ipv4"].get("gateway")
    module.exit_json(
        changed=False,
        ansible_facts=facts,
        packages=packages,
        groups={group.gr_name: group.gr_mem for group in grp.getgrall()},
        users={user.pw_name: user.pw_shell for user in pwd.getpwall()},
        uids={user.pw_name: user.pw_uid for user in pwd.getpwall()},
        listeners=listeners.found(Path("/proc")),
        firewalls=firewalls.in_force(packages, lambda command: module.run_command(command)[1]),
        docker=docker_state.found(Docker(docker_state.PROJECT)),
        docker_access=docker_state.access(),
        other_engines=docker_state.other_engines(),
        docker_disk=docker_state.disk_of(given["docker_root"], mounted),
        project_src=str(Path(given["project_src"]).resolve()),
        name_servers=name_servers.servers_of_containers(),
        resolved=name_servers.addresses(given["names"] + ([] if has_ipv4 else given["names_without_ipv4"])),
        caa=name_servers.authorities(given["certified"], name_servers.servers()),
        ipv6=ipv6_is_on(),
        time=time.time(),
        database_version=postgres_data.version(data) if given["database_volume"] else "",
        mounts=mounted,
        hostname=hostname.read_text().strip() if hostname.exists() else "",
        timezone=zone.partition("zoneinfo/")[2],
        sysctl_later=sysctl.set_later(),
        alerts_tested=alert_channels.tested(Path(given["project_src"])),
        backups=Path("/etc/systemd/system/openmates-backup.timer").exists(),
        move=record(Path("/var/lib/openmates/move.json")),
        rollout=locked(Path("/run/openmates/rollout.lock")),
        release=newest_release(Path("/var/lib/openmates/releases"), Path(given["project_src"])),
        processor_lacks=processor_lacks(platform.machine(), Path("/proc/cpuinfo").read_text()),
        can=capabilities(),
    )


if __name__ == "__main__":
    main()

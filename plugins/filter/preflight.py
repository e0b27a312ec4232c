# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the way of a run: settings and host facts in, sentences for a person out.

Each check below has one concern and yields its problems. None of them may put the value of a secret into a sentence.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.openmates.server.plugins.filter.exposure import EXPOSURES, host_ports

ENVIRONMENTS = ("dev", "prod")
SERVICES = (
    "api",
    "cms",
    "grafana",
    "cms-database",
    "cache",
    "vault",
    "task-worker",
    "task-scheduler",
    "prometheus",
    "loki",
    "promtail",
    "cadvisor",
    "vault-setup",
    "cms-setup",
)
DEVELOPMENT_SERVICES = ("api", "cms", "grafana")
# Each secret with the shortest value that is taken, in characters.
SECRETS = {
    "openmates_admin_password": 12,
    "openmates_database_password": 16,
    "openmates_cache_password": 16,
    "openmates_directus_secret": 32,
    "openmates_internal_api_token": 16,
    "openmates_grafana_password": 12,
}
ARCHITECTURES = ("x86_64", "aarch64")
LOG_LEVELS = ("debug", "info", "warning", "error")
VAULT_ENGINES = ("vault", "openbao")
GIB = 1024  # in MiB
# The limits of all containers together: what an 8 GB server can give and still have room for itself.
SMALLEST_BUDGET_MB = int(6.5 * GIB)
HOST_RESERVE_MB = int(1.5 * GIB)
DOCKER_DIRECTORY = "/var/lib/docker"

# Anchored where a random value could hold the same few characters by chance.
PLACEHOLDER = re.compile(
    r"^<.*>$|^x{3,}|^[.*?_-]+$|^(todo|tbd|fixme|123456|abcdef|qwert|letmein)"
    r"|^(none|null|secret|password|test|admin|default)[!?.0-9]*$"
    r"|change[-_ ]?(me|it|this)|replace[-_ ]?(me|this|with)|place[-_ ]?holder|example|insert[-_ ]|fill[-_ ]?(me|in)"
    r"|your[-_. ]?(own|domain|server|secret|password|token|key|e?mail|name)",
    re.IGNORECASE,
)
EXAMPLE_DOMAIN = re.compile(
    r"(^|\.)(example(\.(com|net|org))?|invalid|domain\.(com|tld)|your-?domain\..+)$", re.IGNORECASE
)
# Top-level domains that no mail can be sent to; Directus would refuse them halfway through its first start.
SPECIAL_DOMAINS = ("test", "local", "localhost", "internal", "lan", "home", "invalid", "example")
LABEL = re.compile(r"^(?!-)[a-z0-9-]{1,63}(?<!-)$", re.IGNORECASE)
EMAIL = re.compile(r"^[^@\s<>,;:\"']+@([^@\s]+)$")
APP_NAME = re.compile(r"^[a-z][a-z0-9-]{0,61}[a-z0-9]$")
IMAGE = re.compile(r"^[a-z0-9][a-z0-9._:/-]*(@sha256:[0-9a-f]{64})?$", re.IGNORECASE)
USER = re.compile(r"^[a-z_][a-z0-9_-]{0,30}$")
PUBLIC_KEY = re.compile(r"(^|\s)(ssh-ed25519|ssh-rsa|sk-ssh-ed25519@openssh\.com) AAAA[A-Za-z0-9+/=]+(\s|$)")
BASTION = re.compile(r"^([a-z_][a-z0-9_.-]*@)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d+)?$")
MEMORY = re.compile(r"^(\d+)([bkmg]?)b?$", re.IGNORECASE)
REGISTRY = re.compile(r"^[a-z0-9.-]+(:\d+)?(/[a-z0-9._/-]+)?$", re.IGNORECASE)
ORIGIN = re.compile(r"^(https?)://([^/\s:]+)(:\d+)?/?$")


class Preflight:
    """One run of the checks: the settings that could be worked out, the host's facts, and where settings stand."""

    def __init__(
        self, settings: Mapping, facts: Mapping, resolved: Iterable[str] | None, files: Mapping, names: Iterable[str]
    ) -> None:
        self.facts = facts
        self.resolved = None if resolved is None else list(resolved)
        self.files = files
        self.other_names = sorted(set(names) - set(settings))
        self.settings: dict[str, Any] = {}
        self.broken: dict[str, str] = {}
        for name in settings:
            # A setting may lean on one that is missing: that is a finding, not a reason to stop.
            try:
                self.settings[name] = _plain(settings[name])
            except Exception as error:
                if f"'{name}' is undefined" not in str(error):
                    self.broken[name] = str(error)

    def get(self, name: str, default: Any = None) -> Any:
        value = self.settings.get(name)
        return default if value is None else value

    def usable(self, name: str, kind: type | tuple[type, ...]) -> bool:
        """Whether a setting is there and of a kind that further checks can look into."""
        return isinstance(self.settings.get(name), kind)

    @property
    def environment(self) -> str:
        return str(self.get("openmates_environment", ""))

    def file(self, name: str) -> str:
        """The file that a setting belongs in, as a person would open it from the project's root."""
        if (
            name.split()[0].rstrip(",") in SECRETS or name == "openmates_vault_seeds"
        ):  # several secrets may share a problem
            return self.files.get("secrets", "the inventory's group_vars")
        if name in ("openmates_exposure", "openmates_environment"):
            return self.files.get("exposure", "playbooks/group_vars")
        return self.files.get("settings", "the inventory's group_vars")

    def problem(self, name: str, what: str, remedy: str) -> str:
        return f"{name} in {self.file(name)}: {what}. {remedy}"

    def host_problem(self, what: str, remedy: str) -> str:
        return f"This host: {what}. {remedy}"

    def did_you_mean(self, name: str) -> str:
        close = difflib.get_close_matches(name, self.other_names, n=1, cutoff=0.85)
        return f" ({close[0]} is set: is that a slip of the pen?)" if close else ""


def _plain(value: Any) -> Any:
    """A deep copy without Ansible's lazy templating, so that every error shows here and not inside a check."""
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _integer(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError):
        return None


def _megabytes(limit: Any) -> float | None:
    """A Compose memory limit in MiB, or None when it is not one."""
    match = MEMORY.match(str(limit))
    if not match or int(match[1]) == 0:
        return None
    return int(match[1]) * {"": 1 / GIB**2, "b": 1 / GIB**2, "k": 1 / GIB, "m": 1, "g": GIB}[match[2].lower()]


def _is_placeholder_domain(name: str) -> bool:
    return bool(
        EXAMPLE_DOMAIN.search(name.rstrip(".")) or re.search(r"[<>{}]|change-?me|placeholder|your-?domain", name, re.I)
    )


def check_worked_out(run: Preflight) -> Iterator[str]:
    for name, error in run.broken.items():
        yield run.problem(
            name, f"it cannot be worked out: {error}", "Define what it refers to, or give it a plain value"
        )


def check_environment(run: Preflight) -> Iterator[str]:
    if run.environment not in ENVIRONMENTS:
        known = " or ".join(ENVIRONMENTS)
        yield run.problem(
            "openmates_environment",
            f"{run.environment!r} is not an environment",
            f"Put the host into the inventory group {known}, which sets it",
        )


def check_secrets(run: Preflight) -> Iterator[str]:
    missing = [name for name in SECRETS if not str(run.get(name, "")).strip() and name not in run.broken]
    if len(missing) == len(SECRETS):
        inventory = run.files.get("inventory", "INVENTORY")
        yield run.problem(
            ", ".join(missing),
            "none of the secrets is set, the file is missing or empty",
            f"`ansible-playbook playbooks/secrets.yml -i {inventory}` makes it, encrypted",
        )
        return
    for name, shortest in SECRETS.items():
        value = run.get(name, "")
        if name in run.broken:
            continue
        if name in missing:
            yield run.problem(
                name,
                f"it is not set{run.did_you_mean(name)}",
                f"Add it with `ansible-vault edit {run.file(name)}`, e.g. a value from `openssl rand -hex 32`",
            )
            continue
        if not isinstance(value, str):
            yield run.problem(name, "it is not text", "Put it into quotation marks")
            continue
        if PLACEHOLDER.search(value):
            yield run.problem(
                name, "it still is a placeholder", "Give it a random value, e.g. from `openssl rand -hex 32`"
            )
        elif len(value) < shortest:
            yield run.problem(
                name,
                f"it has {len(value)} characters, fewer than {shortest}",
                "Give it a longer random value, e.g. from `openssl rand -hex 32`",
            )
        elif len(set(value)) < 5:
            yield run.problem(
                name, "it repeats the same few characters", "Give it a random value, e.g. from `openssl rand -hex 32`"
            )
        if value != value.strip() or any(ord(character) < 32 or ord(character) == 127 for character in value):
            yield run.problem(
                name,
                "it holds a line break, a control character or a space at an end, which files and flags cannot carry",
                "Use printable characters only, and `|-` or quotation marks in YAML",
            )


def check_secrets_differ(run: Preflight) -> Iterator[str]:
    users: dict[str, list[str]] = {}
    for name in SECRETS:
        if run.usable(name, str) and run.settings[name].strip():
            users.setdefault(run.settings[name], []).append(name)
    for names in users.values():
        if len(names) > 1:
            yield run.problem(
                " and ".join(names),
                "they have the same value",
                "Give each its own: whoever learns one then knows only that one",
            )


def check_admin_email(run: Preflight) -> Iterator[str]:
    yield from _check_email(run, "openmates_admin_email", required=True)


def check_acme_email(run: Preflight) -> Iterator[str]:
    if run.get("openmates_acme_email") != run.get("openmates_admin_email"):
        yield from _check_email(run, "openmates_acme_email", required=False)


def _check_email(run: Preflight, name: str, required: bool) -> Iterator[str]:
    value = str(run.get(name, "")).strip()
    remedy = "Set it to an address that a person reads"
    if name in run.broken or (not value and not required):
        return
    match = EMAIL.match(value)
    if not value:
        yield run.problem(name, f"it is not set{run.did_you_mean(name)}", remedy)
    elif not match or "." not in match[1] or not all(LABEL.match(label) for label in match[1].split(".")):
        yield run.problem(name, f"{value!r} is not an e-mail address", remedy)
    elif _is_placeholder_domain(match[1]) or re.search(r"change-?me|^your", value, re.I):
        yield run.problem(name, f"{value!r} is a placeholder", remedy)
    elif match[1].rpartition(".")[2].lower() in SPECIAL_DOMAINS:
        yield run.problem(name, f"Directus takes no address under .{match[1].rpartition('.')[2]}", remedy)


def check_domain(run: Preflight) -> Iterator[str]:
    name, domain = "openmates_domain", str(run.get("openmates_domain", "")).strip()
    remedy = "Set it to the api's public name, e.g. api. and your domain"
    if name in run.broken:
        return
    if not domain:
        if run.environment == "prod":
            yield run.problem(name, f"it is not set, and production needs one{run.did_you_mean(name)}", remedy)
        return
    if _is_placeholder_domain(domain):
        yield run.problem(name, f"{domain!r} is a placeholder", remedy)
    elif "/" in domain or ":" in domain:
        yield run.problem(name, f"{domain!r} is more than a name", "Leave out https://, the port and the path")
    elif not _is_domain(domain):
        yield run.problem(name, f"{domain!r} is not a domain name", remedy)
    elif run.environment == "prod" and domain.endswith(".localhost"):
        yield run.problem(name, f"{domain!r} is this machine's own name for itself", remedy)
    elif not domain.endswith(".localhost"):
        yield from _check_resolution(run, name, domain)


def _is_domain(domain: str) -> bool:
    labels = domain.split(".")
    return len(labels) > 1 and len(domain) <= 253 and all(map(LABEL.match, labels)) and not labels[-1].isdigit()


def _check_resolution(run: Preflight, name: str, domain: str) -> Iterator[str]:
    if run.resolved is None:  # the host could not be asked
        return
    if not run.resolved:
        yield run.problem(
            name,
            f"{domain} does not resolve",
            "Add an A record (and an AAAA record) that points to this host, then wait for it",
        )
        return
    if run.get("openmates_domain_elsewhere", False):
        return
    own = {_address(text) for key in ("all_ipv4_addresses", "all_ipv6_addresses") for text in run.facts.get(key) or []}
    elsewhere = sorted({text for text in run.resolved if _address(text) not in own})
    if elsewhere:
        mine = ", ".join(str(address) for address in sorted(own - {None}, key=str) if _is_public(address)) or "none"
        yield run.problem(
            name,
            f"{domain} resolves to {', '.join(elsewhere)}, which is not this host (its addresses: {mine})",
            "Correct the DNS record, or set openmates_domain_elsewhere: true if a load balancer or NAT passes it on",
        )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(str(text).partition("%")[0])
    except ValueError:
        return None


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether a person would recognise the address as the host's: not its loopback, link-local or bridges' ones."""
    docker = ipaddress.ip_network("172.16.0.0/12")
    return not (address.is_loopback or address.is_link_local or (address.version == 4 and address in docker))


def check_exposure(run: Preflight) -> Iterator[str]:
    name, exposure = "openmates_exposure", run.get("openmates_exposure")
    if name in run.broken or (exposure is None and run.environment not in ENVIRONMENTS):
        return  # without an environment there is none
    if not isinstance(exposure, dict):
        yield run.problem(name, "it is not a table of services", "Restore the file from the project")
        return
    missing = [service for service in SERVICES if service not in exposure]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        yield run.problem(name, f"{', '.join(missing)} {verb} missing", f"Add `{missing[0]}: internal` and so on")
    for service, mode in exposure.items():
        if service not in SERVICES:
            close = difflib.get_close_matches(str(service), SERVICES, n=1)
            hint = f"Did you mean {close[0]}?" if close else "Remove it; apps belong into openmates_apps"
            yield run.problem(name, f"{service!r} is not a service", hint)
        elif mode not in EXPOSURES:
            yield run.problem(name, f"{service} is {mode!r}", f"Use one of {', '.join(EXPOSURES)}")
        else:
            yield from _check_allowed(run, name, service, mode)


def _check_allowed(run: Preflight, name: str, service: str, mode: str) -> Iterator[str]:
    if run.environment == "prod":
        wanted = "proxy" if service == "api" else "internal"
        if mode != wanted:
            yield run.problem(
                name,
                f"{service} is {mode}, which the architecture guidelines forbid in production",
                f"Set `{service}: {wanted}`; reach internal tools through an SSH tunnel",
            )
    elif mode != "internal" and service not in DEVELOPMENT_SERVICES:
        yield run.problem(
            name,
            f"{service} is {mode}, but in development the architecture guidelines expose only "
            f"{', '.join(DEVELOPMENT_SERVICES)}",
            f"Set `{service}: internal`",
        )


def check_ports(run: Preflight) -> Iterator[str]:
    name = "openmates_ports"
    exposed = _exposed(run)
    if name in run.broken or not exposed:
        return
    for service in exposed:
        entry = run.get(name, {}).get(service) if run.usable(name, dict) else None
        if not isinstance(entry, dict) or not {"host", "container"} <= set(entry):
            yield run.problem(
                name, f"{service} is exposed but has no ports", f"Add `{service}: {{container: ..., host: ...}}`"
            )
            continue
        for side, value in (("host", entry["host"]), ("container", entry["container"])):
            single = side == "container"
            try:
                count = len(host_ports(value))
            except ValueError:
                count = 0
            if count == 0 or (single and count > 1):
                shape = "a number" if single else "a number or a range such as 8000-8001"
                yield run.problem(
                    name, f"the {side} port of {service} is {value!r}", f"Give it {shape} from 1 to 65535"
                )


def check_ports_differ(run: Preflight) -> Iterator[str]:
    users: dict[int, list[str]] = {}
    ssh_port = _integer(run.get("openmates_ssh_port", 22))
    if ssh_port is not None:
        users[ssh_port] = ["SSH (openmates_ssh_port)"]
    if str(run.get("openmates_domain", "")).strip():
        for port in (80, 443):
            users.setdefault(port, []).append("Caddy")
    for service in _exposed(run):
        entry = run.get("openmates_ports", {}).get(service) if run.usable("openmates_ports", dict) else None
        try:
            for port in host_ports(entry["host"]):
                users.setdefault(port, []).append(service)
        except (KeyError, TypeError, ValueError):
            continue  # check_ports has said so
    clashes: dict[tuple[str, ...], list[int]] = {}
    for port, names in users.items():
        if len(names) > 1:
            clashes.setdefault(tuple(names), []).append(port)
    for names, ports in clashes.items():
        numbers = ", ".join(map(str, sorted(ports)))
        yield run.problem(
            "openmates_ports",
            f"{' and '.join(names)} both want host port {numbers}",
            "Give one of them another host port",
        )


def _exposed(run: Preflight) -> list[str]:
    exposure = run.get("openmates_exposure")
    if not isinstance(exposure, dict):
        return []
    return [service for service, mode in exposure.items() if mode in ("proxy", "published")]


def check_ssh_port(run: Preflight) -> Iterator[str]:
    port = _integer(run.get("openmates_ssh_port", 22))
    if port is None or not 1 <= port <= 65535:
        yield run.problem(
            "openmates_ssh_port",
            f"{run.get('openmates_ssh_port')!r} is not a port",
            "Set it to the number that sshd listens on, from 1 to 65535",
        )


def check_ssh_login(run: Preflight) -> Iterator[str]:
    for name in ("openmates_ssh_user", "openmates_ssh_initial_user"):
        value = str(run.get(name, "admin"))
        if not USER.match(value):
            yield run.problem(name, f"{value!r} is not the name of a user", "Use lower-case letters, digits, - and _")
    if run.get("openmates_ssh_user") == "root":
        yield run.problem("openmates_ssh_user", "root does not log in to a hardened server", "Use a name such as admin")
    keys = run.get("openmates_ssh_keys", [])
    if not isinstance(keys, list) or not all(PUBLIC_KEY.search(str(key)) for key in keys):
        yield run.problem(
            "openmates_ssh_keys",
            "it is not a list of public keys that sshd takes here",
            "Write each as `ssh-ed25519 AAAA... name` (or ssh-rsa of 3072 bits or more), as a .pub file has it",
        )
    bastion = str(run.get("openmates_ssh_bastion", ""))
    if bastion and not BASTION.match(bastion):
        yield run.problem(
            "openmates_ssh_bastion", f"{bastion!r} is not a host", "Write it as user@host or user@host:port"
        )


def check_ssh_sources(run: Preflight) -> Iterator[str]:
    name, sources = "openmates_ssh_sources", run.get("openmates_ssh_sources", [])
    if not isinstance(sources, list):
        yield run.problem(name, "it is not a list", "Write it as [203.0.113.0/24]")
        return
    for source in sources:
        try:
            ipaddress.ip_network(str(source))
        except ValueError as error:
            yield run.problem(
                name, str(error), "Write networks as 203.0.113.0/24 or 2001:db8::/32, or single addresses"
            )


def check_operating_system(run: Preflight) -> Iterator[str]:
    system = run.facts.get("distribution", "unknown")
    version = str(run.facts.get("distribution_major_version") or run.facts.get("distribution_version") or "")
    if (system, version.partition(".")[0]) != ("Debian", "13"):
        yield run.host_problem(
            f"it runs {system} {version}".rstrip(), "Install Debian 13 (trixie), the only system this is tested on"
        )


def check_architecture(run: Preflight) -> Iterator[str]:
    architecture = run.facts.get("architecture", "unknown")
    if architecture not in ARCHITECTURES:
        yield run.host_problem(
            f"its architecture is {architecture}", f"Use {' or '.join(ARCHITECTURES)}: there are no images for others"
        )


def check_memory(run: Preflight) -> Iterator[str]:
    minimum, have = _integer(run.get("openmates_min_memory_mb", 7000)), _integer(run.facts.get("memtotal_mb"))
    if minimum is None:
        yield run.problem("openmates_min_memory_mb", "it is not a number", "Set it to megabytes, e.g. 7000")
    elif have is not None and have < minimum:
        yield run.host_problem(
            f"it has {have} MB of memory, fewer than {minimum} MB (openmates_min_memory_mb)",
            "Use a server with 8 GB or more",
        )


def check_disk(run: Preflight) -> Iterator[str]:
    minimum = _integer(run.get("openmates_min_disk_gb", 20))
    if minimum is None:
        yield run.problem("openmates_min_disk_gb", "it is not a number", "Set it to gigabytes, e.g. 20")
        return
    mounts = [mount for mount in run.facts.get("mounts") or [] if _holds(mount.get("mount", ""), DOCKER_DIRECTORY)]
    if not mounts:  # an overlay root, as in a container, has no entry
        return
    mount = max(mounts, key=lambda entry: len(entry["mount"]))
    size, free = (_integer(mount.get(key)) for key in ("size_total", "size_available"))
    if size is not None and size < minimum * 10**9:
        yield run.host_problem(
            f"the disk at {mount['mount']} has {size / 10**9:.1f} GB, fewer than {minimum} GB (openmates_min_disk_gb)",
            "Use a larger disk",
        )
    elif free is not None and free < 2 * 10**9:
        yield run.host_problem(
            f"only {free / 10**9:.1f} GB are free on the disk at {mount['mount']}",
            "Make room for at least 2 GB, e.g. with `docker image prune --all`",
        )


def _holds(mount: str, directory: str) -> bool:
    return mount == "/" or directory == mount or directory.startswith(f"{mount.rstrip('/')}/")


def check_limits(run: Preflight) -> Iterator[str]:
    """Every service has a memory limit, and all of them together fit the host."""
    name, limits = "openmates_memory", run.get("openmates_memory")
    if limits is None:
        return
    if not isinstance(limits, dict):
        yield run.problem(name, "it is not a table of services", "Give each service a limit such as 256M")
        return
    apps = (
        [app for app in run.get("openmates_apps", []) if isinstance(app, dict)]
        if run.usable("openmates_apps", list)
        else []
    )
    total = 0.0
    for service in SERVICES:
        if service not in limits:
            yield run.problem(name, f"{service} has no memory limit", f"Add one, e.g. `{service}: 256M`")
    for service, limit in [*limits.items(), *((app.get("name"), app.get("memory", "128M")) for app in apps)]:
        size = _megabytes(limit)
        if size is None:
            yield run.problem(name, f"the memory limit of {service} is {limit!r}", "Write it as 256M or 1G")
        total += size or 0
    budget = max(SMALLEST_BUDGET_MB, (_integer(run.facts.get("memtotal_mb")) or 0) - HOST_RESERVE_MB)
    if total > budget:
        yield run.problem(
            name,
            f"the limits of all services and apps add up to {total:.0f} MB, but this host has {budget} MB to give",
            "Lower some of them, or use a larger server",
        )


def check_apps(run: Preflight) -> Iterator[str]:
    name, apps = "openmates_apps", run.get("openmates_apps", [])
    if name in run.broken:
        return
    if not isinstance(apps, list) or not all(isinstance(app, dict) for app in apps):
        yield run.problem(name, "it is not a list of apps", "Write it as `[{name: app-videos, image: ...}]`")
        return
    seen: set[str] = set()
    for app in apps:
        title = str(app.get("name", ""))
        if not APP_NAME.match(title):
            yield run.problem(
                name,
                f"{title!r} is not a name for an app",
                "Use lower-case letters, digits and hyphens, beginning with a letter",
            )
        elif title in SERVICES:
            yield run.problem(name, f"{title!r} is the name of a service", f"Rename the app, e.g. to app-{title}")
        elif title in seen:
            yield run.problem(name, f"{title!r} stands there twice", "Remove or rename one of them")
        seen.add(title)
        if not app.get("image"):
            yield run.problem(name, f"{title!r} has no image", "Add `image:` with the image's reference")
        elif not IMAGE.match(str(app["image"])):
            yield run.problem(name, f"the image of {title!r} is {app['image']!r}", "Write it as registry/path:tag")


def check_choices(run: Preflight) -> Iterator[str]:
    """Settings with a fixed set of values."""
    for name, choices in (("openmates_vault_engine", VAULT_ENGINES), ("openmates_log_level", LOG_LEVELS)):
        if name in run.settings and run.settings[name] not in choices:
            yield run.problem(name, f"{run.settings[name]!r} is unknown", f"Use one of {', '.join(choices)}")


def check_registry(run: Preflight) -> Iterator[str]:
    value = str(run.get("openmates_registry", ""))
    if value and not REGISTRY.match(value):
        yield run.problem(
            "openmates_registry",
            f"{value!r} is not a registry",
            "Write its host name, without https://, and :port if it has one",
        )


def check_acme_directory(run: Preflight) -> Iterator[str]:
    value = str(run.get("openmates_acme_directory", ""))
    if value and not re.match(r"^https://[^/\s]+(/\S*)?$", value):
        yield run.problem(
            "openmates_acme_directory",
            f"{value!r} is not an https:// address",
            "Correct it, or leave it empty for Let's Encrypt",
        )


def check_frontends(run: Preflight) -> Iterator[str]:
    name, urls = "openmates_frontend_urls", run.get("openmates_frontend_urls", [])
    if name in run.broken:
        return
    if not isinstance(urls, list):
        yield run.problem(name, "it is not a list", "Write it as [https://app. and your domain]")
        return
    for url in urls:
        match = ORIGIN.match(str(url))
        if not match:
            yield run.problem(
                name, f"{url!r} is not the origin of a website", "Write https:// and a name, without a path"
            )
        elif _is_placeholder_domain(match[2]):
            yield run.problem(
                name, f"{url!r} is a placeholder", "Set it to where your web app runs, or to [] without one"
            )
        elif run.environment == "prod" and match[1] == "http":
            yield run.problem(name, f"{url!r} is not encrypted", "Use https:// in production")


def check_paths(run: Preflight) -> Iterator[str]:
    directory, ready = str(run.get("openmates_directory", "/opt/openmates")), str(run.get("openmates_ready_path", "/"))
    if not re.match(r"^(/[A-Za-z0-9._-]+){2,}$", directory):
        yield run.problem(
            "openmates_directory",
            f"{directory!r} is not a directory of its own",
            "Use an absolute path such as /opt/openmates",
        )
    if not re.match(r"^/[^\s]*$", ready):
        yield run.problem("openmates_ready_path", f"{ready!r} is not a path", "Begin it with a slash, e.g. /health")


def check_subnet(run: Preflight) -> Iterator[str]:
    name, text = "openmates_subnet", run.get("openmates_subnet")
    if text is None:
        return
    try:
        subnet = ipaddress.ip_network(str(text))
    except ValueError as error:
        yield run.problem(name, str(error), "Write it as 172.30.0.0/24")
        return
    default = run.facts.get("default_ipv4") or {}
    for text in (default.get("address"), default.get("gateway")):
        address = _address(text or "")
        if address is not None and address.version == subnet.version and address in subnet:
            yield run.problem(
                name,
                f"{subnet} holds {address}, which the host's own network uses",
                "Choose a private range that the host's network does not use, e.g. 172.31.0.0/24",
            )
            return


def check_vault_seeds(run: Preflight) -> Iterator[str]:
    name, seeds = "openmates_vault_seeds", run.get("openmates_vault_seeds", {})
    remedy = 'Write it as {"providers/openai": {"api_key": "..."}}'
    if name in run.broken:
        return
    if not isinstance(seeds, dict):
        yield run.problem(name, "it is not a table of secrets", remedy)
        return
    for path, fields in seeds.items():
        if not isinstance(fields, dict) or not fields:
            yield run.problem(name, f"{path} is not a table of fields", remedy)
        elif any(
            isinstance(value, str) and re.search(r"<[^>]+>|change-?me|^\.\.\.$", value, re.I)
            for value in fields.values()
        ):
            yield run.problem(
                name, f"{path} still holds a placeholder", "Set the key, or remove the entry to add it later"
            )


CHECKS = (
    check_environment,
    check_operating_system,
    check_architecture,
    check_memory,
    check_disk,
    check_domain,
    check_admin_email,
    check_acme_email,
    check_secrets,
    check_secrets_differ,
    check_exposure,
    check_ports,
    check_ports_differ,
    check_ssh_port,
    check_ssh_login,
    check_ssh_sources,
    check_limits,
    check_apps,
    check_choices,
    check_registry,
    check_acme_directory,
    check_frontends,
    check_paths,
    check_subnet,
    check_vault_seeds,
    check_worked_out,
)


def preflight_problems(
    settings: Mapping,
    facts: Mapping | None = None,
    resolved: Iterable[str] | None = None,
    files: Mapping | None = None,
    names: Iterable[str] = (),
) -> list[str]:
    """What stands in the way of a run, one sentence or two each; an empty list when nothing does.

    ``settings``: the openmates_* settings by name; undefined ones may raise when read.
    ``facts``: the host's ansible_facts. ``resolved``: what openmates_domain resolves to on the host, None if unknown.
    ``files``: where things stand, keys ``settings``, ``secrets``, ``exposure``, ``inventory``, all optional.
    ``names``: every variable name that begins with openmates_, to recognise a misspelled one.
    """
    run = Preflight(settings, facts or {}, resolved, files or {}, names)
    return [problem for check in CHECKS for problem in check(run)]


class FilterModule:
    """Filters of openmates.server that judge before a run."""

    def filters(self) -> dict:
        return {"preflight_problems": preflight_problems}

"""Puts a text into every setting that takes free text, and renders all files that the project makes of the settings.

Each setting has a text of its own, by which the places are found that it gets to. A new setting is among them by its
argument specification.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.openmates.server.plugins.action.host_files import ActionModule
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.checks import preflight_problems
from ansible_collections.openmates.server.plugins.plugin_utils.settings import reading
from reading_back import Leaves, compose, environment_file, read
from rendering import HOST_KEY, ROOT, Unsafe, keyed_digest, variables_of

SPECIFICATIONS = reading.specifications(ROOT)
FILES = {"settings": "group_vars/prod/main.yml", "secrets": "group_vars/prod/secrets.yml"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
QUEUES = ["email", "user_init", "persistence", "health_check", "server_stats", "reminder", "push", "app_ai"]

#: Settings that no rendered file holds, by what they are for.
UNUSED = {
    "paths on the controller": (
        *("ca_file", "known_hosts_file", "secrets_file", "vault_keys_file", "vault_snapshots", "directus_schema"),
    ),
    "sent to Directus as JSON": (
        *("directus_policies", "directus_roles", "directus_users", "directus_settings", "directus_folders"),
        "directus_flows",
    ),
    "sent to Vault as JSON": ("vault_seeds", "vault_pgp_keys"),
    "kept by systemd, encrypted": ("backup_password", "backup_s3_key_id", "backup_s3_secret", "backup_sftp_key"),
    "written as JSON, with sftp": ("backup_sftp_known_hosts",),
    "sent to Hetzner's API": (
        *("hcloud_token", "hcloud_server_type", "hcloud_location", "hcloud_image", "hcloud_ssh_keys"),
        "hcloud_reverse_dns",
    ),
    "used by the controller, with Vercel": ("frontends",),
    "numbers": ("other_listeners",),
    "files that are included": ("hooks",),
    "compared with names of the project's": ("kept_packages", "hardening_without", "adopt_volumes"),
    "arguments of a module": ("hostname", "timezone"),
    "for connections of the controller": ("ssh_bastion", "ssh_initial_user", "public_addresses"),
    "the place of the files": ("directory",),
}
NOT_RENDERED = {f"openmates_{name}" for names in UNUSED.values() for name in names}
#: Settings that one environment has only, or that have an effect in it only.
ONLY_IN = {
    "openmates_cms_setup_image": "prod",
    "openmates_version": "dev",  # production's images are all given
    "openmates_source_directory": "dev",
    "openmates_directus_domain": "dev",
    "openmates_subnet_ipv6": "dev",
}
#: What else has to be set for them to have an effect.
BESIDES = {"openmates_backup_password": "Rt8YuIo5PaKd2NbHs6jFg1Lw", "openmates_signup_mode": "domain_allowlist"}
#: The file with the logins of registries, which Docker reads.
DOCKER_LOGINS = "secrets/.docker/config.json"
#: What the host would report, as far as a template reads it.
REPORTED = {"ansible_facts": {"architecture": "x86_64"}, "login_found": {"user": "root"}}


@dataclasses.dataclass(frozen=True)
class Slot:
    """A setting, a valid text that stands nowhere else, and the setting's value with a text in it."""

    text: str
    value: Callable[[str], Any] = lambda text: text


def _image(text: str) -> str:
    return f"ghcr.io/{text}"


#: Of settings whose text has a form, or that are more than a text.
SLOTS = {
    "openmates_admin_email": Slot("s4701@sentinel.dev"),
    "openmates_acme_email": Slot("s4702@sentinel.dev"),
    "openmates_acme_directory": Slot("https://acme4703.sentinel.dev/dir"),
    "openmates_domain": Slot("api4704.sentinel.dev"),
    "openmates_frontend_urls": Slot("https://web4705.sentinel.dev", lambda text: ["https://one.sentinel.dev", text]),
    "openmates_cookie_domain": Slot(".sentinel.dev"),
    "openmates_directus_domain": Slot("cms4706.sentinel.dev"),
    "openmates_directus_public_url": Slot("https://cms4707.sentinel.dev"),
    "openmates_signup_domains": Slot("signup4708.dev", lambda text: [text]),
    "openmates_first_invite_code": Slot("S4NT-1N3L-4709"),
    "openmates_ssh_user": Slot("admin4710"),
    "openmates_ssh_keys": Slot("key4711", lambda text: [f"{KEY} {text}"]),
    "openmates_ssh_sources": Slot("203.0.113.47/32", lambda text: [text]),
    "openmates_ssh_penalty_exempt": Slot("203.0.113.48", lambda text: [text]),
    "openmates_ssh_options": Slot("/etc/issue4712", lambda text: {"Banner": text}),
    "openmates_trusted_proxies": Slot("203.0.113.49/32", lambda text: [text]),
    "openmates_maintenance_exempt": Slot("203.0.113.50/32", lambda text: [text]),
    "openmates_reboot_time": Slot("04:47"),
    "openmates_backup_repository": Slot("/mnt/sentinel4790"),
    "openmates_backup_time": Slot("04:48"),
    "openmates_metrics_directory": Slot("/var/lib/sentinel4793"),
    "openmates_journal_max_use": Slot("4713M"),
    "openmates_journal_keep_free": Slot("4714M"),
    "openmates_journal_retention": Slot("4715day"),
    "openmates_time_sources": Slot("time4716.sentinel.dev", lambda text: [f"server {text}"]),
    "openmates_docker_options": Slot("sentinel4717", lambda text: {"labels": [text], "dns-search": [text, True]}),
    "openmates_request_timeout": Slot("4718s"),
    "openmates_hsts": Slot("max-age=4719"),
    "openmates_registry": Slot("registry4720.sentinel.dev"),
    "openmates_version": Slot("v4721.0.0"),
    "openmates_backend_image": Slot("sentinel/backend:4722.0.0", _image),
    "openmates_cms_setup_image": Slot("sentinel/setup:4723.0.0", _image),
    "openmates_directus_image": Slot("sentinel/directus:4724.0.0", _image),
    "openmates_vault_images": Slot("sentinel/vault:4725.0.0", lambda text: {"vault": _image(text)}),
    "openmates_services": Slot("sentinel/loki:4726.0.0", lambda text: {"loki": {"image": _image(text)}}),
    "openmates_cache_maxmemory": Slot("627mb"),
    "openmates_subnet": Slot("172.30.0.0/25"),
    "openmates_gateway": Slot("172.30.0.3"),
    "openmates_dynamic_range": Slot("172.30.0.64/26"),
    "openmates_subnet_ipv6": Slot("fd47:28::/64"),
    "openmates_health_path": Slot("/sentinel4729"),
    "openmates_apps": Slot("sentinel/app:4730.0.0", lambda text: [{"name": "app-s", "image": _image(text)}]),
    "openmates_worker_queues": Slot("queue4731", lambda text: [*QUEUES, text]),
    "openmates_translations_dir": Slot("/srv/sentinel4732"),
    "openmates_source_directory": Slot("/srv/sentinel4733"),
    "openmates_backend_environment": Slot("sentinel4734", lambda text: {"ODD": text, "NO": True}),
    "openmates_cms_setup_command": Slot("sentinel4735", lambda text: ["python", text]),
    "openmates_directus_cache_ttl": Slot("4736s"),
    "openmates_directus_upload_size": Slot("4737mb"),
    "openmates_directus_mail": Slot("sentinel4738", lambda text: {"host": "smtp.dev", "user": text, "from": text}),
    "openmates_directus_storage": Slot("sentinel4739", lambda text: {"driver": "s3", "bucket": text, "key": text}),
    "openmates_directus_environment": Slot(
        "sentinel4740", lambda text: {"ODD": text, "LIST": [text, "b"], "TABLE": {"a": [text, 1, False]}}
    ),
    "openmates_alerts_mail": Slot(
        "sentinel4795",
        lambda text: {"to": ["a@sentinel.dev"], "from": "b@sentinel.dev", "host": "smtp.dev", "user": text},
    ),
    "openmates_alerts_ntfy_url": Slot("https://ntfy4796.sentinel.dev/topic"),
    "openmates_alerts_webhook_url": Slot("https://hook4797.sentinel.dev/a"),
    "openmates_alerts_watchdog_url": Slot("https://watch4798.sentinel.dev/b"),
    "openmates_registry_logins": Slot(
        "sentinel4742", lambda text: {"registry4742.sentinel.dev": {"username": "robot", "password": text}}
    ),
    "openmates_http_proxy": Slot("http://proxy4743.sentinel.dev:3128"),
    "openmates_directus_secrets": Slot("sentinel4741", lambda text: {"LICENSE_KEY": text}),
}


def slots(environment: str) -> dict[str, Slot]:
    """A slot for every setting that takes free text and has an effect on a file in that environment."""
    found = {}
    for number, (name, specification) in enumerate(SPECIFICATIONS.items()):
        if specification["type"] in ("bool", "int") or "choices" in specification or name in NOT_RENDERED:
            continue
        if ONLY_IN.get(name, environment) != environment:
            continue
        text = f"Sentinel{number}-vutsrqponmlkjihgfedcba"
        simple = {"str": lambda text: text, "list": lambda text: [text]}
        if specification["type"] == "dict" or specification.get("elements") == "dict":
            assert name in SLOTS, f"{name} is new: add it to SLOTS, with a text in it, or to UNUSED"
        found[name] = SLOTS.get(name) or Slot(text, simple[specification["type"]])
    return found


def unsafe(value: Any) -> Any:
    """A value whose texts are no templates."""
    if isinstance(value, str):
        return Unsafe(value)
    if isinstance(value, Mapping):
        return {key: unsafe(item) for key, item in value.items()}
    return [unsafe(item) for item in value] if isinstance(value, list) else value


class Host:
    """A host of an inventory in which some settings have other texts than their slots."""

    def __init__(self, environment: str, texts: Mapping[str, str], folder: Path) -> None:
        self.environment = environment
        self.given = {name: unsafe(slot.value(texts.get(name, slot.text))) for name, slot in slots(environment).items()}
        self.given |= BESIDES
        self.loader, self.variables = variables_of(environment, folder, ROOT, self.given)
        defaults = reading.defaults(ROOT, self.loader)
        services = [self.variables["openmates_services"]]
        everything = {**defaults, **self.variables}
        self.settings = reading.read(
            SPECIFICATIONS,
            everything,
            self.given,
            Templar(self.loader, everything),
            defaults["openmates_services"],
            services,
        )
        self.variables = {**_roles(), **everything, "settings": self.settings.short, **REPORTED}
        self.templar = Templar(self.loader, self.variables)

    def evaluate(self, expression: str) -> Any:
        return self.templar.template(trust_as_template("{{ " + expression + " }}"))

    def refused(self) -> list[str]:
        """What is wrong with the settings: the messages of those that stop a run ahead of any change."""
        wrong = [f"{name} in a file: it {why}. Correct it" for name, why in self.settings.wrong.items()]
        if wrong:
            return wrong
        derived = {name: self.evaluate(name) for name in ("openmates_environment", "openmates_exposure")}
        derived["openmates_own_origin"] = self.evaluate("openmates_own_origin")
        found = preflight_problems(derived, {}, FILES, self.settings.values, self.settings.unresolved)
        return [problem for problem in found if not problem.startswith("This host:")]

    def leaves(self) -> Leaves:
        """Every text of every rendered file, by file and place in it."""
        found: Leaves = {}
        for path, text in self._stack().items():
            if path == ".env":
                continue
            if path.startswith("docker-compose"):
                parsed = compose(text, environment_file(self._stack()[".env"]))
                found |= {(path, *place): leaf for place, leaf in parsed.items()}
            else:
                found |= read(path, text)
        for path, text in {**self._role_files(), **self.secrets}.items():
            whole = path.startswith("secrets/") and path != DOCKER_LOGINS
            found |= {(path,): text} if whole else read(path, text)
        return {place: leaf for place, leaf in found.items() if not _is_digest(place)}

    @functools.cached_property
    def secrets(self) -> dict[str, str]:
        return {f"secrets/{file['path']}": file["content"] for file in self.evaluate("stack_secret_files")}

    @functools.cache  # noqa: B019 - as short-lived as its host
    def _stack(self) -> dict[str, str]:
        contents = {path.removeprefix("secrets/"): content for path, content in self.secrets.items()}
        digests = keyed_digest.by_directory(contents, HOST_KEY)
        return self._rendered(ROOT / "files/compose", {"secret_digests": digests})

    def _role_files(self) -> dict[str, str]:
        found = {}
        for folder in sorted(ROOT.glob("roles/*/templates")):
            rendered = self._rendered(folder, {"role_path": str(folder.parent)})
            found |= {f"{folder.parent.name}/{path}": text for path, text in rendered.items()}
        found["docker/daemon.json"] = self.evaluate("docker_config | to_nice_json(sort_keys=true)")
        found["ssh/authorized_keys"] = self.evaluate("ssh_keys | join('\n')")
        return found

    def _rendered(self, folder: Path, more: dict[str, Any]) -> dict[str, str]:
        action = ActionModule(None, None, None, self.loader, self.templar, None)
        exclude = ["docker-compose.override.yml"] if self.environment == "prod" else []
        return {file["path"]: file["content"] for file in action._render(folder, exclude, {**self.variables, **more})}


def _is_digest(place: tuple) -> bool:
    derived = ("/DATABASE_ADMIN_PASSWORD", "/ACCOUNT_PASSWORD")  # from openmates_directus_secret
    return "openmates.config" in place or "HMAC" in str(place[-1]) or place[0].endswith(derived)


@functools.cache
def _roles() -> dict[str, Any]:
    """The defaults and variables of all roles."""
    loader, found = DataLoader(), {}
    for kind in ("defaults", "vars"):
        for file in sorted(ROOT.glob(f"roles/*/{kind}/main.yml")):
            found |= loader.load_from_file(str(file), trusted_as_template=True)
    return found

"""Problems that preflight reports, each with the variable, the file and the remedy."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from ansible_collections.openmates.server.plugins.filter import preflight
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import SECRETS as SECRET_NAMES

ROOT = Path(__file__).parents[2]

FILES = {
    "settings": "inventories/x/group_vars/x/main.yml",
    "secrets": "inventories/x/group_vars/x/secrets.yml",
    "exposure": "playbooks/group_vars/x.yml",
    "make_secrets": "ansible-playbook playbooks/secrets.yml -i x",
}
SETTINGS = "inventories/x/group_vars/x/main.yml"
SECRETS = "inventories/x/group_vars/x/secrets.yml"
EXPOSURE = "playbooks/group_vars/x.yml"
HOST = "This host"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f operator@laptop"
ADDRESSES = ["198.51.100.11", "2001:db8:51::11"]
FACTS = {
    "distribution": "Debian",
    "distribution_major_version": "13",
    "architecture": "aarch64",
    "memtotal_mb": 7700,
    "mounts": [{"mount": "/", "size_total": 80 * 10**9, "size_available": 60 * 10**9}],
    "all_ipv4_addresses": ["198.51.100.11", "172.17.0.1"],
    "all_ipv6_addresses": ["2001:db8:51::11", "fe80::1"],
    "default_ipv4": {"address": "198.51.100.11", "gateway": "198.51.100.1"},
}
# Typed in from OpenMates v0.14: what its scheduler fills, and what sign-up and chat need.
NEEDED_QUEUES = ("email", "user_init", "persistence", "health_check", "server_stats", "reminder", "push", "app_ai")
INTERNAL = [
    "cms-database",
    "cache",
    "vault",
    "task-worker",
    "task-scheduler",
    "prometheus",
    "alertmanager",
    "loki",
    "promtail",
    "cadvisor",
    "vault-setup",
    "cms-setup",
]


def service(**fields: object) -> dict:
    return {"image": "directus/directus:11.17.4", "memory": "256M", "host_port": "", "container_port": 0, **fields}


def good(environment: str) -> dict:
    """Valid settings."""
    prod = environment == "prod"
    return {
        "openmates_environment": environment,
        "openmates_exposure": {"api": "proxy"} if prod else dict.fromkeys(("api", "cms", "grafana"), "published"),
        "openmates_services": {
            "api": service(container_port=8000, host_port="8000-8001" if prod else "8000"),
            "cms": service(container_port=8055, host_port="8055"),
            "grafana": service(container_port=3000, host_port="3001"),
            **{name: service(one_shot=name.endswith("-setup")) for name in INTERNAL},
        },
        "openmates_ssh_port": 22,
        "openmates_ssh_user": "admin",
        "openmates_ssh_initial_user": "root",
        "openmates_ssh_keys": [PUBLIC_KEY],
        "openmates_ssh_sources": ["198.51.100.0/24", "2001:db8:51::/64"],
        "openmates_ssh_bastion": "jump@bastion.openmates.test:2222",
        "openmates_domain": "api.prod1.example.test" if prod else "",
        "openmates_admin_email": "operator@openmates.org",
        "openmates_acme_email": "operator@openmates.org",
        "openmates_acme_directory": "",
        "openmates_frontend_urls": ["https://web.example.test" if prod else "http://localhost:5173"],
        "openmates_cookie_domain": "",
        "openmates_registry": "registry.openmates.test",
        "openmates_vault_engine": "vault",
        "openmates_vault_seeds": {"providers/sample": {"api_key": "f8Wq0ZkX2bRt"}},
        "openmates_apps": [
            {"name": "app-videos", "image": "registry.openmates.test/app-videos:1.0.0", "memory": "128M"}
        ],
        "openmates_subnet": "172.30.0.0/24",
        "openmates_directory": "/opt/openmates",
        "openmates_health_path": "/v1/health",
        "openmates_version": "v0.14.0",
        "openmates_backend_image": "ghcr.io/glowingkitty/openmates-api:v0.14.0",
        "openmates_cms_setup_image": "ghcr.io/glowingkitty/openmates-cms-setup:v0.14.0",
        "openmates_cms_setup_timeout": 3600,
        "openmates_directus_schema": "/nowhere/prod.json",
        "openmates_worker_queues": [*NEEDED_QUEUES],
        "openmates_signup_mode": "invite_only",
        "openmates_signup_domains": [],
        "openmates_signup_limit": 0,
        "openmates_backend_environment": {},
        "openmates_source_directory": "",
        "openmates_translations_dir": "",
        "openmates_log_level": "info",
        "openmates_host_memory_mb": 0,
        "openmates_min_memory_mb": 7000,
        "openmates_min_disk_gb": 20,
        "openmates_admin_password": "Xw7pQz4KvN2tRb",
        "openmates_database_password": "Mf9sLc3JgH6yDe8Ua1",
        "openmates_cache_password": "Bk5vTn8ZrW2qXp7Yd4",
        "openmates_directus_secret": "Hs6jFg1LwC9mVz3QeRt8YuIo5PaKd2Nb",
        "openmates_internal_api_token": "Gd4kSx7BnM1cZq9WvL",
        "openmates_grafana_password": "Pz2yJt6UhR8fCw",
        "openmates_first_invite_code": "K7QX-2MNP-94TR",
        "openmates_backup_repository": "sftp:backup@backup.example.net:/srv/openmates",
        "openmates_backup_password": "Rt8YuIo5PaKd2NbHs6jFg1Lw",
        "openmates_backup_sftp_key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaA==\n",
        "openmates_backup_sftp_known_hosts": ["backup.example.net ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"],
    }


def with_fields(environment: str, name: str, **fields: object) -> dict:
    """Valid settings but for some fields of one service."""
    settings = good(environment)
    settings["openmates_services"][name] |= fields
    return settings


def problems(
    settings: dict,
    facts: dict | None = None,
    resolved: list[str] | None = ADDRESSES,
    host_state: dict | None = None,
    **more: object,
) -> list[str]:
    """``resolved``: what the domain resolves to on the host."""
    host = {"resolved": {settings["openmates_domain"]: resolved}, **(host_state or {})}
    return preflight.preflight_problems(settings, facts or FACTS, FILES, host_state=host, **more)


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_good_settings_pass(environment: str) -> None:
    assert problems(good(environment)) == []


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_both_architectures_pass(architecture: str) -> None:
    assert problems(good("prod"), FACTS | {"architecture": architecture}) == []


def test_a_processor_that_hides_instructions_is_refused() -> None:
    assert problems(good("prod"), host_state={"processor_lacks": []}) == []
    [found] = problems(good("prod"), host_state={"processor_lacks": ["sse4_2", "ssse3"]})
    assert "its processor lacks sse4_2, ssse3" in found and "`host` in Proxmox" in found


def test_a_host_that_could_not_be_asked_about_the_domain_is_no_problem() -> None:
    assert problems(good("prod"), resolved=None) == []


def test_a_large_machine_is_judged_as_the_server_that_it_stands_for() -> None:
    settings = with_fields("prod", "cache", memory="6G")
    assert problems(settings, FACTS | {"memtotal_mb": 24000}) == []
    found = problems(settings | {"openmates_host_memory_mb": 7700}, FACTS | {"memtotal_mb": 24000})
    assert len(found) == 1 and "this host has 7700 MB" in found[0]


@pytest.mark.parametrize(
    ("reference", "moving"),
    [
        ("postgres:17-alpine", True),
        ("postgres:17.12-alpine", False),
        ("registry.openmates.test:5000/library/postgres:17.12", False),
        ("registry.openmates.test:5000/library/postgres", True),
        ("hashicorp/vault:1.19", True),
        ("hashicorp/vault:2.1.1", False),
        ("hashicorp/vault:2.1@sha256:" + "0" * 64, False),
        ("grafana/grafana:latest", True),
        ("prom/prometheus:v3", True),
        ("prom/prometheus:v3.13.4", False),
        ("ghcr.io/glowingkitty/openmates-api:main", True),
        ("ghcr.io/glowingkitty/openmates-api:v0.15.0-rc1", False),
        ("openmates-api:2026-11-26", False),
        ("openmates-api:mine", False),
    ],
)
def test_images_that_become_another_version_are_refused_in_production(reference: str, moving: bool) -> None:
    found = problems(with_fields("prod", "cms", image=reference))
    assert bool(found) is moving, found
    assert problems(with_fields("dev", "cms", image=reference)) == []


def test_an_image_of_several_services_is_one_problem_of_the_setting_that_gives_it() -> None:
    settings = good("prod") | {"openmates_backend_image": "ghcr.io/glowingkitty/openmates-api:main"}
    for name in ("api", "task-worker", "task-scheduler"):
        settings["openmates_services"][name]["image"] = settings["openmates_backend_image"]
    (found,) = problems(settings)
    assert found.startswith(f"openmates_backend_image in {SETTINGS}: ghcr.io/glowingkitty/openmates-api:main is a tag")


def test_a_random_secret_is_no_placeholder() -> None:
    for value in ("a<b>c9Zk2xY7Qw5t", "xTODO4Zk2xY7Qw5tN", "9abcdef12345678z", "pQ-test-Zk2xY7Qw"):
        assert problems(good("prod") | {"openmates_cache_password": value}) == [], value


WORKER = {"name": "app-pdf-worker", "kind": "worker", "queues": ["app_pdf"], "memory": "512M"}

# Environment, what is changed, the file (or the host) it stands in, and words that the one message has to hold.
BAD = [
    ("prod", {"openmates_environment": "staging"}, EXPOSURE, ["openmates_environment", "staging", "dev or prod"]),
    ("prod", {"openmates_environment": None}, EXPOSURE, ["openmates_environment"]),
    (
        "prod",
        {"openmates_admin_password": None},
        SECRETS,
        ["openmates_admin_password", "not set", "ansible-vault edit"],
    ),
    ("prod", {"openmates_database_password": ""}, SECRETS, ["openmates_database_password", "not set"]),
    (
        "prod",
        {"openmates_first_invite_code": None},
        SECRETS,
        ["openmates_first_invite_code", "not set", "secrets.yml -i x"],
    ),
    ("prod", {"openmates_first_invite_code": "k7qx-2mnp-94tr"}, SECRETS, ["openmates_first_invite_code", "XXXX-XXXX"]),
    ("prod", {"openmates_first_invite_code": "K7QX2MNP94TRW8"}, SECRETS, ["openmates_first_invite_code", "XXXX-XXXX"]),
    (
        "prod",
        {"openmates_cache_password": "changeme-changeme-changeme"},
        SECRETS,
        ["openmates_cache_password", "placeholder"],
    ),
    (
        "prod",
        {"openmates_grafana_password": "<your password here>"},
        SECRETS,
        ["openmates_grafana_password", "placeholder"],
    ),
    ("prod", {"openmates_admin_password": "example-password"}, SECRETS, ["openmates_admin_password", "placeholder"]),
    ("prod", {"openmates_admin_password": "xxxxxxxxxxxxxxxx"}, SECRETS, ["openmates_admin_password", "placeholder"]),
    ("prod", {"openmates_admin_password": "TODO"}, SECRETS, ["openmates_admin_password", "placeholder"]),
    ("prod", {"openmates_admin_password": "abababababababab"}, SECRETS, ["openmates_admin_password", "few characters"]),
    ("prod", {"openmates_admin_password": "Xw7pQz4Kv"}, SECRETS, ["openmates_admin_password", "fewer than 12"]),
    (
        "prod",
        {"openmates_directus_secret": "Hs6jFg1LwC9mVz3QeRt8"},
        SECRETS,
        ["openmates_directus_secret", "fewer than 32"],
    ),
    ("prod", {"openmates_cache_password": "Bk5vTn8ZrW2qXp7Yd4\n"}, SECRETS, ["openmates_cache_password", "line break"]),
    ("prod", {"openmates_cache_password": "Bk5vTn8Zr/W2qXp7Yd4"}, SECRETS, ["openmates_cache_password", "slash"]),
    (
        "prod",
        {"openmates_cache_password": "Mf9sLc3JgH6yDe8Ua1"},
        SECRETS,
        ["openmates_database_password", "openmates_cache_password", "same value"],
    ),
    (
        "prod",
        {"openmates_directus_login_attempts": -1},
        SETTINGS,
        ["openmates_directus_login_attempts", "not a number of logins"],
    ),
    ("prod", {"openmates_vault_seeds": {"providers/a": {"api_key": "<key>"}}}, SECRETS, ["providers/a", "placeholder"]),
    ("prod", {"openmates_admin_email": ""}, SETTINGS, ["openmates_admin_email", "not set"]),
    ("prod", {"openmates_admin_email": "operator"}, SETTINGS, ["openmates_admin_email", "not an e-mail address"]),
    ("prod", {"openmates_admin_email": "admin@example.com"}, SETTINGS, ["openmates_admin_email", "placeholder"]),
    ("prod", {"openmates_acme_email": "nobody@"}, SETTINGS, ["openmates_acme_email", "not an e-mail address"]),
    ("prod", {"openmates_acme_directory": "pebble:14000"}, SETTINGS, ["openmates_acme_directory", "https://"]),
    ("prod", {"openmates_domain": ""}, SETTINGS, ["openmates_domain", "production needs one"]),
    ("prod", {"openmates_domain": "api.example.com"}, SETTINGS, ["openmates_domain", "placeholder"]),
    ("dev", {"openmates_domain": "your-domain.com"}, SETTINGS, ["openmates_domain", "placeholder"]),
    ("prod", {"openmates_domain": "https://api.openmates.test/"}, SETTINGS, ["openmates_domain", "Leave out https://"]),
    ("prod", {"openmates_domain": "api_1.openmates.test"}, SETTINGS, ["openmates_domain", "not a domain name"]),
    ("prod", {"openmates_domain": "198.51.100.11"}, SETTINGS, ["openmates_domain", "not a domain name"]),
    ("prod", {"openmates_domain": "api.localhost"}, SETTINGS, ["openmates_domain", "a local name of this machine"]),
    ("prod", {"openmates_exposure": {"api": "published"}}, EXPOSURE, ["api is published", "forbid", "`api: proxy`"]),
    ("prod", {"openmates_exposure": {"api": "internal"}}, EXPOSURE, ["api is internal", "forbid"]),
    ("prod", {"openmates_exposure": {"grafana": "proxy"}}, EXPOSURE, ["grafana is proxy", "forbid", "SSH tunnel"]),
    (
        "prod",
        {"openmates_exposure": {"vault": "internal", "valut": "internal"}},
        EXPOSURE,
        ["'valut'", "Did you mean vault"],
    ),
    ("prod", {"openmates_exposure": {"api": None}}, EXPOSURE, ["api is internal", "forbid"]),
    ("dev", {"openmates_exposure": {"vault": "published"}}, EXPOSURE, ["vault", "expose only api, cms, grafana"]),
    ("dev", {"openmates_exposure": {"cache": "proxy"}}, EXPOSURE, ["cache", "expose only api, cms, grafana"]),
    ("dev", {"openmates_exposure": {"cms": "public"}}, EXPOSURE, ["cms is 'public'", "internal, proxy, published"]),
    ("prod", {"openmates_exposure": "proxy"}, EXPOSURE, ["openmates_exposure", "not a table"]),
    ("prod", {"openmates_ssh_user": "Ad min"}, SETTINGS, ["openmates_ssh_user", "not a user name"]),
    ("prod", {"openmates_ssh_user": "root"}, SETTINGS, ["openmates_ssh_user", "root", "another user"]),
    ("prod", {"openmates_ssh_initial_user": "-l"}, SETTINGS, ["openmates_ssh_initial_user", "not a user name"]),
    ("prod", {"openmates_ssh_keys": ["~/.ssh/id.pub"]}, SETTINGS, ["openmates_ssh_keys", "key 1", "not a public key"]),
    ("prod", {"openmates_ssh_keys": [PUBLIC_KEY.replace("ed25519 ", "rsa ", 1)]}, SETTINGS, ["not a public key"]),
    (
        "prod",
        {"openmates_ssh_keys": [PUBLIC_KEY, "-----BEGIN OPENSSH " + "PRIVATE KEY-----"]},
        SETTINGS,
        ["openmates_ssh_keys", "key 2", "private key"],
    ),
    ("prod", {"openmates_ssh_sources": ["198.51.100.7/24"]}, SETTINGS, ["198.51.100.7/24", "host bits"]),
    ("prod", {"openmates_maintenance_exempt": ["office"]}, SETTINGS, ["openmates_maintenance_exempt", "'office'"]),
    ("prod", {"openmates_ssh_bastion": "ssh jump"}, SETTINGS, ["openmates_ssh_bastion", "not a jump host"]),
    *(
        ("dev", {name: value}, SETTINGS, [name, *words])
        for name, value, words in (
            (
                "openmates_domain",
                "m\u00fcller.openmates.test",
                ["not as browsers", "Write xn--mller-kva.openmates.test"],
            ),
            ("openmates_domain", "api.openmates.test.", ["not as browsers", "Write api.openmates.test"]),
            ("openmates_domain", " api.openmates.test", ["not as browsers", "Write api.openmates.test"]),
            ("openmates_domain", "API.openmates.test", ["not as browsers", "Write api.openmates.test"]),
            ("openmates_domain", "api.openmates.test\n", ["not as browsers", "Write api.openmates.test"]),
            ("openmates_frontend_urls", ["https://stra\u00dfe.de"], ["do not send", "Write https://xn--strae-oqa.de"]),
            (
                "openmates_frontend_urls",
                ["https://web.mates.de/"],
                ["do not send", "Write https://web.mates.de"],
            ),
            ("openmates_frontend_urls", ["https://a$b.de"], ["not the origin of a website"]),
            ("openmates_admin_email", "a@m\u00fcller.de", ["not as mail servers", "Write a@xn--mller-kva.de"]),
            ("openmates_admin_email", "a@openmates.org ", ["not as mail servers", "Write a@openmates.org"]),
            ("openmates_admin_email", "{$X}@openmates.org", ["not an e-mail address"]),
            ("openmates_acme_email", " ", ["it is blank"]),
            ("openmates_acme_directory", "https://a.test/{$X}", ["not an https:// address"]),
            ("openmates_directus_domain", "cms.openmates.test", ["besides the api's name", "Set openmates_domain"]),
            ("openmates_directus_domain", "cms", ["not a domain name"]),
            ("openmates_trusted_proxies", ["10.0.0.1/8"], ["'10.0.0.1/8' is not a range", "host bits"]),
            ("openmates_trusted_proxies", ["0.0.0.0/0"], ["claim any address", "your load balancer"]),
            ("openmates_trusted_proxies", ["::/0"], ["claim any address"]),
            ("openmates_ssh_penalty_exempt", ["office"], ["'office' is not a range of addresses"]),
            ("openmates_ssh_sources", ["fe80::1%eth0"], ["names an interface"]),
            ("openmates_ssh_options", {"Max AuthTries": 6}, ["not an option of sshd"]),
            ("openmates_ssh_options", {"Banner": "a\nPermitRootLogin yes"}, ["Banner is not one line"]),
            ("openmates_ssh_options", {"AllowUsers": ["a", "b"]}, ["AllowUsers is not text", "one text"]),
            ("openmates_hsts", 'max-age=1"', ["not a value of that header"]),
            ("openmates_time_sources", ["# server a"], ["not a line of chrony's configuration"]),
            ("openmates_time_sources", ["server a\ndeny all"], ["not a line of chrony's configuration"]),
            ("openmates_upgrade_origins", ['origin=a";'], ["not an origin pattern"]),
            ("openmates_journal_max_use", "1 GB", ["not a size", "1G"]),
            ("openmates_request_timeout", "5 minutes", ["not a duration", "5m"]),
            ("openmates_timezone", "Berlin\n", ["not a time zone"]),
            ("openmates_hostname", "a b", ["not a host name"]),
            ("openmates_directus_public_url", "cms.openmates.test", ["not the address of a website"]),
            ("openmates_directus_mail", {"hots": "a"}, ["no 'hots'", "Did you mean host?"]),
            ("openmates_directus_mail", {"secure": "no"}, ["secure is not true or false"]),
            ("openmates_directus_storage", {"bucket": "a"}, ["has no driver"]),
            ("openmates_directus_environment", {"CACHE_TTL": "1m"}, ["CACHE_TTL", "Set openmates_directus_cache_ttl"]),
            ("openmates_directus_environment", {"DB_PASSWORD": "x"}, ["DB_PASSWORD", "openmates_database_password"]),
            ("openmates_directus_environment", {"X": None}, ["X is empty", "quotation marks"]),
            ("openmates_directus_secrets", {"LICENSE_KEY": 123}, ["LICENSE_KEY is not text", "quotation marks"]),
            ("openmates_directus_secrets", {"LICENSE_KEY": "abc\n"}, ["LICENSE_KEY", "ends with a blank or a line"]),
            ("openmates_directus_mail_password", "abc\n", ["contains a line break", "`|-`"]),
            ("openmates_backend_environment", {"X": "a\0"}, ["X contains a character of code 0"]),
        )
    ),
    *(
        ("prod", {"openmates_vault_seeds": {path: {"k": "f8Wq0ZkX2bRt"}}}, SECRETS, [f"'{path}' is not a path", remedy])
        for path, remedy in (
            ("kv/data/providers/x", "Write it as providers/x"),
            ("kv/providers/x", "Write it as providers/x"),
            ("/providers/y", "Write it as providers/y"),
            ("providers/y/", "Write it as providers/y"),
            ("brevo", "Write it as providers/brevo"),
            ("secret/data/system/z", "Write it as system/z"),
            ("other/x", "Begin it with providers or system"),
            ("providers", "Begin it with providers or system"),
            ("providers/a b", "Begin it with providers or system"),
        )
    ),
    *(
        (environment, {"openmates_services": {name: fields}}, SETTINGS, ["openmates_services.", name, *words])
        for environment, name, fields, words in (
            ("dev", "cms", {"container_port": 0}, ["container_port", "needs one"]),
            ("dev", "cms", {"host_port": "3001"}, ["host_port", "cms and grafana", "3001"]),
            ("dev", "cms", {"host_port": "70000"}, ["host_port", "70000", "1 to 65535"]),
            ("dev", "api", {"host_port": "22"}, ["SSH (openmates_ssh_port) and api", "22"]),
            ("prod", "api", {"host_port": "443-444"}, ["Caddy and api", "443"]),
            ("prod", "cache", {"memory": "lots"}, ["memory", "'lots'"]),
            ("prod", "cache", {"image": "a/dragonfly"}, ["image", "a/dragonfly is a tag"]),
            ("prod", "vault", {"image": "hashicorp/vault:1.19"}, ["image", "vault:1.19", "full version"]),
            ("prod", "loki", {"image": "a/loki:1.2.3@sha256:12"}, ["image", "not an image", "64 digits"]),
        )
    ),
    ("dev", {"openmates_services": {"api": {"host_port": "8050-8060"}}}, SETTINGS, ["api and cms", "8055"]),
    ("prod", {"openmates_ssh_port": 80}, SETTINGS, ["SSH (openmates_ssh_port) and Caddy", "80"]),
    ("prod", {"openmates_apps": [{"name": "Videos!", "image": "a/b:1.0.0"}]}, SETTINGS, ["openmates_apps", "Videos!"]),
    (
        "prod",
        {"openmates_apps": [{"name": "cache", "image": "a/b:1.0.0"}]},
        SETTINGS,
        ["openmates_apps", "name of a service"],
    ),
    ("prod", {"openmates_apps": [{"name": "app-a"}]}, SETTINGS, ["openmates_apps", "no image"]),
    ("prod", {"openmates_apps": [{"name": "app-a", "image": "a b"}]}, SETTINGS, ["the image of 'app-a'"]),
    ("prod", {"openmates_apps": [{"name": "app-a", "image": "a:1.0.0"}] * 2}, SETTINGS, ["openmates_apps", "twice"]),
    (
        "prod",
        {"openmates_services": {"cache": {"memory": "6G"}}},
        SETTINGS,
        ["add up to 10576 MB", "7700 MB", "720 for the system", "128 for openmates_apps", "512 for a second api"],
    ),
    (
        "prod",
        {"openmates_cache_maxmemory": "128mb"},
        SETTINGS,
        ["openmates_cache_maxmemory", "128mb is too little", "two threads", "512mb or more"],
    ),
    (
        "prod",
        {"openmates_cache_maxmemory": "1gb"},
        SETTINGS,
        ["openmates_cache_maxmemory", "its container has 256 MB", "{cache: {memory: 1280M}}"],
    ),
    ("prod", {"openmates_host_memory_mb": -1}, SETTINGS, ["openmates_host_memory_mb", "-1", "megabytes"]),
    (
        "prod",
        {"openmates_cms_setup_timeout": 30},
        SETTINGS,
        ["openmates_cms_setup_timeout", "30 is fewer than 60 s", "3600"],
    ),
    ("prod", {"openmates_ssh_port": 70000}, SETTINGS, ["openmates_ssh_port", "70000 is not a port"]),
    ("prod", {"openmates_host_memory_mb": 9000}, SETTINGS, ["openmates_host_memory_mb", "9000 MB", "7700 MB"]),
    (
        "prod",
        {"openmates_vault_unseal": "operator", "openmates_vault_pgp_keys": ["bQ=="]},
        SETTINGS,
        ["openmates_vault_pgp_keys", "1 keys for 5 shares"],
    ),
    (
        "prod",
        {"openmates_vault_unseal": "operator", "openmates_vault_pgp_keys": ["bQ=="] * 4 + ["-----BEGIN"]},
        SETTINGS,
        ["openmates_vault_pgp_keys", "key 5 is not base64", "gpg --export"],
    ),
    ("prod", {"openmates_vault_pgp_keys": ["bQ=="] * 5}, SETTINGS, ["openmates_vault_pgp_keys", "operator"]),
    ("prod", {"openmates_vault_seeds": {"system/a": {"generate": {"key": 4}}}}, SECRETS, ["system/a", "16 to 512"]),
    (
        "prod",
        {"openmates_registry": "https://registry.openmates.test"},
        SETTINGS,
        ["openmates_registry", "without https://"],
    ),
    (
        "prod",
        {"openmates_frontend_urls": ["https://app.example.com"]},
        SETTINGS,
        ["openmates_frontend_urls", "placeholder"],
    ),
    (
        "prod",
        {"openmates_frontend_urls": ["http://web.example.test"]},
        SETTINGS,
        ["openmates_frontend_urls", "https://"],
    ),
    # An origin has to be written as browsers send it.
    ("prod", {"openmates_frontend_urls": ["https://web.example.test/"]}, SETTINGS, ["Write https://web.example.test"]),
    (
        "prod",
        {"openmates_frontend_urls": ["https://web.example.test/app"]},
        SETTINGS,
        ["Write https://web.example.test"],
    ),
    (
        "prod",
        {"openmates_frontend_urls": ["https://Web.example.test:443"]},
        SETTINGS,
        ["Write https://web.example.test"],
    ),
    ("prod", {"openmates_frontend_urls": ["https://a.example.test,https://b"]}, SETTINGS, ["not the origin"]),
    # The login cookie.
    (
        "prod",
        {"openmates_frontend_urls": ["https://web.vercel.app"]},
        SETTINGS,
        ["openmates_frontend_urls", "log in at web.vercel.app", "cookie is for vercel.app", "api.prod1.example.test"],
    ),
    (
        "prod",
        {"openmates_frontend_urls": ["https://web.example.test", "https://web.other.test"]},
        SETTINGS,
        ["openmates_frontend_urls", "web.other.test"],
    ),
    (
        "prod",
        {"openmates_frontend_urls": ["https://web.shop.co.uk"], "openmates_domain": "api.shop.co.uk"},
        SETTINGS,
        ["openmates_cookie_domain", "co.uk", "Set it to .shop.co.uk"],
    ),
    ("prod", {"openmates_cookie_domain": "co"}, SETTINGS, ["openmates_cookie_domain", "not a domain"]),
    (
        "prod",
        {"openmates_cookie_domain": ".other.test"},
        SETTINGS,
        ["openmates_cookie_domain", "api.prod1.example.test"],
    ),
    (
        "prod",
        {"openmates_cookie_domain": ".prod1.example.test"},
        SETTINGS,
        ["openmates_cookie_domain", "web.example.test is not below prod1.example.test"],
    ),
    ("dev", {"openmates_cookie_domain": ".example.test"}, SETTINGS, ["openmates_cookie_domain", "openmates_domain"]),
    ("prod", {"openmates_reboot_time": "1350"}, SETTINGS, ["openmates_reboot_time", "'1350'", "quotation marks"]),
    # OpenMates' version and collections.
    ("prod", {"openmates_version": "v0.14.0 beta"}, SETTINGS, ["openmates_version", "v0.14.0 beta"]),
    (
        "prod",
        {"openmates_cms_setup_image": ""},
        SETTINGS,
        ["openmates_cms_setup_image", "/nowhere/prod.json", "none of OpenMates' collections", "Leave the setting out"],
    ),
    (
        "prod",
        {"openmates_cms_setup_image": "", "openmates_backend_image": "registry.example.test/own-api:1.0.0"},
        SETTINGS,
        ["openmates_cms_setup_image", "/nowhere/prod.json", "provide the schema file"],
    ),
    (
        "prod",
        {"openmates_directus_schema": str(ROOT / "inventories/directus/lab.json")},
        SETTINGS,
        ["openmates_directus_schema", "would have no effect", 'openmates_cms_setup_image: ""'],
    ),
    ("prod", {"openmates_cms_setup_image": "a b"}, SETTINGS, ["openmates_cms_setup_image", "'a b'"]),
    # Apps and queues.
    (
        "prod",
        {"openmates_apps": [WORKER | {"kind": "job"}]},
        SETTINGS,
        ["'app-pdf-worker'", "'job'", "service, worker"],
    ),
    ("prod", {"openmates_apps": [WORKER | {"queues": []}]}, SETTINGS, ["'app-pdf-worker' has no queues"]),
    ("prod", {"openmates_apps": [WORKER | {"queues": "app_pdf"}]}, SETTINGS, ["'app-pdf-worker'", "not a list"]),
    ("prod", {"openmates_apps": [WORKER | {"queues": ["a b"]}]}, SETTINGS, ["'a b'", "not a queue"]),
    ("prod", {"openmates_apps": [WORKER | {"concurrency": "two"}]}, SETTINGS, ["concurrency", "'two'"]),
    ("prod", {"openmates_apps": [WORKER | {"task_limit": "1h"}]}, SETTINGS, ["task_limit", "'1h'", "seconds"]),
    ("prod", {"openmates_apps": [{"name": "app-a", "image": "a/b:v1"}]}, SETTINGS, ["app-a", "a/b:v1", "full version"]),
    ("prod", {"openmates_apps": [WORKER | {"stop_grace_period": 670}]}, SETTINGS, ["stop_grace_period", "670s"]),
    ("prod", {"openmates_apps": [WORKER | {"image": "a b"}]}, SETTINGS, ["the image of 'app-pdf-worker'"]),
    ("prod", {"openmates_apps": [WORKER | {"quues": []}]}, SETTINGS, ["'quues'", "Did you mean queues?"]),
    ("prod", {"openmates_apps": [WORKER | {"user": 5}]}, SETTINGS, ["'user'", "kind: service"]),
    ("prod", {"openmates_apps": [{"name": "app-a", "image": "a:1.0.0", "queues": ["x"]}]}, SETTINGS, ["kind: worker"]),
    (
        "prod",
        {"openmates_apps": [{"name": "app-a", "image": "a:1.0.0", "user": 0}]},
        SETTINGS,
        ["'app-a'", "other than root"],
    ),
    ("prod", {"openmates_apps": [WORKER | {"memory": "much"}]}, SETTINGS, ["openmates_apps", "app-pdf-worker"]),
    (
        "prod",
        {"openmates_apps": [WORKER, WORKER | {"name": "app-more"}]},
        SETTINGS,
        ["openmates_apps", "app_pdf is consumed by app-pdf-worker and by app-more"],
    ),
    (
        "prod",
        {"openmates_apps": [WORKER | {"queues": ["app_ai"]}]},
        SETTINGS,
        ["openmates_worker_queues", "app_ai is consumed by task-worker and by app-pdf-worker"],
    ),
    ("prod", {"openmates_worker_queues": []}, SETTINGS, ["openmates_worker_queues", "empty"]),
    ("prod", {"openmates_worker_queues": [*NEEDED_QUEUES, 5]}, SETTINGS, ["openmates_worker_queues", "5"]),
    (
        "prod",
        {"openmates_worker_queues": ["email", "push", "persistence", "user_init", "server_stats", "reminder"]},
        SETTINGS,
        ["openmates_worker_queues", "no worker consumes health_check, app_ai"],
    ),
    # Who may sign up.
    ("prod", {"openmates_signup_mode": "domain_allowlist"}, SETTINGS, ["openmates_signup_domains", "fall back"]),
    ("prod", {"openmates_signup_domains": ["firm.test"]}, SETTINGS, ["openmates_signup_domains", "no effect"]),
    (
        "prod",
        {"openmates_signup_mode": "domain_allowlist", "openmates_signup_domains": ["@firm.test"]},
        SETTINGS,
        ["'@firm.test' is not a domain"],
    ),
    ("prod", {"openmates_signup_limit": -1}, SETTINGS, ["openmates_signup_limit", "-1"]),
    ("prod", {"openmates_signup_limit": 20}, SETTINGS, ["openmates_signup_limit", "openmates.org only"]),
    (
        "prod",
        {
            "openmates_frontend_urls": ["https://openmates.org"],
            "openmates_domain": "api.openmates.org",
            "openmates_signup_mode": "invite_and_domain",
        },
        SETTINGS,
        ["openmates_signup_mode", "on openmates.org it has no effect"],
    ),
    # What the backend reads besides.
    ("prod", {"openmates_backend_environment": {"A-B": "1"}}, SETTINGS, ["'A-B'", "not the name"]),
    ("prod", {"openmates_backend_environment": {"A": ["1"]}}, SETTINGS, ["A is not text"]),
    ("prod", {"openmates_backend_environment": {"COOKIE_DOMAIN": "x"}}, SETTINGS, ["openmates_cookie_domain"]),
    ("prod", {"openmates_backend_environment": {"SECRET__X__API_KEY": "x"}}, SETTINGS, ["openmates_vault_seeds"]),
    (
        "prod",
        {"openmates_backend_environment": {"SELF_HOST_FIRST_INVITE_CODE": "ABCD-2345-EFGH"}},
        SETTINGS,
        ["SELF_HOST_FIRST_INVITE_CODE", "openmates_first_invite_code"],
    ),
    ("prod", {"openmates_source_directory": "/srv/OpenMates"}, SETTINGS, ["openmates_source_directory", "production"]),
    ("dev", {"openmates_source_directory": "OpenMates"}, SETTINGS, ["openmates_source_directory", "absolute path"]),
    ("dev", {"openmates_source_directory": "/opt/openmates/src"}, SETTINGS, ["openmates_source_directory", "removes"]),
    ("prod", {"openmates_translations_dir": "locales"}, SETTINGS, ["openmates_translations_dir", "absolute path"]),
    (
        "prod",
        {"openmates_translations_dir": "/opt/openmates/locales"},
        SETTINGS,
        ["openmates_translations_dir", "openmates_directory", "elsewhere"],
    ),
    ("prod", {"openmates_directory": "/"}, SETTINGS, ["openmates_directory", "/opt/openmates"]),
    ("prod", {"openmates_health_path": "health"}, SETTINGS, ["openmates_health_path", "slash"]),
    ("prod", {"openmates_subnet": "198.51.100.0/24"}, SETTINGS, ["openmates_subnet", "198.51.100.11"]),
    ("prod", {"openmates_subnet": "172.30.0.1/24"}, SETTINGS, ["openmates_subnet", "172.30.0.0/24"]),
]


@pytest.mark.parametrize(
    ("environment", "change", "place", "words"), BAD, ids=[f"{row[0]} {row[1]}"[:70] for row in BAD]
)
def test_bad_settings_are_refused(environment: str, change: dict, place: str, words: list[str]) -> None:
    settings = copy.deepcopy(good(environment))
    for name, value in change.items():
        if name == "openmates_services":
            for service_name, fields in value.items():
                settings[name][service_name] |= fields
        elif isinstance(value, dict) and isinstance(settings.get(name), dict) and name != "openmates_vault_seeds":
            settings[name] = {key: item for key, item in (settings[name] | value).items() if item is not None}
        else:
            settings[name] = value
    found = problems(settings)
    assert len(found) == 1, found
    assert place in found[0]
    for word in words:
        assert word in found[0]
    for name in SECRET_NAMES:
        value = str(settings[name] or "")
        assert len(value) < 5 or value.strip() not in found[0], "a message must not hold a secret"


def test_the_disk_of_the_projects_directory_counts_wherever_that_is() -> None:
    full = {"mount": "/srv", "size_total": 9 * 10**9, "size_available": 4 * 10**8}
    facts = FACTS | {"mounts": [*FACTS["mounts"], full]}
    assert problems(good("prod"), facts) == []
    [found] = problems(good("prod") | {"openmates_directory": "/srv/openmates"}, facts)
    assert "only 400 MB are free on the disk at /srv" in found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"distribution_major_version": "12"}, ["Debian 12", "Install Debian 13"]),
        ({"distribution": "Ubuntu", "distribution_major_version": "24"}, ["Ubuntu 24"]),
        ({"architecture": "armv7l"}, ["armv7l", "x86_64 or aarch64"]),
        ({"memtotal_mb": 3900}, ["3900 MB", "openmates_min_memory_mb"]),
        (
            {"mounts": [{"mount": "/", "size_total": 9 * 10**9, "size_available": 8 * 10**9}]},
            ["9.0 GB", "openmates_min_disk_gb"],
        ),
        (
            {
                "mounts": [
                    FACTS["mounts"][0],
                    {"mount": "/var/lib/docker", "size_total": 10**10, "size_available": 10**10},
                ]
            },
            ["/var/lib/docker"],
        ),
        ({"mounts": [{"mount": "/", "size_total": 80 * 10**9, "size_available": 10**9}]}, ["only 1.0 GB are free"]),
        (
            {
                "mounts": [
                    FACTS["mounts"][0] | {"size_available": 4 * 10**8},
                    FACTS["mounts"][0] | {"mount": "/var/lib/docker"},
                ]
            },
            ["only 400 MB are free on the disk at /"],
        ),
    ],
)
def test_hosts_that_cannot_work_are_refused(change: dict, words: list[str]) -> None:
    found = problems(good("prod"), FACTS | change)
    assert len(found) == 1, found
    assert found[0].startswith(HOST)
    for word in words:
        assert word in found[0]


@pytest.mark.parametrize(
    ("resolved", "words"),
    [
        ([], ["does not resolve", "A record"]),
        (["203.0.113.9"], ["203.0.113.9", "not this host", "198.51.100.11", "openmates_domain_elsewhere"]),
        (["198.51.100.11", "2001:db8:9::9"], ["2001:db8:9::9"]),
        (["127.0.1.1"], ["127.0.1.1"]),
    ],
)
def test_a_domain_that_does_not_lead_here_is_refused(resolved: list[str], words: list[str]) -> None:
    found = problems(good("prod"), resolved=resolved)
    assert len(found) == 1, found
    assert SETTINGS in found[0]
    for word in ["openmates_domain", *words]:
        assert word in found[0]


def test_a_load_balancer_may_stand_before_the_host() -> None:
    settings = good("prod") | {"openmates_domain_elsewhere": True}
    assert problems(settings, resolved=["203.0.113.9"]) == []
    assert len(problems(settings, resolved=[])) == 1


def test_no_secrets_at_all_is_one_problem_that_names_them_all() -> None:
    found = problems(good("prod") | dict.fromkeys(SECRET_NAMES))
    assert len(found) == 1
    assert all(name in found[0] for name in SECRET_NAMES)
    assert SECRETS in found[0]
    assert "playbooks/secrets.yml -i x" in found[0]


# As OpenMates' own check answered for each of them.
@pytest.mark.parametrize(
    ("host", "refused"),
    [
        *((host, True) for host in ("app.openmates.org", "openmates.com", "my-openmates.vercel.app", "open-mates.org")),
        *((host, True) for host in ("open_mates.de", "x0penmatesy.de", "open--mates.de", "openmates.example.test")),
        *((host, False) for host in ("openmates.org", "web.example.test", "mates.example.test", "open.mates.org")),
        *((host, False) for host in ("openmate.org", "open-m-ates.de", "openmate5.org")),
    ],
)
def test_a_frontend_that_openmates_refuses_is_refused_first(host: str, refused: bool) -> None:
    domain = f"api.{'.'.join(host.split('.')[-2:])}"
    settings = good("prod") | {"openmates_domain": domain, "openmates_frontend_urls": [f"https://{host}"]}
    found = [text for text in problems(settings) if "OpenMates refuses to start" in text]
    assert [(SETTINGS in text, "openmates_frontend_urls" in text, host in text) for text in found] == (
        [(True, True, True)] if refused else []
    )


def test_only_the_first_frontend_decides_whose_server_it_is() -> None:
    urls = ["https://openmates.org", "https://app.openmates.org"]
    official = good("prod") | {"openmates_domain": "api.openmates.org", "openmates_signup_limit": 1000}
    assert problems(official | {"openmates_frontend_urls": urls}) == []
    assert len(problems(official | {"openmates_frontend_urls": urls[::-1]})) == 2, "the limit means nothing then"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"openmates_frontend_urls": ["http://localhost:5173", "https://app.openmates.test"]},
            "openmates_frontend_urls",
        ),
        ({"openmates_frontend_urls": ["http://localhost:5173", "https://web.example.test"]}, ""),
        ({"openmates_own_origin": "http://dev.openmates.test:8000"}, "ansible_host"),
        (
            {"openmates_own_origin": "https://openmates.dev.test", "openmates_domain": "openmates.dev.test"},
            "openmates_domain",
        ),
        ({"openmates_own_origin": "http://198.51.100.12:8000"}, ""),
        (
            {
                "openmates_own_origin": "http://dev.openmates.test:8000",
                "openmates_vault_seeds": {"providers/stripe": {"k": "f8Wq0ZkX2bRt"}},
            },
            "",
        ),
    ],
)
def test_in_development_the_first_name_that_is_not_local_decides(changes: dict, expected: str) -> None:
    found = [text for text in problems(good("dev") | changes) if "OpenMates refuses to start" in text]
    assert [expected in text for text in found] == ([True] if expected else [])


def test_without_a_frontend_the_apis_own_name_decides() -> None:
    found = problems(good("prod") | {"openmates_frontend_urls": [], "openmates_domain": "api.openmates.test"})
    assert ["openmates_domain" in text and "OpenMates refuses to start" in text for text in found] == [True]


@pytest.mark.parametrize(
    "change",
    [
        {"openmates_cookie_domain": ".example.test"},
        {"openmates_cookie_domain": "example.test"},
        {
            "openmates_frontend_urls": ["https://web.shop.co.uk"],
            "openmates_domain": "api.shop.co.uk",
            "openmates_cookie_domain": ".shop.co.uk",
        },
        {"openmates_apps": [WORKER, {"name": "app-a", "image": "a:1.0.0", "kind": "service", "user": 5}]},
        {
            "openmates_apps": [
                WORKER | {"concurrency": 2, "stop_grace_period": "11m10s", "task_limit": 0, "image": "a/b:1.0.0"}
            ]
        },
        {
            "openmates_apps": [WORKER | {"queues": ["app_ai", "push"]}],
            "openmates_worker_queues": [queue for queue in NEEDED_QUEUES if queue not in ("app_ai", "push")],
        },
        {"openmates_signup_mode": "invite_and_domain", "openmates_signup_domains": ["firm.test", "mail.firm.test"]},
        {"openmates_backend_environment": {"WEBAUTHN_RP_NAME": "Firm", "DEBUG": False, "LIMIT": 5}},
        {"openmates_translations_dir": "/srv/openmates-locales"},
        {
            "openmates_cms_setup_image": "",
            "openmates_directus_schema": str(ROOT / "inventories/directus/lab.json"),
            "openmates_first_invite_code": None,
        },
        {"openmates_cms_setup_image": "", "openmates_directus_schema": str(ROOT / "inventories/directus/lab.json")},
    ],
)
def test_what_can_work_is_not_refused(change: dict) -> None:
    assert problems(good("prod") | change) == []


def test_settings_that_were_read_before_are_judged_too() -> None:
    settings = good("prod")
    port, email = settings.pop("openmates_ssh_port"), settings.pop("openmates_acme_email")
    assert problems(settings, values={"openmates_ssh_port": port, "openmates_acme_email": email}) == []
    places = {"openmates_ssh_port": "inventory/hosts.yml:7"}
    values = {"openmates_ssh_port": 0, "openmates_acme_email": email}
    assert problems(settings, values=values, places=places)[0].startswith(
        "openmates_ssh_port in inventory/hosts.yml:7: "
    )
    (found,) = problems(
        with_fields("prod", "cms", image="directus/directus:latest"),
        places={"openmates_services.cms.image": "inventory/hosts.yml:9"},
    )
    assert found.startswith("openmates_services.cms.image in inventory/hosts.yml:9: ")
    (found,) = problems(settings, unresolved={"openmates_acme_email": "'somewhere' is undefined"})
    assert "openmates_acme_email" in found and "'somewhere' is undefined" in found


class Lazy(dict):
    """Behaves as Ansible's templated settings do: an undefined one raises when it is read."""

    def __getitem__(self, name: str) -> object:
        value = super().__getitem__(name)
        if isinstance(value, Exception):
            raise value
        return value


def test_undefined_settings_are_problems_not_errors() -> None:
    missing = Lazy(good("prod") | {"openmates_admin_email": KeyError("'openmates_admin_email' is undefined")})
    assert "not set" in problems(missing)[0]
    broken = Lazy(good("prod") | {"openmates_own_origin": KeyError("'dict object' has no attribute 'api'")})
    assert ["openmates_own_origin" in text for text in problems(broken)] == [True]
    assert "cannot be evaluated" in problems(broken)[0]


def test_missing_settings_are_reported_without_an_exception() -> None:
    found = preflight.preflight_problems({})
    for name in ("openmates_environment", "openmates_admin_email", "openmates_admin_password", HOST):
        assert any(name in text for text in found), name


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_the_projects_own_exposure_passes(environment: str) -> None:
    table = yaml.safe_load((ROOT / "playbooks" / "group_vars" / f"{environment}.yml").read_text())["openmates_exposure"]
    assert problems(good(environment) | {"openmates_exposure": table}) == []

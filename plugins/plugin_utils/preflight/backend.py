# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenMates' settings: version, collections, Apps, queues, sign-up, and further environment variables."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.openmates.server.plugins.plugin_utils.preflight.images import check_image
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import (
    Preflight,
    domain_as_used,
    integer,
    is_domain,
)

APP_NAME = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
QUEUE = re.compile(r"[a-z][a-z0-9_-]*")
DURATION = re.compile(r"(\d+h)?(\d+m)?(\d+s)?", re.ASCII)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
APP_KEYS = {
    "service": ("name", "kind", "image", "memory", "user"),
    "worker": ("name", "kind", "image", "memory", "queues", "concurrency", "stop_grace_period", "task_limit"),
}
# The queues of OpenMates v0.14 that sign-up and chat need, or that the scheduler fills without limit.
NEEDED_QUEUES = (
    "email",
    "user_init",
    "persistence",
    "health_check",
    "server_stats",
    "reminder",
    "push",
    "app_ai",
)
LOCAL_NAMES = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - a name to compare with
OFFICIAL = "openmates.org"
#: Directories on the server, each with an example.
DIRECTORIES = {
    "openmates_translations_dir": "/srv/openmates-locales",
    "openmates_source_directory": "/srv/OpenMates",
}
# Variables that the Compose file sets for the api and its workers, with the setting that defines each.
BACKEND_ENVIRONMENT = {
    "PRODUCTION_URL": "openmates_frontend_urls",
    "FRONTEND_URLS": "openmates_frontend_urls",
    "FRONTEND_URL": "openmates_frontend_urls",
    "COOKIE_DOMAIN": "openmates_cookie_domain",
    "SERVER_ENVIRONMENT": "the inventory group of the host",
    "ENVIRONMENT": "the inventory group of the host",
    "TRUSTED_PROXY_IPS": "openmates_gateway",
    "DATABASE_ADMIN_EMAIL": "the Compose file",
    "LOG_LEVEL": "openmates_log_level",
    "APP_URLS": "openmates_apps",
    "CELERY_QUEUES": "openmates_worker_queues",
    "TRANSLATIONS_DIR": "openmates_translations_dir",
    "SELF_HOST_SIGNUP_MODE": "openmates_signup_mode",
    "SELF_HOST_SIGNUP_ALLOWED_DOMAINS": "openmates_signup_domains",
    "SIGNUP_DOMAIN_RESTRICTION": "openmates_signup_domains",
    "SIGNUP_LIMIT": "openmates_signup_limit",
    "HOME": "the Compose file",
    "CMS_URL": "the Compose file",
    "DRAGONFLY_URL": "the Compose file",
    "VAULT_URL": "the Compose file",
    "OTEL_TRACING_ENABLED": "the Compose file",
}
# Secrets that the api gets as files, with the setting that defines each.
BACKEND_SECRETS = {
    "DATABASE_ADMIN_PASSWORD": "openmates_directus_secret",
    "DIRECTUS_SECRET": "openmates_directus_secret",
    "DRAGONFLY_PASSWORD": "openmates_cache_password",
    "INTERNAL_API_SHARED_TOKEN": "openmates_internal_api_token",
    "SELF_HOST_FIRST_INVITE_CODE": "openmates_first_invite_code",
    "ANONYMOUS_FREE_USAGE_HMAC_SECRET": "openmates_internal_api_token",
}


def check_collections(run: Preflight) -> Iterator[str]:
    """The api needs OpenMates' collections, from its own cms-setup or from a schema file."""
    setup, schema = run.get("openmates_cms_setup_image", ""), str(run.get("openmates_directus_schema", ""))
    name = "openmates_cms_setup_image"
    if name in run.broken:
        return
    if not setup and "openmates_directus_schema" not in run.broken:
        if not Path(schema).is_file():
            yield run.problem(
                name,
                f"it is empty and there is no schema file {schema or '(openmates_directus_schema)'}, so Directus would "
                "have none of OpenMates' collections",
                "Leave the setting out for OpenMates' own cms-setup, or provide the schema file",
            )
    elif setup and Path(schema).is_file():
        yield run.problem(
            "openmates_directus_schema",
            f"{schema} exists, but OpenMates' own cms-setup creates the collections, so the file would have no effect",
            'To go by the file, set openmates_cms_setup_image: ""; otherwise move it away or set '
            'openmates_directus_schema: ""',
        )


def check_apps(run: Preflight) -> Iterator[str]:
    name, apps = "openmates_apps", run.get("openmates_apps", [])
    seen: set[str] = set()
    for app in apps:
        title = str(app.get("name", ""))
        if not APP_NAME.fullmatch(title):
            yield run.problem(
                name,
                f"{title!r} is not a name for an app",
                "Use lower-case letters, digits and hyphens, beginning with a letter",
            )
        elif title in run.services:
            yield run.problem(name, f"{title!r} is the name of a service", f"Rename the app, e.g. to app-{title}")
        elif title in seen:
            yield run.problem(name, f"{title!r} is listed twice", "Remove or rename one of them")
        seen.add(title)
        kind = app.get("kind", "service")
        if kind not in APP_KEYS:
            yield run.problem(name, f"the kind of {title!r} is {kind!r}", f"Use one of {', '.join(APP_KEYS)}")
            continue
        yield from _check_app_keys(run, name, title, kind, app)
        if kind == "worker":
            yield from _check_app_worker(run, name, title, app)
        elif not app.get("image"):
            yield run.problem(name, f"{title!r} has no image", "Add `image:` with the image's reference")
        if app.get("image"):
            yield from check_image(run, name, str(app["image"]), f"the image of {title!r}: ")


def _check_app_keys(run: Preflight, name: str, title: str, kind: str, app: dict) -> Iterator[str]:
    for key in app:
        if key in APP_KEYS[kind]:
            continue
        close = difflib.get_close_matches(str(key), APP_KEYS[kind], n=1)
        other = next((other for other, keys in APP_KEYS.items() if key in keys), None)
        hint = f"Did you mean {close[0]}?" if close else f"Remove it; the keys are {', '.join(APP_KEYS[kind])}"
        if other:
            hint = f"Remove it, or set `kind: {other}`"
        yield run.problem(name, f"{title!r} has {key!r}, which an app of kind {kind} does not have", hint)
    user = app.get("user", 1000)
    if kind == "service" and (integer(user) is None or int(user) < 1):
        yield run.problem(name, f"the user of {title!r} is {user!r}", "Write the number of a user other than root")


def _check_app_worker(run: Preflight, name: str, title: str, app: dict) -> Iterator[str]:
    if not app.get("queues"):
        yield run.problem(name, f"{title!r} has no queues", "Add `queues: [app_pdf]` with those that it consumes")
    else:
        yield from _check_queue_names(run, name, f"the queues of {title!r}", app["queues"])
    concurrency = app.get("concurrency", 1)
    if integer(concurrency) is None or not 1 <= int(concurrency) <= 64:
        yield run.problem(
            name, f"the concurrency of {title!r} is {concurrency!r}", "Write the number of its processes, e.g. 1"
        )
    limit = app.get("task_limit", 1260)
    if integer(limit) is None or int(limit) < 0:
        yield run.problem(
            name,
            f"the task_limit of {title!r} is {limit!r}",
            "Write the longest task's seconds, 0 if there is no limit",
        )
    grace = app.get("stop_grace_period", "370s")
    if not (isinstance(grace, str) and grace and DURATION.fullmatch(grace)):
        yield run.problem(
            name, f"the stop_grace_period of {title!r} is {grace!r}", "Write the longest task's time, e.g. 670s"
        )


def _check_queue_names(run: Preflight, name: str, what: str, queues: Any) -> Iterator[str]:
    if not isinstance(queues, list):
        yield run.problem(name, f"{what} are not a list", "Write them as [app_ai, app_images]")
        return
    for queue in queues:
        if not (isinstance(queue, str) and QUEUE.fullmatch(queue)):
            yield run.problem(name, f"{queue!r} in {what} is not a queue", "Use OpenMates' names, e.g. app_ai")


def check_queues(run: Preflight) -> Iterator[str]:
    """Each queue has at most one consumer, and each required queue has one."""
    name, queues = "openmates_worker_queues", run.get("openmates_worker_queues")
    if queues is None:
        return
    if not queues:
        yield run.problem(
            name, "it is empty, which means all queues to the worker", "Name at least one, e.g. [persistence]"
        )
        return
    yield from _check_queue_names(run, name, "it", queues)
    consumers: dict[str, list[str]] = {}
    for queue in queues:
        consumers.setdefault(str(queue), []).append("task-worker")
    for app in run.get("openmates_apps", []):
        if app.get("kind") == "worker" and isinstance(app.get("queues"), list):
            for queue in app["queues"]:
                consumers.setdefault(str(queue), []).append(str(app.get("name")))
    for queue, services in consumers.items():
        if len(services) > 1:
            yield run.problem(
                name if "task-worker" in services else "openmates_apps",
                f"the queue {queue} is consumed by {' and by '.join(services)}",
                "Leave it to one of them; for more processes raise that one's concurrency",
            )
    missing = [queue for queue in NEEDED_QUEUES if queue not in consumers]
    if missing:
        yield run.problem(
            name,
            f"no worker consumes {', '.join(missing)}: tasks on these queues are never executed",
            "Add the missing queues to it, or to the queues of an app of `kind: worker`",
        )


def hosting_name(run: Preflight) -> tuple[str, str]:
    """The name that OpenMates' domain check reads, and the setting that gives it; both empty if there is none.

    In production it is the first frontend's. In development it is the first that is not localhost; without one, the
    server's own name, which is added to the frontends so that the api does not require Stripe's keys.
    """
    name, urls = "openmates_frontend_urls", run.get("openmates_frontend_urls", [])
    domain = str(run.get("openmates_domain", "")).strip()
    if run.environment == "prod":
        return (host_of(str(urls[0])), name) if urls else (domain.lower(), "openmates_domain")
    for host in (host_of(str(url)) for url in urls):
        if host not in LOCAL_NAMES:
            return host, name
    if "providers/stripe" in (run.get("openmates_vault_seeds", {}) or {}):
        return "", ""
    return host_of(str(run.get("openmates_own_origin", ""))), "openmates_domain" if domain else "ansible_host"


def host_of(origin: str) -> str:
    return re.sub(r"^https?://|[:/].*$", "", origin).lower()


def check_signup(run: Preflight) -> Iterator[str]:
    mode, domains = run.get("openmates_signup_mode", "invite_only"), run.get("openmates_signup_domains", [])
    limit = run.get("openmates_signup_limit", 0)
    official = hosting_name(run)[0] == OFFICIAL
    if official and mode != "invite_only":
        yield run.problem(
            "openmates_signup_mode",
            f"on {OFFICIAL} it has no effect",
            "Remove it, and set openmates_signup_limit and openmates_signup_domains",
        )
    for domain in domains:
        if not is_domain(domain_as_used(domain)):
            yield run.problem(
                "openmates_signup_domains", f"{domain!r} is not a domain", "Write the part after the @ of an address"
            )
        elif domain != domain_as_used(domain):
            yield run.problem(
                "openmates_signup_domains",
                f"{domain!r} is not as mail servers write it",
                f"Write {domain_as_used(domain)}",
            )
    if not official and bool(domains) is (mode == "invite_only"):
        if domains:
            remedy = "Set openmates_signup_mode to domain_allowlist or invite_and_domain, or remove the domains"
            yield run.problem("openmates_signup_domains", "with invite_only they have no effect", remedy)
        else:
            yield run.problem(
                "openmates_signup_domains",
                f"it is empty, and with {mode} OpenMates would fall back to invite_only",
                "Name the domains whose addresses may sign up, or set openmates_signup_mode: invite_only",
            )
    if limit > 0 and not official:
        yield run.problem(
            "openmates_signup_limit",
            f"it has an effect on {OFFICIAL} only",
            "Remove it; openmates_signup_mode defines who may sign up",
        )


def check_backend_environment(run: Preflight) -> Iterator[str]:
    name, values = "openmates_backend_environment", run.get("openmates_backend_environment", {})
    for variable, value in values.items():
        if not VARIABLE.fullmatch(str(variable)):
            yield run.problem(
                name, f"{variable!r} is not the name of a variable", "Use letters, digits and underscores"
            )
        elif variable in BACKEND_ENVIRONMENT:
            yield run.problem(name, f"{variable} is set by {BACKEND_ENVIRONMENT[variable]}", "Remove it here")
        elif variable in BACKEND_SECRETS:
            yield run.problem(name, f"{variable} is a secret, set by {BACKEND_SECRETS[variable]}", "Remove it here")
        elif re.search(r"PASSWORD|_SECRET$|^SECRET_|_TOKEN$|API_KEY", str(variable)):
            yield run.problem(
                name,
                f"{variable} is a secret, and any user who may run `docker inspect` could read it there",
                "Put it into Vault with openmates_vault_seeds",
            )
        elif isinstance(value, (dict, list)) or value is None:
            yield run.problem(name, f"{variable} is not text, a number, true or false", "Put it into quotation marks")
        elif "\0" in str(value):
            yield run.problem(name, f"{variable} contains a character of code 0", "Remove it: no variable can hold it")


def check_source(run: Preflight) -> Iterator[str]:
    name = "openmates_source_directory"
    if run.get(name) and run.environment == "prod":
        yield run.problem(
            name,
            "production runs the code of its images only",
            "Remove it here; in development it replaces the images' code with a checkout's",
        )


def check_directories(run: Preflight) -> Iterator[str]:
    directory = str(run.get("openmates_directory", "/opt/openmates")).rstrip("/")
    for name, example in DIRECTORIES.items():
        path = run.get(name, "")
        if path and not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", path):
            yield run.problem(name, f"{path!r} is not a directory", f"Use an absolute path such as {example}")
        elif path and f"{path}/".startswith(f"{directory}/"):
            yield run.problem(
                name,
                f"{path} is in openmates_directory, where a run removes files that it did not write",
                f"Keep it elsewhere, e.g. in {example}",
            )


CHECKS = (
    check_collections,
    check_apps,
    check_queues,
    check_signup,
    check_backend_environment,
    check_source,
    check_directories,
)

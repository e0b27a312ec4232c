"""The Compose files, rendered by Ansible's templar with the project's group_vars and read like Compose."""

from __future__ import annotations

import http.server
import json
import re
import secrets
import subprocess
import threading
import urllib.parse
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from rendering import ROOT, SECRET_NAMES, SECRETS, merged, render, templar

# Typed in from the service tables of the architecture guidelines; Alertmanager is this project's own addition.
SERVICES = {
    "alertmanager",
    *("api", "cms", "grafana", "cms-database", "cache", "vault", "task-worker", "task-scheduler"),
    *("prometheus", "loki", "promtail", "cadvisor", "vault-setup", "cms-setup"),
}
ONE_SHOTS = {"vault-setup", "cms-setup"}
LOG_OPTIONS = {"max-size": "10m", "max-file": "3", "labels": "com.docker.compose.service"}
PORTS = {
    "prod": {"api": ["127.0.0.1:8000-8001:8000"]},
    "dev": {
        "api": ["0.0.0.0:8000:8000", "[::]:8000:8000"],
        "cms": ["0.0.0.0:8055:8055", "[::]:8055:8055"],
        "grafana": ["0.0.0.0:3001:3000", "[::]:3001:3000"],
    },
}


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_all_services_and_only_the_declared_ports(environment: str, tmp_path: Path) -> None:
    services = merged(render(environment, tmp_path))
    assert set(services) == SERVICES
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == PORTS[environment]


def test_production_has_no_override_file(tmp_path: Path) -> None:
    assert "docker-compose.override.yml" not in render("prod", tmp_path)


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_every_service_is_well_behaved(environment: str, tmp_path: Path) -> None:
    for name, service in merged(render(environment, tmp_path)).items():
        assert "container_name" not in service, name
        assert list(service["networks"]) == ["openmates"], name
        assert service["logging"]["options"] == LOG_OPTIONS, name
        assert service["restart"] == ("no" if name in ONE_SHOTS else "unless-stopped"), name
        assert ("healthcheck" in service) is (name not in ONE_SHOTS), name
        assert not any("docker.sock" in volume for volume in service.get("volumes", [])), name


@pytest.mark.parametrize("engine", ["vault", "openbao"])
def test_every_service_is_confined(engine: str, tmp_path: Path) -> None:
    apps = [{"name": "app-one", "image": "ghcr.io/x/one:1"}, {"name": "app-two", "image": "ghcr.io/x/two:1", "user": 5}]
    services = merged(render("dev", tmp_path, openmates_vault_engine=engine, openmates_apps=apps))
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["pids_limit"] == 256, name
        assert service["tmpfs"][0] == "/tmp", name
        assert re.fullmatch(r"\d+:\d+", service["user"]), name
        assert not {"cap_add", "privileged", "devices", "pid", "ipc", "network_mode"} & set(service), name
    assert services["app-two"]["user"] == "5:5"
    assert {name for name, service in services.items() if service["user"] == "0:0"} == {"promtail", "cadvisor"}


def test_the_secrets_belong_to_who_runs_the_service(tmp_path: Path) -> None:
    services = merged(render("prod", tmp_path))
    files = templar("prod", tmp_path).template(trust_as_template("{{ stack_secret_files }}"))
    owners = {file["path"].split("/")[0]: file["owner"] for file in files}
    assert owners == {name: services[name]["user"].split(":")[0] for name in owners}
    assert set(owners) == set().union(*MOUNTED_BY.values())


@pytest.mark.parametrize(("address", "url"), [("2001:db8::7", "http://[2001:db8::7]:8055"), ("a.b", "http://a.b:8055")])
def test_an_ipv6_address_is_in_brackets_in_the_url_of_directus(tmp_path: Path, address: str, url: str) -> None:
    host = templar("dev", tmp_path, ansible_host=address)
    assert host.template(trust_as_template("{{ settings.directus_public_url }}")) == url


def test_only_development_has_ipv6_for_containers(tmp_path: Path) -> None:
    subnets = {}
    for environment in ("prod", "dev"):
        network = yaml.safe_load(render(environment, tmp_path / environment)["docker-compose.yml"])["networks"][
            "openmates"
        ]
        subnets[environment] = (network["enable_ipv6"], [entry["subnet"] for entry in network["ipam"]["config"]])
    assert subnets["prod"] == (False, ["172.30.0.0/24"])
    assert subnets["dev"] == (True, ["172.30.0.0/24", "fd30:6f70:656e::/64"])


def test_memory_limits_leave_room_for_the_host(tmp_path: Path) -> None:
    limits = [int(service["mem_limit"].removesuffix("M")) for service in merged(render("prod", tmp_path)).values()]
    assert len(limits) == len(SERVICES)
    assert sum(limits) <= 5.5 * 1024


# Seconds of CPU of one check, measured in the lab's containers; the worker's with the real image. Loki's is assumed.
CHECK_SECONDS = {
    **{"api": 0.003, "task-worker": 0.5, "task-scheduler": 0.004, "cms": 0.002, "cms-database": 0.006, "cache": 0.011},
    **{"vault": 0.002, "prometheus": 0.002, "loki": 0.3, "promtail": 0.002, "cadvisor": 0.002, "grafana": 0.002},
    "alertmanager": 0.002,
    "app-sample": 0.04,
}
EXEC_SECONDS = 0.053  # what the container engine itself takes to start one


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def test_all_health_checks_together_cost_one_per_cent_of_a_core(tmp_path: Path) -> None:
    services = merged(render("prod", tmp_path, openmates_apps=[{"name": "app-sample", "image": "ghcr.io/x/one:1"}]))
    per_hour = {name: 3600 / seconds(service["healthcheck"]["interval"]) for name, service in services.items()
                if "healthcheck" in service}  # fmt: skip
    assert set(per_hour) == set(CHECK_SECONDS)
    assert sum(times * CHECK_SECONDS[name] for name, times in per_hour.items()) <= 36
    assert sum(per_hour.values()) * EXEC_SECONDS <= 72


def test_what_a_slow_server_gets_to_become_healthy_its_health_checks_allow(tmp_path: Path) -> None:
    """Otherwise Compose would give up when a service counts as unhealthy, long before openmates_wait_timeout."""

    def checks(wait: int, key: str) -> dict[str, int]:
        files = render("prod", tmp_path / f"{wait}-{key}", openmates_wait_timeout=wait)
        services = yaml.safe_load(files["docker-compose.yml"])["services"]
        found = {name: service["healthcheck"] for name, service in services.items() if "healthcheck" in service}
        return {name: int(check[key].removesuffix("s")) for name, check in found.items()}

    for key, more in (("start_period", 1800), ("timeout", 30), ("start_interval", 30)):
        assert checks(60, key) == checks(600, key)
        assert checks(2400, key) == {name: value + more for name, value in checks(600, key).items()}


@pytest.mark.parametrize("engine", ["vault", "openbao"])
def test_no_health_check_starts_the_application_or_a_large_client(engine: str, tmp_path: Path) -> None:
    apps = [{"name": "app-w", "kind": "worker", "queues": ["q"]}, {"name": "app-s", "image": "ghcr.io/x/one:1"}]
    services = merged(render("prod", tmp_path, openmates_apps=apps, openmates_vault_engine=engine))
    for name, service in services.items():
        if name in ONE_SHOTS:
            continue
        check = service["healthcheck"]
        words = " ".join(check["test"])
        assert not re.search(r"celery|urllib|requests|bao |vault |node |with-secrets", words), (name, words)
        # Asked often while it starts, so that nothing waits longer than it must, and seldom from then on.
        assert seconds(check["start_interval"]) <= 5 < 60 <= seconds(check["interval"]), name
    assert services["app-w"]["healthcheck"] == services["task-worker"]["healthcheck"]
    assert services["vault-setup"]["entrypoint"] == ["/bin/sh", "/openmates/vault-setup.sh", "172.30.0.14"]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_of_an_app_is_the_app_s_answer(tmp_path: Path, status: int, code: int) -> None:
    class App(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    services = merged(render("prod", tmp_path, openmates_apps=[{"name": "app-s", "image": "ghcr.io/x/one:1"}]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), App) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        command = [
            word.replace("8000", str(server.server_port)) for word in services["app-s"]["healthcheck"]["test"][1:]
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        server.shutdown()
    assert (done.returncode, done.stderr) == (code, "")


def test_programs_in_go_know_their_limit(tmp_path: Path) -> None:
    services = merged(render("prod", tmp_path))
    known = {name: service["environment"]["GOMEMLIMIT"] for name, service in services.items()
             if "GOMEMLIMIT" in (service.get("environment") or {})}  # fmt: skip
    assert set(known) == {"vault", "prometheus", "alertmanager", "loki", "promtail", "cadvisor", "grafana"}
    for name, limit in known.items():
        share = int(limit.removesuffix("MiB")) / int(services[name]["mem_limit"].removesuffix("M"))
        assert 0.75 < share < 0.8, name


def test_the_cache_logs_to_docker_keeps_one_snapshot_file_and_makes_no_calls(tmp_path: Path) -> None:
    command = merged(render("prod", tmp_path))["cache"]["command"]
    assert {"--logtostderr", "--nodf_snapshot_format", "--version_check=false"} <= set(command)
    flags = dict(flag.split("=", 1) for flag in command if "=" in flag)
    assert int(flags["--maxmemory"].removesuffix("mb")) >= 256 * int(flags["--proactor_threads"])


@pytest.mark.parametrize("environment", ["prod", "dev"])
def test_no_secret_is_in_any_file_but_those_of_secrets(environment: str, tmp_path: Path) -> None:
    everything = "\n".join(render(environment, tmp_path).values())
    assert [name for name, value in SECRETS.items() if value in everything] == []


# Which services mount a secret, or one that is made from it. Typed in from the volumes and secrets of each service.
WITH_BACKEND_SECRETS = {"api", "task-worker", "task-scheduler"}
MOUNTED_BY = {
    "openmates_admin_password": {"cms"},
    "openmates_database_password": {"cms", "cms-database"},
    "openmates_cache_password": {*WITH_BACKEND_SECRETS, "cms", "cache"},
    "openmates_directus_secret": {*WITH_BACKEND_SECRETS, "cms", "cms-setup"},
    "openmates_internal_api_token": {*WITH_BACKEND_SECRETS, "cms-setup"},
    "openmates_grafana_password": {"grafana"},
    "openmates_first_invite_code": {"cms-setup"},
}


def definitions(tmp_path: Path, **settings: object) -> dict[str, dict]:
    return merged(render("prod", tmp_path, **settings))


def changed(before: dict[str, dict], after: dict[str, dict]) -> dict[str, set[str]]:
    """By service, the parts of its definition for which Compose would recreate its container."""
    return {
        name: keys
        for name in before | after
        if (
            keys := {
                key
                for key in before.get(name, {}) | after.get(name, {})
                if before.get(name, {}).get(key) != after.get(name, {}).get(key)
            }
        )
    }


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_rotated_secret_recreates_just_the_services_that_mount_it(name: str, tmp_path: Path) -> None:
    after = definitions(tmp_path, **{name: secrets.token_urlsafe(30)})
    assert changed(definitions(tmp_path), after) == {service: {"labels"} for service in MOUNTED_BY[name]}


def test_an_app_worker_is_recreated_with_the_secrets_of_task_worker(tmp_path: Path) -> None:
    before = definitions(tmp_path, openmates_apps=WORKER_APPS)
    after = definitions(tmp_path, openmates_apps=WORKER_APPS, openmates_internal_api_token=secrets.token_urlsafe(30))
    assert set(changed(before, after)) == {*WITH_BACKEND_SECRETS, "cms-setup", "app-ai-worker", "app-docs-worker"}


def test_a_label_is_another_one_on_each_host_if_the_service_has_secrets(tmp_path: Path) -> None:
    here, there = definitions(tmp_path), definitions(tmp_path, key=secrets.token_bytes(32))
    assert changed(here, there) == {service: {"labels"} for service in set().union(*MOUNTED_BY.values())}


def test_a_run_without_a_change_recreates_nothing(tmp_path: Path) -> None:
    assert render("prod", tmp_path) == render("prod", tmp_path)


def test_an_upgrade_recreates_what_is_listed_here_and_no_more(tmp_path: Path) -> None:
    """From before secrets took part in labels by keyed digests, when each label was made from one secret of all.

    Every label is another one, once, and every line of a log names its service. A change of a definition is added
    here, and to CHANGELOG.md.
    """
    before = json.loads((Path(__file__).parent / "before/services.json").read_text())
    after = json.loads(json.dumps(definitions(tmp_path, openmates_apps=WORKER_APPS)))
    labelled = {name for name in after if "labels" in after[name]}
    # The account of the api in Directus; cms names its secrets as text.
    logging_in = WITH_BACKEND_SECRETS | {"cms", "cms-setup", "app-ai-worker", "app-docs-worker"}
    limits = {"cadvisor", "grafana"}  # lower, for Alertmanager's sake; a Go program has its limit in its environment
    new = {"alertmanager": set(after["alertmanager"])}
    assert (
        changed(before, after)
        == {
            name: {"logging"}
            | ({"labels"} if name in labelled else set())
            | ({"environment"} if name in logging_in | limits else set())
            | ({"mem_limit"} if name in limits else set())
            | ({"command"} if name == "cms" else set())
            for name in after
        }
        | new
    )
    assert labelled == SERVICES - {"cadvisor"} | {"app-ai-worker", "app-docs-worker"}


def test_apps_are_internal_and_known_to_the_backend(tmp_path: Path) -> None:
    apps = [{"name": "app-one", "image": "ghcr.io/x/one:1"}, {"name": "app-two", "image": "ghcr.io/x/two:1"}]
    services = merged(render("prod", tmp_path, openmates_apps=apps))
    assert set(services) == SERVICES | {"app-one", "app-two"}
    assert "ports" not in services["app-one"]
    urls = yaml.safe_load(services["api"]["environment"]["APP_URLS"])
    assert urls == {"app-one": "http://app-one:8000", "app-two": "http://app-two:8000"}


WORKER_APPS = [
    {"name": "app-one", "image": "ghcr.io/x/one:1", "kind": "service"},
    {"name": "app-ai-worker", "kind": "worker", "queues": ["app_ai", "app_music"]},
    {
        **{"name": "app-docs-worker", "kind": "worker", "queues": ["app_docs"], "image": "ghcr.io/x/docs:1"},
        **{"memory": "1536M", "concurrency": 3, "stop_grace_period": "670s"},
    },
]


def test_worker_apps_are_task_workers_for_queues_of_their_own(tmp_path: Path) -> None:
    services = merged(render("prod", tmp_path, openmates_apps=WORKER_APPS))
    worker, ai, docs = (services[name] for name in ("task-worker", "app-ai-worker", "app-docs-worker"))
    for app in (ai, docs):
        same = (
            "user",
            "entrypoint",
            "volumes",
            "healthcheck",
            "depends_on",
            "labels",
            "read_only",
            "tmpfs",
            "cap_drop",
        )
        assert {key: app[key] for key in same} == {key: worker[key] for key in same}
        others = {key: value for key, value in app["environment"].items() if key != "CELERY_QUEUES"}
        assert others == {key: value for key, value in worker["environment"].items() if key != "CELERY_QUEUES"}
        assert "ports" not in app
    assert (ai["image"], ai["mem_limit"], ai["stop_grace_period"]) == (worker["image"], "1024M", "370s")
    assert (docs["image"], docs["mem_limit"], docs["stop_grace_period"]) == ("ghcr.io/x/docs:1", "1536M", "670s")
    assert ("--concurrency=1" in ai["command"], "--concurrency=3" in docs["command"]) == (True, True)
    assert [app["environment"]["CELERY_QUEUES"] for app in (ai, docs)] == ["app_ai,app_music", "app_docs"]
    assert yaml.safe_load(services["api"]["environment"]["APP_URLS"]) == {"app-one": "http://app-one:8000"}


def test_a_queue_that_an_app_consumes_is_not_the_task_workers_any_more(tmp_path: Path) -> None:
    def queues(name: str, **settings: object) -> list[str]:
        services = merged(render("prod", tmp_path / name, **settings))
        return services["task-worker"]["environment"]["CELERY_QUEUES"].split(",")

    default = queues("default")
    assert {"email", "user_init", "persistence", "health_check", "server_stats", "reminder", "push"} < set(default)
    assert {"app_ai", "app_music"} < set(default)
    assert not {"app_pdf", "app_videos", "app_docs"} & set(default), (
        "they take more time and memory than this worker has"
    )
    assert queues("apps", openmates_apps=WORKER_APPS) == [
        queue for queue in default if queue not in ("app_ai", "app_music")
    ]
    assert queues("own", openmates_worker_queues=["email"]) == ["email"]


def test_a_worker_whose_process_died_gets_the_time_to_start_another(tmp_path: Path) -> None:
    services = merged(render("prod", tmp_path, openmates_apps=WORKER_APPS))
    for name in ("task-worker", "app-ai-worker", "app-docs-worker"):
        assert services[name]["command"][-1] == "worker.proc_alive_timeout=120", name


def test_what_is_under_way_is_finished_before_a_stop(tmp_path: Path) -> None:
    services = merged(render("prod", tmp_path))
    seconds = {name: int(services[name]["stop_grace_period"].removesuffix("s")) for name in ("api", "task-worker")}
    assert seconds["api"] >= 15
    assert seconds["task-worker"] >= 370


# Typed in from the contract with OpenMates v0.14.
BACKEND = {
    "SERVER_ENVIRONMENT": "production",
    "ENVIRONMENT": "production",
    "WEBAPP_URL": "https://web.example.test",
    "PUBLIC_API_BASE_URL": "https://api.example.test",
    "EMAIL_SENDER_EMAIL": "operator@openmates.org",
    "SUPPORT_EMAIL": "operator@openmates.org",
    "SERVER_OWNER_EMAIL": "operator@openmates.org",
    "ADMIN_NOTIFY_EMAIL": "operator@openmates.org",
    "REPORT_ISSUE_EMAIL": "operator@openmates.org",
    "VAPID_CONTACT_EMAIL": "operator@openmates.org",
    "PRODUCTION_URL": "https://web.example.test",
    "FRONTEND_URL": "https://web.example.test",
    "TRUSTED_PROXY_IPS": "172.30.0.1",
    "CMS_URL": "http://cms:8055",
    "DRAGONFLY_URL": "cache:6379",
    "VAULT_URL": "http://vault:8200",
    "DATABASE_ADMIN_EMAIL": "operator+openmates@openmates.org",
    "LOG_LEVEL": "info",
    "OTEL_TRACING_ENABLED": "false",
    "SELF_HOST_SIGNUP_MODE": "invite_only",
    "SELF_HOST_SIGNUP_ALLOWED_DOMAINS": "",
    "SIGNUP_DOMAIN_RESTRICTION": "",
    "SIGNUP_LIMIT": "0",
}


def test_the_backend_gets_what_the_contract_lists(tmp_path: Path) -> None:
    files = render("prod", tmp_path, openmates_frontend_urls=["https://web.example.test"])
    services = merged(files)
    more = {"HOME": "/tmp", "APP_URLS": "{}"}
    for name in ("api", "task-worker", "task-scheduler"):
        environment = dict(services[name]["environment"])
        assert ("CELERY_QUEUES" in environment) is (name == "task-worker")
        environment.pop("CELERY_QUEUES", None)
        assert environment == BACKEND | more, name
        assert all(isinstance(value, str) for value in environment.values()), "Compose would refuse it, or read it anew"
        assert {volume.split(":")[0] for volume in services[name]["volumes"] if volume[0] != "."} == {
            "api": {"api-logs", "cms-schema", "shared-cache"},
            "task-worker": {"api-logs"},
            "task-scheduler": {"api-logs", "celerybeat-data"},
        }[name]
    volumes = yaml.safe_load(files["docker-compose.yml"])["volumes"]
    for name, target in (("api-logs", "/app/logs"), ("shared-cache", "/shared/cache")):
        assert volumes[name] == {"name": f"openmates-{name}", "labels": {"openmates.owner": "1000:1000"}}
        assert f"{name}:{target}" in services["api"]["volumes"]
    assert "/app/logs" not in str(services["api"]["tmpfs"]), "what has to be kept for years would be lost"


def test_a_development_server_may_run_a_checkout(tmp_path: Path) -> None:
    worker = {"name": "app-pdf-worker", "kind": "worker", "queues": ["app_pdf"]}
    files = render("dev", tmp_path, openmates_source_directory="/srv/OpenMates", openmates_apps=[worker])
    override = yaml.safe_load(files["docker-compose.override.yml"])["services"]
    changed = {name: service for name, service in override.items() if "entrypoint" in service}
    assert set(changed) == {"api", "task-worker", "task-scheduler", "app-pdf-worker"}
    for service in changed.values():
        assert [mount["source"] for mount in service["volumes"]] == ["/srv/OpenMates/backend"]
        assert "/openmates/reload.py" in service["entrypoint"]
        assert "command" not in service, "what runs is the same as without a checkout"
    assert all(key == "ports" for name in {*override} - {*changed} for key in override[name])


def test_what_an_operator_sets_reaches_the_backend(tmp_path: Path) -> None:
    services = merged(
        render(
            "prod",
            tmp_path,
            openmates_cookie_domain=".example.test",
            openmates_signup_mode="invite_and_domain",
            openmates_signup_domains=["one.test", "two.test"],
            openmates_translations_dir="/srv/locales",
            openmates_backend_environment={
                "WEBAUTHN_RP_NAME": 'Firm: "one"',
                "DEBUG": False,
                "LIMIT": 5,
                "PRICE": "1$",
            },
        )
    )
    mount = {"type": "bind", "source": "/srv/locales", "target": "/translations", "read_only": True}
    for name in ("api", "task-worker", "task-scheduler"):
        assert {
            "COOKIE_DOMAIN": ".example.test",
            "SELF_HOST_SIGNUP_MODE": "invite_and_domain",
            "SELF_HOST_SIGNUP_ALLOWED_DOMAINS": "one.test,two.test",
            "TRANSLATIONS_DIR": "/translations",
            "WEBAUTHN_RP_NAME": 'Firm: "one"',
            "DEBUG": "false",
            "LIMIT": "5",
            "PRICE": "1$$",  # which Compose reads as one
        }.items() <= services[name]["environment"].items()
        assert mount | {"bind": {"create_host_path": False}} in services[name]["volumes"], name


def test_one_version_selects_all_images_of_openmates(tmp_path: Path) -> None:
    services = merged(render("prod", tmp_path, openmates_version="v9.9.9", openmates_apps=WORKER_APPS[1:2]))
    images = {name: service["image"] for name, service in services.items() if "v9.9.9" in service["image"]}
    backend = "ghcr.io/glowingkitty/openmates-api:v9.9.9"
    assert images == {
        **dict.fromkeys(("api", "task-worker", "task-scheduler", "app-ai-worker"), backend),
        "cms-setup": "ghcr.io/glowingkitty/openmates-cms-setup:v9.9.9",
    }


def test_a_secret_that_cannot_be_read_stops_the_service(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "GOOD").write_text("a 'b' $c\n")
    script = tmp_path / "with-secrets.sh"
    script.write_text(
        (ROOT / "files/compose/config/bin/with-secrets.sh").read_text().replace("/run/secrets", str(folder))
    )

    def run() -> subprocess.CompletedProcess:
        return subprocess.run(["sh", script, "printenv", "GOOD"], capture_output=True, text=True, check=False)

    assert (run().stdout, run().returncode) == ("a 'b' $c\n", 0)
    (folder / "UNREADABLE").mkdir()
    assert (run().stdout, run().returncode) == ("", 1)


def test_images_come_from_the_mirror_when_one_is_set(tmp_path: Path) -> None:
    services = merged(render("prod", tmp_path, openmates_registry="mirror.openmates.test"))
    assert services["cms-database"]["image"].startswith("mirror.openmates.test/library/postgres:")
    assert all(service["image"].startswith("mirror.openmates.test/") for service in services.values())


def test_an_address_of_the_operators_replaces_the_administrators(tmp_path: Path) -> None:
    settings = {"openmates_backend_environment": {"SUPPORT_EMAIL": "help@example.test"}}
    for name in ("api", "task-worker", "task-scheduler"):
        given = merged(render("prod", tmp_path, **settings))[name]["environment"]
        assert given["SUPPORT_EMAIL"] == "help@example.test"
        assert given["SERVER_OWNER_EMAIL"] == "operator@openmates.org"


@pytest.mark.parametrize(
    ("environment", "urls", "variable", "value"),
    [
        (
            "prod",
            ["https://one.example.test", "https://two.example.test"],
            "PRODUCTION_URL",
            # CORS compares with each, and the domain check reads the name up to the first slash.
            "https://one.example.test/,https://one.example.test,https://two.example.test",
        ),
        ("prod", ["https://one.example.test"], "PRODUCTION_URL", "https://one.example.test"),
        ("prod", [], "PRODUCTION_URL", "https://api.example.test"),
        ("dev", ["http://one:1", "http://two:2"], "FRONTEND_URLS", "http://one:1,http://two:2"),
        ("dev", ["http://localhost:1", "http://two:2"], "FRONTEND_URLS", "http://localhost:1,http://two:2"),
        # With localhost alone OpenMates would take payments, and demand Stripe's keys when it starts.
        ("dev", [], "FRONTEND_URLS", "http://localhost:5173,http://198.51.100.99:8000"),
        ("dev", ["http://127.0.0.1:5"], "FRONTEND_URLS", "http://127.0.0.1:5,http://198.51.100.99:8000"),
    ],
)
def test_the_api_knows_where_browsers_may_call_it_from(
    environment: str, urls: list[str], variable: str, value: str, tmp_path: Path
) -> None:
    domain = {"prod": "api.example.test", "dev": ""}[environment]
    services = merged(render(environment, tmp_path, openmates_frontend_urls=urls, openmates_domain=domain))
    for name in ("api", "task-worker", "task-scheduler"):
        given = services[name]["environment"]
        assert given[variable] == value
        assert given["FRONTEND_URL"] == [*urls, value.split(",")[0]][0]
        assert len({"PRODUCTION_URL", "FRONTEND_URLS"} & set(given)) == 1


def as_the_domain_check_reads_it(production_url: str) -> str | None:
    return urllib.parse.urlparse(production_url).hostname


def test_the_domain_check_reads_the_first_frontend_out_of_the_list(tmp_path: Path) -> None:
    urls = ["https://openmates.org", "https://www.openmates.org"]
    api = merged(render("prod", tmp_path, openmates_frontend_urls=urls))["api"]
    assert as_the_domain_check_reads_it(api["environment"]["PRODUCTION_URL"]) == "openmates.org"
    assert as_the_domain_check_reads_it(",".join(urls)) != "openmates.org", "the list alone would do"


def test_a_developer_with_stripes_keys_can_take_payments(tmp_path: Path) -> None:
    settings = {"openmates_frontend_urls": [], "openmates_domain": ""}
    seeds = {"providers/stripe": {"sandbox_secret_key": "x"}}
    api = merged(render("dev", tmp_path, **settings, openmates_vault_seeds=seeds))["api"]
    assert api["environment"]["FRONTEND_URLS"] == "http://localhost:5173"


@pytest.mark.parametrize("engine", ["vault", "openbao"])
def test_both_vault_engines_find_their_configuration(engine: str, tmp_path: Path) -> None:
    files = render("prod", tmp_path, openmates_vault_engine=engine)
    vault = merged(files)["vault"]
    assert f"./config/vault:/{engine}/config:ro" in vault["volumes"]
    assert f'path    = "/{engine}/file"' in files["config/vault/vault.hcl"]
    for words, known_to in (("disable_mlock", "vault"), ('audit "file"', "openbao"), ("generate_root", "openbao")):
        assert (words in files["config/vault/vault.hcl"]) is (engine == known_to), words


@pytest.mark.parametrize(
    ("exposure", "expected"),
    [
        ({"cms": "proxy"}, {"cms": ["127.0.0.1:8055:8055"], "grafana": ["0.0.0.0:3001:3000", "[::]:3001:3000"]}),
        ({"cms": "internal", "grafana": "internal"}, {}),
    ],
)
def test_one_line_of_exposure_decides_over_a_port(exposure: dict, expected: dict, tmp_path: Path) -> None:
    host_vars = tmp_path / "host_vars"
    host_vars.mkdir()
    everything = yaml.safe_load((ROOT / "playbooks/group_vars/dev.yml").read_text())["openmates_exposure"]
    (host_vars / "server.yml").write_text(yaml.safe_dump({"openmates_exposure": everything | exposure}))
    services = merged(render("dev", tmp_path))
    del services["api"]
    assert {name: service["ports"] for name, service in services.items() if "ports" in service} == expected


@pytest.mark.parametrize("image", ["", "ghcr.io/glowingkitty/openmates-cms-setup:v0.14.0"])
def test_no_service_waits_for_cms_setup(image: str, tmp_path: Path) -> None:
    """Compose would run it again for each new container of such a service. The stages of site.yml keep the order."""
    apps = [{"name": "app-ai-worker", "kind": "worker", "queues": ["app_ai"]}]
    services = merged(render("prod", tmp_path, openmates_cms_setup_image=image, openmates_apps=apps))
    assert [name for name, service in services.items() if "cms-setup" in service.get("depends_on", [])] == []
    for name in ("api", "task-worker", "task-scheduler", "app-ai-worker"):
        assert services[name]["depends_on"] == {
            "cache": {"condition": "service_healthy"},
            "cms": {"condition": "service_healthy"},
            "vault-setup": {"condition": "service_completed_successfully"},
        }


def test_the_stages_of_a_run_set_directus_up_before_what_needs_it() -> None:
    stages = [
        (task["name"], task["vars"]["stack_services"] if "vars" in task else None)
        for task in yaml.safe_load((ROOT / "playbooks/site.yml").read_text())[0]["tasks"]
        if task.get("ansible.builtin.import_role") == {"name": "stack", "tasks_from": "start"}
    ]
    templar = Templar(DataLoader(), {})
    for image, order in (
        ("", [["vault"], ["cms-database", "cache", "cms-setup"], ["cms"], ["cms-setup"], None]),
        ("an/image:1", [["vault"], ["cms-database", "cache"], ["cms"], ["cms-setup"], None]),
    ):
        templar.available_variables = {"settings": {"cms_setup_image": image}}
        assert [
            templar.template(trust_as_template(stage) if isinstance(stage, str) else stage) for _, stage in stages
        ] == order


def test_directus_knows_no_password_of_the_administrator(tmp_path: Path) -> None:
    files = render("prod", tmp_path, openmates_cms_setup_image="")
    services = merged(files)
    assert services["cms-setup"]["command"] == ["node", "/openmates/cms-setup.mjs"]
    assert "ADMIN_PASSWORD_FILE" in services["cms-setup"]["environment"]
    assert services["cms-setup"]["environment"]["CMS_SETUP_EXPECTED"] == "/cms-schema/expected.json"
    assert "cms-schema:/cms-schema" in services["cms-setup"]["volumes"]
    assert not {name for name in services["cms"]["environment"] if name.startswith("ADMIN_")}
    assert yaml.safe_load(files["config/cms-setup/setup.json"]) == {"schema": None, "force": False}


def test_the_schema_file_of_the_inventory_is_handed_over_as_it_is(tmp_path: Path) -> None:
    schema = ROOT / "inventories/directus/lab.json"
    assert "{{title}}" in schema.read_text(), "something that looks like a template has to be in it"
    files = render("prod", tmp_path, openmates_directus_schema=str(schema), openmates_cms_setup_image="")
    handed_over = json.loads(files["config/cms-setup/setup.json"])
    assert handed_over == {"schema": json.loads(schema.read_text()), "force": False}


def test_openmates_own_cms_setup_runs_after_directus(tmp_path: Path) -> None:
    image = "ghcr.io/glowingkitty/openmates-cms-setup:v0.14.0"
    services = merged(render("prod", tmp_path))
    setup, cms = services["cms-setup"], services["cms"]
    assert (setup["image"], setup["command"]) == (image, ["python", "setup_schemas.py"])
    assert setup["entrypoint"] == ["python3", "/openmates/cms-setup.py"], "the program alone ends well whatever fails"
    assert setup["user"] == "1000:1000", "the image's root has no capability to read the secrets"
    assert setup["init"], "Python as process 1 ignores SIGTERM"
    assert cms["environment"]["CACHE_SCHEMA_MAX_ITERATIONS"] == "2", "or a killed Directus keeps the next from starting"
    assert {
        "CMS_SETUP_SOURCE": image,
        "CMS_SETUP_TIMEOUT": "3600",
        "SELF_HOST_SIGNUP_MODE": "invite_only",
        "DATABASE_ADMIN_EMAIL": "operator+openmates@openmates.org",
    }.items() <= setup["environment"].items()
    assert "cms-schema:/cms-schema" in setup["volumes"]
    assert "cms-schema:/cms-schema:ro" in services["api"]["volumes"]
    assert setup["depends_on"] == {"cms": {"condition": "service_healthy"}}
    assert "cms-setup" not in cms["depends_on"]
    start = "exec node --import /openmates/subscriber.mjs cli.js start"
    assert cms["command"] == ["sh", "-c", f"node /openmates/cms-setup.mjs && {start}"]
    assert "ADMIN_PASSWORD_FILE" in cms["environment"]
    assert "CMS_SETUP_EXPECTED" not in cms["environment"], "OpenMates' cms-setup writes it, not the one inside cms"


def test_directus_settings_come_from_the_inventory(tmp_path: Path) -> None:
    safe = merged(render("prod", tmp_path))["cms"]["environment"]
    assert safe["PUBLIC_URL"] == "http://localhost:8055"
    assert (safe["IP_TRUST_PROXY"], safe["RATE_LIMITER_ENABLED"], safe["TELEMETRY"]) == ("false", "true", "false")
    assert "172.30.0.0/24" in safe["IMPORT_IP_DENY_LIST"]
    assert merged(render("dev", tmp_path))["cms"]["environment"]["PUBLIC_URL"] == "http://198.51.100.99:8055"

    password, secret, licence = (secrets.token_urlsafe(20) for _ in range(3))
    settings = {
        "openmates_directus_domain": "cms.openmates.test",
        "openmates_directus_mail": {"host": "smtp.openmates.test", "from": "cms@openmates.test", "user": "mailer"},
        "openmates_directus_mail_password": password,
        "openmates_directus_storage": {"driver": "s3", "bucket": "b", "key": "k"},
        "openmates_directus_storage_secret": secret,
        "openmates_directus_environment": {"WEBSOCKETS_ENABLED": True},
        "openmates_directus_secrets": {"LICENSE_KEY": licence},
        "openmates_directus_rate_limit": 0,
        "openmates_directus_cache": False,
    }
    files = render("dev", tmp_path, **settings)
    environment = merged(files)["cms"]["environment"]
    assert {
        "PUBLIC_URL": "https://cms.openmates.test",
        "IP_TRUST_PROXY": "172.30.0.1",
        "SESSION_COOKIE_SECURE": "true",
        "EMAIL_TRANSPORT": "smtp",
        "EMAIL_SMTP_PORT": "587",
        "EMAIL_SMTP_SECURE": "false",
        "EMAIL_SMTP_USER": "string:mailer",
        "EMAIL_SMTP_PASSWORD_FILE": "string:/run/secrets/EMAIL_SMTP_PASSWORD",
        "STORAGE_LOCATIONS": "s3",
        "STORAGE_S3_SECRET_FILE": "string:/run/secrets/STORAGE_S3_SECRET",
        "LICENSE_KEY_FILE": "string:/run/secrets/LICENSE_KEY",
        "WEBSOCKETS_ENABLED": "true",
        "RATE_LIMITER_ENABLED": "false",
        "CACHE_ENABLED": "false",
    }.items() <= environment.items()
    everything = "\n".join(files.values())
    assert not [value for value in (password, secret, licence) if value in everything]


def test_directus_has_the_settings_that_openmates_relies_on(tmp_path: Path) -> None:
    def some(name: str, **settings: object) -> list[str | None]:
        environment = merged(render("prod", tmp_path / name, **settings))["cms"]["environment"]
        return [environment.get(key) for key in ("CACHE_SKIP_ALLOWED", "REFRESH_TOKEN_TTL", "PRESSURE_LIMITER_ENABLED")]

    assert some("default") == ["true", "30d", "false"]
    assert some("own", openmates_cms_setup_image="") == ["true", "30d", None]
    mine = {"REFRESH_TOKEN_TTL": "1d", "PRESSURE_LIMITER_ENABLED": True}
    assert some("mine", openmates_directus_environment=mine) == ["true", "1d", "true"]


def test_caddy_and_verify_ask_the_same_path_and_hide_the_same_ones(tmp_path: Path) -> None:
    host = templar("prod", tmp_path, openmates_health_path="/alive")
    site = host.template(trust_as_template("{{ caddy_api_site }}"))
    assert (site["health_path"], site["hidden_paths"]) == ("/alive", ["/internal", "/metrics"])
    web = host.template(trust_as_template("{{ verify_web }}"))
    asked = [(entry.get("path", "/"), entry.get("expect_status", [200])) for entry in web if "scheme" not in entry]
    assert asked == [("/alive", [200]), ("/metrics/", [404]), ("/internal/validate-token", [404])]
    assert {entry["name"] for entry in web} == {"api.example.test"}


def test_the_workers_of_apps_are_restarted_with_a_new_vault_token(tmp_path: Path) -> None:
    host = templar("prod", tmp_path, openmates_apps=WORKER_APPS)
    consumers = host.template(trust_as_template("{{ vault_token_consumers }}"))
    assert consumers == ["api", "task-worker", "task-scheduler", "app-ai-worker", "app-docs-worker"]


def test_the_readiness_probe_gets_the_queues_of_every_worker(tmp_path: Path) -> None:
    worker = {"name": "app-docs-worker", "kind": "worker", "queues": ["app_docs"], "task_limit": "0"}
    files = render("prod", tmp_path, openmates_apps=[worker, {"name": "app-one", "image": "x/one:1"}])
    told = json.loads(files["config/ready/ready.json"])
    services = merged(files)
    assert told["health_path"] == "/v1/health"
    assert told["task_limits"] == {"app_docs": 0}
    assert set(told["queues"]) == {"task-worker", "app-docs-worker"}
    for name, queues in told["queues"].items():
        assert services[name]["environment"]["CELERY_QUEUES"].split(",") == queues
    assert "./config/bin:/openmates:ro" in services["api"]["volumes"], "the probe itself"


def test_a_server_reached_by_ipv6_has_an_origin_that_browsers_can_send(tmp_path: Path) -> None:
    host = templar("dev", tmp_path, openmates_domain="", openmates_frontend_urls=[])
    host.available_variables = host.available_variables | {"ansible_host": "2001:db8::7"}
    origins = host.template(trust_as_template("{{ openmates_allowed_origins }}"))
    assert origins == "http://localhost:5173,http://[2001:db8::7]:8000"


@pytest.mark.parametrize("image", ["", "ghcr.io/glowingkitty/openmates-cms-setup:v0.14.0"])
@pytest.mark.parametrize(("outdated", "due"), [([], False), (["cms-setup"], True), (["cms"], None)])
def test_whether_cms_setup_is_due_is_true_or_false(
    tmp_path: Path, image: str, outdated: list[str], due: bool | None
) -> None:
    info = {"outdated": dict.fromkeys(outdated, "its definition has changed"), "services": {}}
    host = templar("prod", tmp_path, openmates_cms_setup_image=image, stack_info=info)
    expected = bool(image) if due is None else due  # a new Directus matters to OpenMates' own cms-setup only
    assert host.template(trust_as_template("{{ directus_setup_due }}")) is expected


def test_alertmanager_begins_without_its_record_of_what_it_has_sent(tmp_path: Path) -> None:
    """With it, an alert whose end it has missed would not be sent again for 12 hours. Silences are kept."""
    service = merged(render("prod", tmp_path))["alertmanager"]
    (tmp_path / "data").mkdir()
    for name in ("nflog", "silences"):
        (tmp_path / "data" / name).touch()
    shell, option, script, *more = service["entrypoint"]
    script = script.replace("$$", "$").replace("/bin/alertmanager", "echo").replace("/alertmanager", f"{tmp_path}/data")
    words = [shell, option, script, *more, *service["command"]]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == service["command"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["silences"]

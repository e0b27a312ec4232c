"""Monitoring uses only services of this stack, by their names on the internal network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible.template import trust_as_template
from rendering import merged, render, templar

CONFIG = Path(__file__).parents[2] / "files/compose/config"
# Typed in from the architecture guidelines: what each part is connected to, with the service's own port.
PROMETHEUS, LOKI, CADVISOR = "prometheus:9090", "loki:3100", "cadvisor:8080"


def config(path: str) -> dict:
    return yaml.safe_load((CONFIG / path).read_text())


def test_grafana_reads_prometheus_and_loki() -> None:
    sources = config("grafana/provisioning/datasources/datasources.yml")["datasources"]
    assert {(source["type"], source["url"]) for source in sources} == {
        ("prometheus", f"http://{PROMETHEUS}"),
        ("loki", f"http://{LOKI}"),
    }
    assert all(source["access"] == "proxy" for source in sources), "a browser would be sent to an internal name"


def test_promtail_ships_to_loki_alone() -> None:
    assert [client["url"] for client in config("promtail/promtail.yml")["clients"]] == [
        f"http://{LOKI}/loki/api/v1/push"
    ]


def test_promtail_labels_each_line_with_its_service_and_container() -> None:
    (job,) = config("promtail/promtail.yml")["scrape_configs"]
    stages = [next(iter(stage)) for stage in job["pipeline_stages"]]
    assert stages.index("json") < stages.index("docker"), "the latter drops what the former reads"
    by_name = {name: stage[name] for name, stage in zip(stages, job["pipeline_stages"], strict=True)}
    assert by_name["json"]["expressions"] == {"service": 'attrs."com.docker.compose.service"'}
    assert set(by_name["labels"]) == {"service", "container_id"} and by_name["labeldrop"] == ["filename"]


def test_promtail_ends_no_line_with_dockers_newline() -> None:
    """In a search of Loki, `$` matches at the end of the text only, not before a newline there."""
    (job,) = config("promtail/promtail.yml")["scrape_configs"]
    docker, replace = job["pipeline_stages"][-2:]
    assert "docker" in docker, "the newline is in what it makes of Docker's JSON"
    (group,) = re.search(replace["replace"]["expression"], "first\nsecond\n").groups()
    assert (group, replace["replace"]["replace"]) == ("\n", "")


def test_alloy_does_the_same_as_promtail() -> None:
    """Its own program is not in the lab: labels, positions and limits are compared with Promtail's."""
    promtail = config("promtail/promtail.yml")
    (job,) = promtail["scrape_configs"]
    stages = [next(iter(stage)) for stage in job["pipeline_stages"]]
    by_name = {name: stage[name] for name, stage in zip(stages, job["pipeline_stages"], strict=True)}
    text = (CONFIG / "alloy/config.alloy").read_text()
    order = [line.split(".")[1].split()[0] for line in text.splitlines() if line.strip().startswith("stage.")]
    assert order == ["json", "regex", "labels", "label_drop", "docker", "replace"]
    assert [name.replace("_", "") for name in order] == stages
    service = by_name["json"]["expressions"]["service"]
    assert f"expressions = {{service = `{service}`}}" in text
    assert f'expression = "{by_name["regex"]["expression"]}"' in text
    assert f'source     = "{by_name["regex"]["source"]}"' in text
    assert f"expression = `{by_name['replace']['expression']}`" in text
    assert 'values = {service = "", container_id = ""}' in text and 'values = ["filename"]' in text
    (client,) = promtail["clients"]
    assert f'= "{client["url"]}"' in text and f'= "{client["backoff_config"]["max_period"]}"' in text
    assert f"max_backoff_retries = {client['backoff_config']['max_retries']} " in text
    assert f'legacy_positions_file = "{promtail["positions"]["filename"]}"' in text
    (static,) = job["static_configs"]
    assert f'__path__ = "{static["labels"]["__path__"]}"' in text and f'= "{static["labels"]["job"]}"' in text


def test_alloy_takes_promtails_place_by_one_setting(tmp_path: Path) -> None:
    before = merged(render("prod", tmp_path / "1"))["promtail"]
    after = merged(render("prod", tmp_path / "2", openmates_log_collector="alloy"))["promtail"]
    assert before["image"].endswith("/promtail:3.6.11") and after["image"] == "grafana/alloy:v1.18.1"
    assert after["command"][:2] == ["run", "/etc/alloy/config.alloy"]
    assert "--storage.path=/promtail" in after["command"], "the volume, beside Promtail's positions"
    assert "--server.http.listen-addr=0.0.0.0:9080" in after["command"], "Promtail's port"
    assert "--disable-reporting" in after["command"]
    assert set(before["volumes"]) ^ set(after["volumes"]) == {
        *("./config/promtail:/etc/promtail:ro", "./config/alloy:/etc/alloy:ro"),
    }
    assert "GET /-/ready HTTP" in after["healthcheck"]["test"][-1]
    assert "GET /ready HTTP" in before["healthcheck"]["test"][-1]
    assert (before["mem_limit"], after["mem_limit"]) == ("128M", "256M")
    kept = {"user", "networks", "depends_on", "read_only", "cap_drop", "security_opt", "restart", "logging"}
    assert {name: before.get(name) for name in kept} == {name: after.get(name) for name in kept}


# Typed in: what serves metrics, by job; 9101 is OpenMates' own port for those of its workers.
TARGETS = {
    **{"api": ["api:8000"], "task-worker": ["task-worker:9101", "app-w:9101"], "cadvisor": [CADVISOR]},
    **{"loki": [LOKI], "promtail": ["promtail:9080"], "grafana": ["grafana:3000"], "vault": ["vault:8200"]},
    **{"prometheus": ["127.0.0.1:9090"], "alertmanager": ["alertmanager:9093"], "host": ["172.30.0.1:9100"]},
    "caddy": ["172.30.0.1:9180"],
}


def scraped(tmp_path: Path, environment: str = "prod", **settings: object) -> dict[str, dict]:
    jobs = yaml.safe_load(render(environment, tmp_path, **settings)["config/prometheus/prometheus.yml"])[
        "scrape_configs"
    ]
    return {job["job_name"]: job for job in jobs}


def test_prometheus_scrapes_all_that_serves_metrics(tmp_path: Path) -> None:
    worker = {"name": "app-w", "kind": "worker", "image": "ghcr.io/x/w:1", "queues": ["q"]}
    jobs = scraped(tmp_path, openmates_apps=[worker])
    found = {
        name: [host for entry in job.get("static_configs", []) for host in entry["targets"]]
        + [f"{name}:{entry['port']}" for entry in job.get("dns_sd_configs", []) for name in entry["names"]]
        for name, job in jobs.items()
    }
    assert found == TARGETS
    assert jobs["vault"]["metrics_path"] == "/v1/sys/metrics" and jobs["vault"]["params"] == {"format": ["prometheus"]}
    assert jobs["host"]["honor_labels"], "otherwise each service would be called host"


def test_without_a_domain_there_is_no_caddy_to_scrape(tmp_path: Path) -> None:
    assert set(TARGETS) - set(scraped(tmp_path, "dev", openmates_domain="")) == {"caddy"}


def alertmanager(tmp_path: Path, **settings: object) -> dict:
    return yaml.safe_load(render("prod", tmp_path, **settings)["config/alertmanager/alertmanager.yml"])


CHANNELS = {
    "openmates_alerts_mail": {"to": ["a@x.net"], "from": "s@x.net", "host": "smtp.x.net", "user": "u"},
    "openmates_alerts_mail_password": "sentinel1",
    "openmates_alerts_ntfy_url": "https://ntfy.x.net/sentinel2",
    "openmates_alerts_ntfy_token": "sentinel3",
    "openmates_alerts_webhook_url": "https://hook.x.net/sentinel4",
    "openmates_alerts_watchdog_url": "https://watch.x.net/sentinel5",
}


def test_each_channel_has_a_receiver_and_no_secret_is_in_the_configuration(tmp_path: Path) -> None:
    files = render("prod", tmp_path / "1", **CHANNELS)
    assert not [name for name, text in files.items() if "sentinel" in text]
    read = yaml.safe_load(files["config/alertmanager/alertmanager.yml"])
    names = [receiver["name"] for receiver in read["receivers"]]
    assert names == ["nowhere", "mail", "ntfy", "webhook", "watchdog"]
    watchdog, test, others = read["route"]["routes"]
    assert watchdog["receiver"] == "watchdog"
    for route in (test, others):
        assert [(sub["receiver"], sub["continue"]) for sub in route["routes"]] == [
            *[("mail", True), ("ntfy", True), ("webhook", True)]
        ]
    mounted = yaml.safe_load(files["docker-compose.yml"])["services"]["alertmanager"]["volumes"]
    assert "./secrets/alertmanager:/run/secrets:ro" in mounted


def test_without_a_channel_alerts_go_nowhere(tmp_path: Path) -> None:
    read = alertmanager(tmp_path)
    assert [receiver["name"] for receiver in read["receivers"]] == ["nowhere"]
    assert [route["receiver"] for route in read["route"]["routes"]] == ["nowhere"]


def test_ntfy_shows_the_message_and_not_the_json(tmp_path: Path) -> None:
    host = templar("prod", tmp_path, **CHANNELS)
    secrets = host.template(trust_as_template("{{ settings.services.alertmanager.secrets }}"))
    assert secrets["NTFY_URL"] == "https://ntfy.x.net/sentinel2?template=alertmanager"
    assert set(secrets) == {"MAIL_PASSWORD", "NTFY_URL", "NTFY_TOKEN", "WEBHOOK_URL", "WATCHDOG_URL"}


@pytest.mark.parametrize(("port", "tls", "expected"), [(587, True, True), (465, True, False), (25, False, False)])
def test_mail_is_encrypted_unless_it_is_told_otherwise(tmp_path: Path, port: int, tls: bool, expected: bool) -> None:
    """Port 465 has TLS from the beginning, where Alertmanager does not ask for STARTTLS."""
    mail = {**CHANNELS["openmates_alerts_mail"], "port": port, "tls": tls}
    read = alertmanager(tmp_path, **{**CHANNELS, "openmates_alerts_mail": mail})
    assert read["global"]["smtp_require_tls"] is expected and read["global"]["smtp_smarthost"] == f"smtp.x.net:{port}"

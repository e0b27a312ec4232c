"""Monitoring uses only services of this stack, by their names on the internal network."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from rendering import render

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


@pytest.mark.parametrize("target", ["api:8000", CADVISOR])
def test_prometheus_scrapes(target: str, tmp_path: Path) -> None:
    jobs = yaml.safe_load(render("prod", tmp_path)["config/prometheus/prometheus.yml"])["scrape_configs"]
    targets = {host for job in jobs for entry in job.get("static_configs", []) for host in entry["targets"]}
    found = {
        f"{name}:{entry['port']}" for job in jobs for entry in job.get("dns_sd_configs", []) for name in entry["names"]
    }
    assert target in targets | found
    assert {name.split(":")[0] for name in targets | found} <= {"api", "cadvisor", "127.0.0.1"}

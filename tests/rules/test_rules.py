"""The genuine promtool and amtool read what is rendered, and each alert fires once and ends."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import alerts
import pytest
import scan_alerts
import yaml
from alerts import HOUR, MINUTE, Case, bad
from rendering import ROOT, render

RULES = ROOT / "files/compose/config/prometheus/rules"
DASHBOARDS = ROOT / "files/compose/config/grafana/provisioning/dashboards"
CHANNELS = {
    "openmates_alerts_mail": {"to": ["a@x.net", "b@x.net"], "from": "s@x.net", "host": "smtp.x.net", "user": "u"},
    "openmates_alerts_mail_password": "fixture",
    "openmates_alerts_ntfy_url": "https://ntfy.x.net/topic",
    "openmates_alerts_ntfy_token": "fixture",
    "openmates_alerts_webhook_url": "https://hook.x.net/a",
    "openmates_alerts_watchdog_url": "https://watch.x.net/a",
}
GROUPS = [group for file in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(file.read_text())["groups"]]
DECLARED = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
CASES = alerts.CASES | scan_alerts.CASES
#: A minute at most, for what is down, sealed or out of memory.
QUICK = (
    *("ServiceDown", "ServiceUnhealthy", "CacheRefusesLogin", "TargetDown"),
    *("VaultSealed", "ServiceOutOfMemory", "HostOutOfMemory"),
)


def tool(image: str, program: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """A program of one of the lab's images, with a folder as /mnt."""
    mounted = f"--volume={folder}:/mnt:ro"
    command = ["docker", "run", "--rm", "--network=none", mounted, f"--entrypoint=/bin/{program}", "--workdir=/mnt"]
    return subprocess.run(
        [*command, f"openmates-lab/{image}:latest", *arguments], capture_output=True, text=True, check=False
    )


def written(files: dict[str, str], folder: Path) -> Path:
    """The configuration as the containers have it, readable by any user."""
    for name, text in files.items():
        if name.startswith("config/"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    folder.parent.chmod(0o755)
    return folder


@pytest.mark.parametrize(("environment", "settings"), [("prod", CHANNELS), ("dev", {}), ("prod", {})])
def test_the_programs_accept_the_configuration(environment: str, settings: dict, tmp_path: Path) -> None:
    folder = written(render(environment, tmp_path / "inventory", **settings), tmp_path / "files") / "config"
    # promtool finds the rules by the path in the container.
    prometheus = folder / "prometheus/prometheus.yml"
    prometheus.write_text(prometheus.read_text().replace("/etc/prometheus", "/mnt/prometheus"))
    checked = tool("prometheus", "promtool", folder, "check", "config", "prometheus/prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    alertmanager = folder / "alertmanager/alertmanager.yml"
    alertmanager.write_text(alertmanager.read_text().replace("/etc/alertmanager", "/mnt/alertmanager"))
    checked = tool("alertmanager", "amtool", folder, "check-config", "alertmanager/alertmanager.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_promtool_accepts_the_expressions_of_the_dashboards(tmp_path: Path) -> None:
    rules = []
    for file in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            if panel["datasource"]["type"] == "prometheus":
                texts = [target["expr"].replace("$__rate_interval", "2m") for target in panel["targets"]]
                rules += [{"record": f"a{len(rules) + number}", "expr": text} for number, text in enumerate(texts)]
    assert len(rules) > 40
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    checked = tool("prometheus", "promtool", written({}, tmp_path), "check", "rules", "rules.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_has_a_case_a_severity_and_a_remedy() -> None:
    assert set(CASES) == set(DECLARED)
    for name, rule in DECLARED.items():
        assert set(rule["annotations"]) == {"summary", "remedy"}, name
        assert rule["labels"]["severity"] in ("critical", "warning", "none"), name
    waits = {name: DECLARED[name].get("for", "0s") for name in QUICK}
    assert set(waits.values()) <= {"0s", "45s", "1m"}, waits


def series(parts: list[tuple[object, int]], step: int) -> str:
    """Values in promtool's notation: (1, 60) is 1 for a minute, ("0+2", 60) grows by 2 with each sample."""
    texts = []
    for value, seconds in parts:
        repeat = seconds // step - 1
        texts.append("stale" if value == "stale" else f"_x{repeat + 1}" if value == "_" else f"{value}x{repeat}")
    return " ".join(texts)


def expected(case: Case, rule: dict) -> dict:
    """What promtool compares. The remedy is the rule's own, with the labels filled in."""
    remedy = re.sub(r"{{ \$labels\.(\w+) }}", lambda match: case.labels[match[1]], rule["annotations"]["remedy"])
    return {"exp_labels": case.labels, "exp_annotations": {"summary": case.summary, "remedy": remedy}}


def as_test(name: str, case: Case) -> dict:
    found = [{"eval_time": f"{case.fires}s", "alertname": name, "exp_alerts": [expected(case, DECLARED[name])]}]
    found += [{"eval_time": f"{moment}s", "alertname": name, "exp_alerts": []} for moment in case.silent]
    return {
        "rule_files": [f"rules/{name}.yml"],
        "evaluation_interval": f"{case.step}s",
        "tests": [
            {
                "interval": f"{case.step}s",
                "input_series": [
                    {"series": labels, "values": series(values, case.step)} for labels, values in case.series.items()
                ],
                "alert_rule_test": found,
            }
        ],
    }


def tried(cases: dict[str, Case], tmp_path: Path) -> subprocess.CompletedProcess:
    (tmp_path / "rules").mkdir()
    for name, case in cases.items():
        alone = {"groups": [{"name": name, "rules": [DECLARED[name]]}]}  # all rules at once would take a minute
        (tmp_path / "rules" / f"{name}.yml").write_text(yaml.safe_dump(alone, sort_keys=False))
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(as_test(name, case), sort_keys=False))
    return tool("prometheus", "promtool", written({}, tmp_path), "test", "rules", *(f"{name}.yml" for name in cases))


def test_each_alert_fires_once_and_ends(tmp_path: Path) -> None:
    tested = tried(CASES, tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_cache_that_refuses_more_than_one_is_named_itself(tmp_path: Path) -> None:
    """Also while a worker that has nothing to do has not tried."""
    cause = {
        **bad('openmates_service_refused{service="task-scheduler"}', 0, 1),
        **bad('openmates_service_refused{service="task-worker"}', 0, 1),
        'openmates_service_refused{service="app-docs-worker"}': [(0, 3 * HOUR)],
    }
    summary = "Several services cannot log in to the cache"
    labels = {**alerts.CRITICAL, "service": "cache"}
    case = CASES["CacheRefusesLogin"]._replace(series=cause, labels=labels, summary=summary)
    tested = tried({"CacheRefusesLogin": case}, tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_logs_that_stop_before_loki_restarts_are_an_alert(tmp_path: Path) -> None:
    """Until the first line arrives, the genuine Loki does not have the counter."""
    lines = [("0+9", 10 * MINUTE), ("stale", 15), ("_", 40 * MINUTE - 15), ("0+9", HOUR)]
    restarted = {
        "loki_distributor_lines_received_total": lines,
        'process_start_time_seconds{job="loki"}': [(0, 10 * MINUTE), (10 * MINUTE, 2 * HOUR)],
    }
    silent = (28 * MINUTE, 52 * MINUTE)
    tested = tried({"LogsStopped": CASES["LogsStopped"]._replace(series=restarted, silent=silent)}, tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_lines_lost_again_are_an_alert(tmp_path: Path) -> None:
    """The counter of a reason for which Loki has refused lines before."""
    again = {'loki_discarded_samples_total{reason="too_far_behind"}': [(9, 5 * MINUTE), (66, 3 * HOUR)]}
    case = CASES["LogsLost"]._replace(series=again, fires=19 * MINUTE, silent=(22 * MINUTE,))
    tested = tried({"LogsLost": case}, tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr

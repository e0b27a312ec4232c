"""The cells of the matrix, from the catalogue: every long-running service and every fault; and what this project knows
of single ones. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import yaml
from lab_host import ROOT

CATALOGUE = ROOT / "roles/settings/defaults/main/services.yml"
RULES = ROOT / "files/compose/config/prometheus/rules"

FAULTS = ("killed", "out-of-memory", "frozen", "cut-off", "wrong-secret", "disk-full")

#: On which others depend come first.
FIRST = ("vault", "cms-database", "cache", "api", "task-worker", "cms", "prometheus", "alertmanager")

#: Nothing depends on them, and they do not depend on each other: one fault is in all of them at once.
ASIDE = ("task-scheduler", "grafana", "loki", "promtail", "cadvisor")

#: The services through which alerts go. When they fail, the requests of the watchdog's address stop instead.
CHAIN = ("prometheus", "alertmanager")

#: Services whose alerts silence none of each other's, and so can be told apart: a fault that is alerted on is in all of
#: a group at once, unless an alert of the readiness probe has to name it. Without the chain, nothing is named at all.
_DATA = ("vault", "cms-database", "cache", "grafana", "loki", "promtail", "cadvisor")
_BACKEND = ("api", "task-worker", "task-scheduler", "cms")  # silenced by those of the first three
GROUPS = {
    "out-of-memory": (_DATA, _BACKEND),
    "frozen": (_DATA, _BACKEND),
    "cut-off": (_DATA, _BACKEND, CHAIN),
    "disk-full": (_DATA, _BACKEND),
}

#: Files below the host's /opt/openmates/secrets, or by an absolute path, which a service reads when it starts.
SECRETS = {
    "api": "api/DATABASE_ADMIN_PASSWORD",
    "task-worker": "task-worker/DRAGONFLY_PASSWORD",
    "task-scheduler": "task-scheduler/DRAGONFLY_PASSWORD",
    "cms": "cms/DB_PASSWORD",
    "cms-database": "cms-database/POSTGRES_PASSWORD",
    "cache": "cache/dragonfly.flags",
    "vault": "/etc/credstore.encrypted/openmates-vault-shares",
    "alertmanager": "alertmanager/WATCHDOG_URL",
}

NOT_APPLICABLE = {
    "grafana-wrong-secret": "the password in the file becomes that of its account; no other service logs in with it",
    "prometheus-wrong-secret": "it reads no secret",
    "loki-wrong-secret": "it reads no secret",
    "promtail-wrong-secret": "it reads no secret",
    "cadvisor-wrong-secret": "it reads no secret",
    "task-worker-disk-full": "it has no volume of its own; that of its logs is the api's",
    "cadvisor-disk-full": "it writes nothing",
}

#: What else names the cause, besides an alert with the label of the service: an alert and the beginning of its part.
ALSO_NAMED: Mapping[str, tuple[tuple[str, str], ...]] = {
    "api": (("ApiNotReady", ""), ("ApiAnswersFail", "")),
    "cms": (("ApiNotReady", "directus_login"),),
    "cms-database": (("ApiNotReady", "directus_login"),),
    "cache": (("ApiNotReady", "cache"),),
    "task-worker": (("ApiNotReady", "queue:"),),
    "loki": (("LokiCannotWrite", ""), ("LogsStopped", "")),
    "promtail": (("LogsStopped", ""),),
    "alertmanager": (("AlertsNotSent", ""),),
}

#: What names a disk that is full, besides the alert for the disk itself. That a service fails for it does not.
NAMES_DISK = (("prometheus", "PrometheusStoresNothing"), ("loki", "LokiCannotWrite"))

#: Alerts whose expression looks back so far that they end long after their cause. `make rules` proves that they end.
LOOK_BACK = ("ServiceOutOfMemory", "ServiceRestarts", "HostOutOfMemory", "AlertsNotSent", "LogsLost", "LokiCannotWrite")


class Cell(NamedTuple):
    service: str
    fault: str

    @property
    def name(self) -> str:
        return f"{self.service}-{self.fault}"

    @property
    def not_applicable(self) -> str:
        """Why there is no such cell, or an empty string."""
        return NOT_APPLICABLE.get(self.name, "")

    def is_named_by(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels names the cause."""
        alert, part = labels["alertname"], labels.get("part", "")
        if self.fault == "disk-full":
            found = alert == "DiskFull" and labels.get("device") == disk(self.service)
            return found or (self.service, alert) in NAMES_DISK
        if labels.get("service") == self.service:
            return alert != "ServiceRestarts"  # the restarts that earlier cells caused are among those that it counts
        return any(alert == name and part.startswith(begin) for name, begin in ALSO_NAMED.get(self.service, ()))


def disk(service: str) -> str:
    """The device of the disk that a service's volume gets."""
    return f"/dev/lab-disk-{service}"


def catalogue() -> dict[str, dict]:
    """The long-running services, the first ones first."""
    services = yaml.safe_load(CATALOGUE.read_text())["openmates_services"]
    running = {name: about for name, about in services.items() if not about.get("one_shot")}
    ordered = [*FIRST, *(name for name in running if name not in FIRST)]
    return {name: running[name] for name in ordered}


def cells() -> list[Cell]:
    return [Cell(service, fault) for fault in FAULTS for service in catalogue()]


def batches(wanted: list[Cell]) -> list[list[Cell]]:
    """The applicable cells in the order in which they run, those in one list at once."""
    found: dict[tuple[str, ...], list[Cell]] = {}
    for cell in (cell for cell in wanted if not cell.not_applicable):
        groups = GROUPS.get(cell.fault, (ASIDE,))
        group = next((group for group in groups if cell.service in group), (cell.service,))
        found.setdefault((cell.fault, *group), []).append(cell)
    return list(found.values())


def patience() -> dict[str, int]:
    """For how many seconds the expression of each alert has to hold."""
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    rules = [
        rule
        for file in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]
    return {rule["alert"]: int(rule.get("for", "0s")[:-1]) * seconds[rule.get("for", "0s")[-1]] for rule in rules}

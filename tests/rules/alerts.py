"""For each alert: the series that make it fire and end again, when, and what it then says."""

from __future__ import annotations

from typing import NamedTuple

MINUTE, HOUR, DAY = 60, 3600, 86400


class Case(NamedTuple):
    """Series by name, each as (value, seconds) one after the other; when the alert must fire, and when not."""

    series: dict[str, list[tuple[object, int]]]
    fires: int
    silent: tuple[int, ...]
    labels: dict[str, str]
    summary: str
    step: int = 15


def bad(name: str, good: object, wrong: object, seconds: int = 10 * MINUTE) -> dict[str, list[tuple[object, int]]]:
    """A series that is wrong for a while, from the second minute on."""
    return {name: [(good, 2 * MINUTE), (wrong, seconds), (good, 2 * HOUR)]}


CRITICAL, WARNING = {"severity": "critical"}, {"severity": "warning"}

CASES = {
    "ServiceDown": Case(
        bad('openmates_service_up{service="promtail"}', 1, 0),
        3 * MINUTE,
        (2 * MINUTE + 30, 13 * MINUTE),
        {**CRITICAL, "service": "promtail"},
        "promtail does not run, or ends soon after each start",
    ),
    "ServiceUnhealthy": Case(
        {
            **bad('openmates_service_healthy{service="cms"}', 1, 0),
            'openmates_service_up{service="cms"}': [(1, 3 * HOUR)],
            'openmates_service_starting{service="cms"}': [(0, 3 * HOUR)],
        },
        4 * MINUTE,
        (2 * MINUTE + 45, 13 * MINUTE),
        {**CRITICAL, "service": "cms"},
        "cms runs, but its health check fails or it does not answer",
    ),
    "CacheRefusesLogin": Case(
        {
            **bad('openmates_service_refused{service="task-scheduler"}', 0, 1),
            'openmates_service_refused{service="task-worker"}': [(0, 3 * HOUR)],
        },
        3 * MINUTE + 15,
        (2 * MINUTE + 45, 13 * MINUTE),
        {**CRITICAL, "service": "task-scheduler"},
        "task-scheduler cannot log in to the cache, so it does nothing",
    ),
    "SchedulerStopped": Case(
        {
            "openmates_schedule_saved_timestamp_seconds": [
                *[(minute * MINUTE, 3 * MINUTE) for minute in (0, 3, 6, 9)],
                *[(12 * MINUTE, 10 * MINUTE), (22 * MINUTE, 2 * MINUTE)],
            ]
        },
        21 * MINUTE,
        (11 * MINUTE, 18 * MINUTE, 23 * MINUTE),
        {**CRITICAL, "service": "task-scheduler"},
        "task-scheduler has not saved its schedule for six minutes, so no periodic task begins",
    ),
    "ServiceRestarts": Case(
        {'openmates_service_starts_total{service="api"}': [(0, 5 * MINUTE), (6, 3 * HOUR)]},
        10 * MINUTE,
        (4 * MINUTE, 40 * MINUTE),
        {**CRITICAL, "service": "api"},
        "api has started 6 times in 30 minutes",
    ),
    "ServiceOutOfMemory": Case(
        {'openmates_service_oom_kills_total{service="loki"}': [(0, 5 * MINUTE), (1, 3 * HOUR)]},
        6 * MINUTE,
        (4 * MINUTE, 17 * MINUTE),
        {**CRITICAL, "service": "loki"},
        "loki ran out of memory at its limit, and a process of it was killed",
    ),
    "ServiceMemory": Case(
        {
            **bad('container_memory_working_set_bytes{container_id="abc",id="/docker/abc"}', 50, 95, 15 * MINUTE),
            'container_spec_memory_limit_bytes{container_id="abc",id="/docker/abc"}': [(100, 3 * HOUR)],
            'openmates_container_info{container_id="abc",service="grafana",instance="h"}': [(1, 3 * HOUR)],
        },
        14 * MINUTE,
        (11 * MINUTE, 20 * MINUTE),
        {**WARNING, "service": "grafana"},
        "grafana uses 95% of its memory",
    ),
    "TargetDown": Case(
        {
            **bad('up{job="loki",service="loki",instance="loki:3100"}', 1, 0),
            'openmates_service_starting{service="loki"}': [(0, 3 * HOUR)],
            'up{job="api",service="api",instance="a"}': [(0, 3 * HOUR)],
            'openmates_service_starting{service="api"}': [(1, 3 * HOUR)],
            'up{job="vault",service="vault",instance="v"}': [(0, 3 * HOUR)],
            'openmates_service_healthy{service="vault"}': [(0, 3 * HOUR)],
            'openmates_service_healthy{service="loki"}': [(1, 3 * HOUR)],
        },
        4 * MINUTE,
        (2 * MINUTE + 45, 13 * MINUTE),
        {**CRITICAL, "service": "loki", "instance": "loki:3100"},
        "loki does not answer Prometheus at loki:3100",
    ),
    "WorkerMetricsMissing": Case(
        bad('up{job="task-worker",service="task-worker",instance="w"}', 1, 0, 20 * MINUTE),
        18 * MINUTE,
        (15 * MINUTE, 23 * MINUTE),
        {**WARNING, "service": "task-worker"},
        "task-worker does not answer Prometheus",
    ),
    "ApiNotReady": Case(
        {'openmates_ready_failing{part="vault_token"}': [("_", 2 * MINUTE), (1, 10 * MINUTE), ("stale", 15)]},
        6 * MINUTE,
        (4 * MINUTE, 13 * MINUTE),
        {**CRITICAL, "part": "vault_token"},
        "OpenMates is not ready: vault_token fails",
    ),
    "ApiErrors": Case(
        {
            'api_requests_total{status_code="200"}': [("0+9", 2 * HOUR)],
            'api_requests_total{status_code="500"}': [(0, 2 * MINUTE), ("0+1", 15 * MINUTE), (60, 2 * HOUR)],
        },
        14 * MINUTE,
        (4 * MINUTE, 24 * MINUTE),
        CRITICAL,
        "10% of the api's answers are errors of its own",
    ),
    "ApiAnswersFail": Case(
        {
            'caddy_http_requests_total{handler="subroute"}': [("0+9", 2 * HOUR)],
            'caddy_http_request_duration_seconds_count{handler="subroute",code="200"}': [("0+6", 2 * HOUR)],
            'caddy_http_request_errors_total{handler="subroute"}': [
                *[(0, 2 * MINUTE), ("0+3", 15 * MINUTE), (180, 2 * HOUR)]
            ],
            "openmates_maintenance": [(0, 3 * HOUR)],
        },
        14 * MINUTE,
        (2 * MINUTE, 24 * MINUTE),
        CRITICAL,
        "33.33% of the requests to the site fail",
    ),
    "ApiSlow": Case(
        {
            'api_request_duration_seconds_bucket{le="5"}': [("0+9", 10 * MINUTE), (360, 30 * MINUTE), ("360+9", HOUR)],
            'api_request_duration_seconds_bucket{le="10"}': [("0+9", 3 * HOUR)],
            'api_request_duration_seconds_bucket{le="+Inf"}': [("0+9", 3 * HOUR)],
        },
        35 * MINUTE,
        (10 * MINUTE, 65 * MINUTE),
        WARNING,
        "One api request in twenty takes longer than 9.75s",
    ),
    "QueueGrows": Case(
        {'openmates_queue_length{queue="email"}': [(1, 5 * MINUTE), ("1+1", 30 * MINUTE), (0, HOUR)]},
        30 * MINUTE,
        (10 * MINUTE, 50 * MINUTE),
        {**WARNING, "queue": "email"},
        "101 tasks wait in the queue email, and they become more",
    ),
    "TasksFail": Case(
        {'celery_task_failures_total{task_name="t",queue="q"}': [(0, 5 * MINUTE), (15, 3 * HOUR)]},
        15 * MINUTE,
        (4 * MINUTE, 22 * MINUTE),
        {**WARNING, "task_name": "t"},
        "t has failed 15 times in 15 minutes",
    ),
    "VaultSealed": Case(
        {
            'vault_core_unsealed{cluster=""}': [(0, 3 * HOUR)],
            # Not reported any more, and not marked as stale: Prometheus was killed.
            'vault_core_unsealed{cluster="vault-cluster-1"}': [(1, 2 * MINUTE), ("_", 10 * MINUTE), (1, 2 * HOUR)],
        },
        4 * MINUTE,
        (2 * MINUTE + 45, 13 * MINUTE),
        {**CRITICAL, "service": "vault"},
        "Vault is sealed, so the backend cannot read its secrets",
    ),
    "VaultTokenEnds": Case(
        bad("openmates_vault_token_seconds", 30 * DAY, HOUR, 20 * MINUTE),
        12 * MINUTE,
        (6 * MINUTE, 25 * MINUTE),
        CRITICAL,
        "The Vault token of the services is valid for 1h 0m 0s only",
    ),
    "CertificateEnds": Case(
        {'openmates_certificate_expires_timestamp_seconds{name="a.b"}': [(8 * DAY, 2 * DAY), (90 * DAY, HOUR)]},
        36 * HOUR,
        (20 * HOUR, 48 * HOUR + 1800),
        {**CRITICAL, "name": "a.b"},
        "The certificate of a.b is valid for 6d 12h 0m 0s only",
        step=300,
    ),
    "BackupOld": Case(
        {
            "openmates_backup_last_success_timestamp_seconds": [(0, 27 * HOUR), (27 * HOUR, 2 * HOUR)],
            "openmates_backup_expected": [(1, 30 * HOUR)],
        },
        26 * HOUR + 30 * MINUTE,
        (25 * HOUR, 27 * HOUR + 10 * MINUTE),
        CRITICAL,
        "The last good backup is 1d 2h 30m 0s old",
        step=300,
    ),
    "BackupMissing": Case(
        {
            "openmates_backup_last_success_timestamp_seconds": [("_", 28 * HOUR), (27 * HOUR, 2 * HOUR)],
            "openmates_backup_expected": [(1, 30 * HOUR)],
        },
        27 * HOUR,
        (25 * HOUR, 28 * HOUR + 10 * MINUTE),
        CRITICAL,
        "There is no good backup yet",
        step=300,
    ),
    "BackupFailed": Case(
        bad("openmates_backup_last_run_success", 1, 0, 20 * MINUTE),
        12 * MINUTE,
        (6 * MINUTE, 25 * MINUTE),
        WARNING,
        "The last backup has failed",
    ),
    "BackupUnproven": Case(
        {
            "openmates_backup_last_proof_timestamp_seconds": [(0, 31 * HOUR), (31 * HOUR, 2 * HOUR)],
            "openmates_backup_expected": [(1, 40 * HOUR)],
        },
        30 * HOUR + 30 * MINUTE,
        (29 * HOUR, 31 * HOUR + 10 * MINUTE),
        WARNING,
        "No backup was restored as a proof for 1d 6h 30m 0s",
        step=300,
    ),
    "BackupProofFailed": Case(
        {
            **bad('openmates_backup_proof_success{part="vault"}', 1, 0, 20 * MINUTE),
            'openmates_backup_proof_unproven{part="vault"}': [(0, 3 * HOUR)],
            'openmates_backup_proof_success{part="cache"}': [(0, 3 * HOUR)],
            'openmates_backup_proof_unproven{part="cache"}': [(1, 3 * HOUR)],
        },
        12 * MINUTE,
        (6 * MINUTE, 25 * MINUTE),
        {**CRITICAL, "part": "vault"},
        "The last backup could not be restored: vault",
    ),
    "Drift": Case(
        bad("openmates_drift_tasks", 0, 2),
        8 * MINUTE,
        (6 * MINUTE, 13 * MINUTE),
        WARNING,
        "2 tasks of site.yml would change the server: it differs from the inventory",
    ),
    "SecurityUpdatesPending": Case(
        {"openmates_security_updates_pending": [(0, HOUR), (3, 30 * HOUR), (0, 2 * HOUR)]},
        28 * HOUR,
        (26 * HOUR, 31 * HOUR + 10 * MINUTE),
        WARNING,
        "3 security updates have not been installed for a day",
        step=300,
    ),
    "RebootRequired": Case(
        {"openmates_reboot_required": [(0, HOUR), (1, 4 * DAY), (0, 2 * HOUR)]},
        80 * HOUR,
        (70 * HOUR, 97 * HOUR + 10 * MINUTE),
        WARNING,
        "An update has waited for a reboot for three days",
        step=300,
    ),
    "DiskFull": Case(
        {
            **bad('node_filesystem_avail_bytes{device="/dev/sda1",mountpoint="/"}', 50, 5, 20 * MINUTE),
            'node_filesystem_size_bytes{device="/dev/sda1",mountpoint="/"}': [(100, 3 * HOUR)],
        },
        10 * MINUTE,
        (6 * MINUTE, 25 * MINUTE),
        {**CRITICAL, "device": "/dev/sda1"},
        "/dev/sda1 has 5% of its space left",
    ),
    "DiskFillsUp": Case(
        {
            'node_filesystem_avail_bytes{device="/dev/sda1"}': [("39-0.1", 10 * HOUR), (80, 12 * HOUR)],
            'node_filesystem_size_bytes{device="/dev/sda1"}': [(100, 30 * HOUR)],
        },
        8 * HOUR,
        (10 * MINUTE, 18 * HOUR),
        {**WARNING, "device": "/dev/sda1"},
        "/dev/sda1 will be full within two days at this rate",
        step=300,
    ),
    "InodesUsedUp": Case(
        {
            **bad('node_filesystem_files_free{device="/dev/sda1"}', 50, 4, 20 * MINUTE),
            'node_filesystem_files{device="/dev/sda1"}': [(100, 3 * HOUR)],
        },
        15 * MINUTE,
        (11 * MINUTE, 25 * MINUTE),
        {**CRITICAL, "device": "/dev/sda1"},
        "/dev/sda1 has 4% of its files left",
    ),
    "HostMemory": Case(
        {
            **bad("node_memory_MemAvailable_bytes", 50, 8, 20 * MINUTE),
            "node_memory_MemTotal_bytes": [(100, 3 * HOUR)],
        },
        15 * MINUTE,
        (11 * MINUTE, 25 * MINUTE),
        WARNING,
        "The server has 8% of its memory left",
    ),
    "MemoryPressure": Case(
        {
            "node_pressure_memory_stalled_seconds_total": [
                *[(0, 2 * MINUTE), ("0+3", 15 * MINUTE), (180, 2 * HOUR)],
            ]
        },
        14 * MINUTE,
        (5 * MINUTE, 25 * MINUTE),
        WARNING,
        "All programs wait for memory 20% of the time",
    ),
    "HostOutOfMemory": Case(
        {"node_vmstat_oom_kill": [(20, 5 * MINUTE), (21, 3 * HOUR)]},
        7 * MINUTE,
        (4 * MINUTE, 17 * MINUTE),
        CRITICAL,
        "The kernel has killed a process for memory",
    ),
    "ClockWrong": Case(
        {**bad("node_timex_sync_status", 1, 0, 30 * MINUTE), "node_timex_offset_seconds": [(0, 3 * HOUR)]},
        20 * MINUTE,
        (16 * MINUTE, 35 * MINUTE),
        WARNING,
        "The clock is not synchronised, on which certificates, tokens and logs depend",
    ),
    "UnitFailed": Case(
        {'openmates_failed_unit{unit="caddy.service"}': [("_", 2 * MINUTE), (1, 20 * MINUTE), ("stale", 15)]},
        10 * MINUTE,
        (6 * MINUTE, 25 * MINUTE),
        {**WARNING, "unit": "caddy.service"},
        "The unit caddy.service has failed",
    ),
    "UnexpectedPort": Case(
        {
            'openmates_unexpected_listener{port="6000",program="nc"}': [
                *[("_", 2 * MINUTE), (1, 20 * MINUTE), ("stale", 15)]
            ]
        },
        10 * MINUTE,
        (6 * MINUTE, 25 * MINUTE),
        {**WARNING, "port": "6000", "program": "nc"},
        "nc listens on port 6000, which is not declared; only the firewall keeps it closed",
    ),
    "Watchdog": Case({'up{job="host"}': [(1, 3 * MINUTE)]}, MINUTE, (), {"severity": "none"}, "Alerts work"),
    "PrometheusStoresNothing": Case(
        {'up{job="host"}': [(1, 5 * MINUTE), ("_", 5 * MINUTE), (1, HOUR)]},
        8 * MINUTE,
        (5 * MINUTE + 45, 10 * MINUTE + 30),
        {**CRITICAL, "service": "prometheus"},
        "Prometheus stores no measurements, so no other alert can begin",
    ),
    "WatcherStopped": Case(
        {'node_textfile_mtime_seconds{file="/run/m/services.prom"}': [(0, 10 * MINUTE), (10 * MINUTE, 2 * MINUTE)]},
        5 * MINUTE,
        (3 * MINUTE, 11 * MINUTE),
        CRITICAL,
        "The state of the services has not been known for 5m 0s: openmates-heal or Docker has stopped",
    ),
    "HostMetricsOld": Case(
        {
            'node_textfile_mtime_seconds{file="/run/m/host.prom"}': [(0, HOUR), (HOUR, 10 * MINUTE)],
            "node_textfile_scrape_error": [(0, 3 * HOUR)],
            'openmates_host_part_failed{part="vault"}': [(0, 3 * HOUR)],
        },
        40 * MINUTE,
        (20 * MINUTE, 65 * MINUTE),
        WARNING,
        "Metrics of the server are missing or old",
    ),
    "PrometheusConfiguration": Case(
        {
            **bad("prometheus_config_last_reload_successful", 1, 0, 20 * MINUTE),
            "prometheus_rule_evaluation_failures_total": [(0, 3 * HOUR)],
        },
        10 * MINUTE,
        (6 * MINUTE, 25 * MINUTE),
        WARNING,
        "Prometheus cannot read its configuration or evaluate a rule",
    ),
    "AlertsNotSent": Case(
        {'alertmanager_notifications_failed_total{receiver_name="mail",reason="other"}': [(0, 5 * MINUTE), (1, HOUR)]},
        15 * MINUTE,
        (9 * MINUTE, 25 * MINUTE),
        {**WARNING, "receiver_name": "mail"},
        "Alerts do not arrive by mail",
    ),
    "LogsLost": Case(
        {
            'loki_discarded_samples_total{reason="too_far_behind"}': [("_", 5 * MINUTE), (57, 3 * HOUR)],
            'loki_discarded_samples_total{reason="rate_limited"}': [("0+99", 3 * HOUR)],
            "promtail_dropped_entries_total": [(0, 3 * HOUR)],
            "loki_write_dropped_entries_total": [(0, 3 * HOUR)],
        },
        15 * MINUTE,
        (4 * MINUTE, 22 * MINUTE),
        WARNING,
        "57 lines of logs were lost in 15 minutes",
    ),
    "LogsStopped": Case(
        {"loki_distributor_lines_received_total": [("0+9", 10 * MINUTE), (360, 30 * MINUTE), ("360+9", HOUR)]},
        32 * MINUTE,
        (22 * MINUTE, 45 * MINUTE),
        CRITICAL,
        "No line of any log has reached Loki for 20 minutes",
    ),
    "LokiCannotWrite": Case(
        {
            "loki_ingester_wal_disk_full_failures_total": [(0, 5 * MINUTE), (1, 3 * HOUR)],
            "loki_ingester_chunks_flush_failures_total": [(0, 3 * HOUR)],
        },
        6 * MINUTE,
        (4 * MINUTE, 22 * MINUTE),
        CRITICAL,
        "Loki cannot write logs to its disk",
    ),
    "LokiKeepsTooMuch": Case(
        {
            "loki_compactor_apply_retention_last_successful_run_timestamp_seconds": [(0, 8 * HOUR), (8 * HOUR, HOUR)],
            'process_start_time_seconds{job="loki"}': [(0, 10 * HOUR)],
        },
        7 * HOUR,
        (5 * HOUR, 8 * HOUR + 10 * MINUTE),
        WARNING,
        "Loki has deleted no old logs for six hours",
        step=300,
    ),
}

"""What the stand-ins demand of the files mounted into them: as much as the real programs would notice at once."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

#: Top-level keys that each program knows. Like the real ones, the stand-ins refuse any other.
LOKI_KEYS = """
    analytics auth_enabled ballast_bytes bloom_build bloom_gateway chunk_store_config common compactor
    compactor_grpc_client distributor frontend frontend_worker index_gateway ingester ingester_client ingester_rf1
    limits_config memberlist metrics_namespace operational_config pattern_ingester profiling querier query_range
    query_scheduler ruler ruler_storage runtime_config schema_config server shutdown_delay storage_config table_manager
    target tracing
"""
PROMTAIL_KEYS = """
    clients global limits_config options positions runtime_config scrape_configs server target_config tracing wal
"""
_VARIABLE = re.compile(r"\$\{(\w+)(?::([^}]*))?\}")


class ConfigError(ValueError):
    """A mounted file that the real program would refuse. The text names the file and what is wrong."""


def read_yaml(path: Path, expand: bool = False) -> dict[str, Any]:
    """A YAML mapping from a file. expand: replace ${NAME} and ${NAME:default} from the environment first."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if expand:
        text = _VARIABLE.sub(lambda match: os.environ.get(match[1], match[2] or ""), text)
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a mapping is expected at the top")
    return data


def _known(path: Path, data: dict[str, Any], keys: str) -> None:
    if unknown := sorted(map(str, set(data) - set(keys.split()))):
        raise ConfigError(f"{path}: unknown key {', '.join(unknown)}")


def _mapping(path: Path, data: dict[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key) or {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {key} must be a mapping")
    return value


def _items(path: Path, data: dict[str, Any], key: str, required: tuple[str, ...]) -> list[dict[str, Any]]:
    """The list under key: at least one mapping, each with the required keys."""
    value = data.get(key)
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{path}: {key} must be a list with at least one entry")
    for item in value:
        if not isinstance(item, dict):
            raise ConfigError(f"{path}: {key}: each entry must be a mapping")
        if missing := [name for name in required if item.get(name) in (None, "")]:
            raise ConfigError(f"{path}: {key}: an entry lacks {', '.join(missing)}")
    return value


def _port(path: Path, data: dict[str, Any], default: int) -> int:
    port = _mapping(path, data, "server").get("http_listen_port", default)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise ConfigError(f"{path}: server.http_listen_port must be a port number, not {port!r}")
    return port


#: Loki's caches: the section that holds each, and its key there. Each takes 100 MB unless its size is given.
LOKI_CACHES = (
    ("chunk_store_config", "chunk_cache_config"),
    *(
        ("query_range", f"{name}results_cache")
        for name in ("", "index_stats_", "volume_", "instant_metric_", "series_", "label_")
    ),
)


def loki_memory(path: Path, data: dict[str, Any], environment: dict[str, str]) -> None:
    """Refuse what was seen to end in an out-of-memory kill at 384 MB: eight queries at once over two hours of logs."""
    for section, key in LOKI_CACHES:
        cache = _mapping(path, data, section).get(key) or {}
        size = ((cache.get("cache") or cache).get("embedded_cache") or {}).get("max_size_mb")
        if not isinstance(size, int) or not 0 < size <= 64:
            raise ConfigError(f"{path}: {section}.{key}: without a max_size_mb of its embedded_cache it takes 100 MB")
    if not 0 < int(_mapping(path, data, "querier").get("max_concurrent", 4)) < 4:
        raise ConfigError(f"{path}: querier.max_concurrent: four queries at once need more memory than there is")
    if not (_mapping(path, data, "ingester").get("wal") or {}).get("replay_memory_ceiling"):
        raise ConfigError(f"{path}: ingester.wal.replay_memory_ceiling: the default is 4 GB")
    if not environment.get("GOMEMLIMIT"):
        raise ConfigError("GOMEMLIMIT is not set: Go does not know the container's memory limit")


def loki(path: Path, expand: bool = False, environment: dict[str, str] | None = None) -> int:
    """Check Loki's configuration; returns its port (default 3100). Raises ConfigError.

    environment: judge the memory that it needs, too.
    """
    data = read_yaml(path, expand)
    _known(path, data, LOKI_KEYS)
    schema = _mapping(path, data, "schema_config")
    for entry in _items(path, schema, "configs", ("from", "store", "object_store", "schema", "index")):
        if not re.fullmatch(r"v1[0-3]|v9", str(entry["schema"])):
            raise ConfigError(f"{path}: schema_config: unknown schema {entry['schema']!r}")
    if not _mapping(path, data, "common") and not _mapping(path, data, "storage_config"):
        raise ConfigError(f"{path}: common or storage_config is required: there is nowhere to store logs")
    if _mapping(path, data, "limits_config").get("deletion_mode") != "disabled":
        raise ConfigError(f"{path}: limits_config.deletion_mode: anything on the network can delete logs, unasked")
    if environment is not None:
        loki_memory(path, data, environment)
    return _port(path, data, 3100)


def promtail(path: Path, expand: bool = False) -> int:
    """Check Promtail's configuration; returns its port (default 80). Raises ConfigError."""
    data = read_yaml(path, expand)
    _known(path, data, PROMTAIL_KEYS)
    for client in _items(path, data, "clients", ("url",)):
        if not re.match(r"https?://[^/]+/", str(client["url"])):
            raise ConfigError(f"{path}: clients: {client['url']!r} is no http(s) address with a path")
        if (client.get("backoff_config") or {}).get("max_retries") != 0:
            raise ConfigError(
                f"{path}: clients: backoff_config.max_retries: logs are dropped after so many; 0 is without end"
            )
    server = _mapping(path, data, "server")
    if not server.get("grpc_listen_port", 9095) and server.get("grpc_listen_address") != "127.0.0.1":
        raise ConfigError(f"{path}: server.grpc_listen_port: 0 is a random port, on all addresses")
    if data.get("scrape_configs"):
        names = [entry["job_name"] for entry in _items(path, data, "scrape_configs", ("job_name",))]
        if len(set(names)) < len(names):
            raise ConfigError(f"{path}: scrape_configs: two jobs of the same name")
        for job in data["scrape_configs"]:
            _streams_stay_apart(path, job.get("pipeline_stages") or [])
    return _port(path, data, 80)


def _streams_stay_apart(path: Path, stages: list[dict[str, Any]]) -> None:
    """Refuse a pipeline that merges containers into one stream: Loki drops a line an hour older than its newest."""
    kept: set[str] = {"filename"}
    for stage in stages:
        kept |= set(stage.get("labels") or {})
        dropped = stage.get("labeldrop") or []
        kept -= set(dropped if isinstance(dropped, list) else [dropped])
    if not kept & {"filename", "container_id"}:
        raise ConfigError(f"{path}: pipeline_stages: filename is dropped without a label container_id in its place")


#: Settings without which Grafana talks to hosts outside, and what they have to be.
GRAFANA_QUIET = {
    "GF_ANALYTICS_REPORTING_ENABLED": "false",
    "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
    "GF_NEWS_NEWS_FEED_ENABLED": "false",
    "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    "GF_SECURITY_DISABLE_GRAVATAR": "true",
    "GF_SNAPSHOTS_EXTERNAL_ENABLED": "false",
}


def grafana_quiet(environment: dict[str, str]) -> None:
    """Refuse an environment with which Grafana would call out, which no lab shows. Raises ConfigError."""
    for name, value in GRAFANA_QUIET.items():
        if environment.get(name) != value:
            raise ConfigError(f"{name}: without {value!r} Grafana talks to grafana.com or gravatar.com")


def grafana(provisioning: Path) -> list[dict[str, Any]]:
    """Check Grafana's provisioning folder; returns its data sources (name, type, url). Raises ConfigError."""
    sources: list[dict[str, Any]] = []
    for path in _yaml_files(provisioning / "datasources"):
        data = read_yaml(path, expand=True)
        if data.get("apiVersion") != 1:
            raise ConfigError(f"{path}: apiVersion: 1 is expected")
        if data.get("datasources"):
            sources += _items(path, data, "datasources", ("name", "type"))
    if sum(bool(source.get("isDefault")) for source in sources) > 1:
        raise ConfigError(f"{provisioning}/datasources: only one data source may be the default")
    for path in _yaml_files(provisioning / "dashboards"):
        data = read_yaml(path, expand=True)
        if data.get("apiVersion") != 1:
            raise ConfigError(f"{path}: apiVersion: 1 is expected")
        _items(path, data, "providers", ("name",))
    return [{key: source.get(key) for key in ("name", "type", "url")} for source in sources]


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in (".yml", ".yaml"))


def admin_password(environment: dict[str, str]) -> str:
    """Grafana's admin password from GF_SECURITY_ADMIN_PASSWORD__FILE or GF_SECURITY_ADMIN_PASSWORD. Raises ConfigError.

    The real one falls back to `admin`; the stand-in refuses, so that a lost secret shows.
    """
    file = environment.get("GF_SECURITY_ADMIN_PASSWORD__FILE")
    if file and environment.get("GF_SECURITY_ADMIN_PASSWORD"):
        raise ConfigError("both GF_SECURITY_ADMIN_PASSWORD and GF_SECURITY_ADMIN_PASSWORD__FILE are set")
    password = environment.get("GF_SECURITY_ADMIN_PASSWORD", "")
    if file:
        try:
            password = Path(file).read_text(encoding="utf-8").rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"GF_SECURITY_ADMIN_PASSWORD__FILE: {file}: {getattr(error, 'strerror', error)}"
            ) from None
    if not password:
        raise ConfigError("no admin password: set GF_SECURITY_ADMIN_PASSWORD__FILE to a file that is not empty")
    return password

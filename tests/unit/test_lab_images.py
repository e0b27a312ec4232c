"""The lab's images: recipe hashes, the catalogue's rows, Dragonfly's flags, and stand-ins that refuse bad files."""

from __future__ import annotations

import base64
import importlib
import importlib.util
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

LAB = Path(__file__).resolve().parents[2] / "lab"

# The service catalogue's images, typed in from the working agreement rather than read from the project's data.
CATALOGUE = {
    "ghcr.io/glowingkitty/openmates-api:v0.14.0": "glowingkitty/openmates-api:v0.14.0",
    "ghcr.io/glowingkitty/openmates-cms-setup:v0.14.0": "glowingkitty/openmates-cms-setup:v0.14.0",
    "ghcr.io/glowingkitty/openmates-app-sample:lab": "glowingkitty/openmates-app-sample:lab",
    "directus/directus:11.17.4": "directus/directus:11.17.4",
    "postgres:17.12-alpine": "library/postgres:17.12-alpine",
    "docker.dragonflydb.io/dragonflydb/dragonfly:v1.40.2": "dragonflydb/dragonfly:v1.40.2",
    "openbao/openbao:2.7.2": "openbao/openbao:2.7.2",
    "prom/prometheus:v3.13.4": "prom/prometheus:v3.13.4",
    "prom/alertmanager:v0.34.2": "prom/alertmanager:v0.34.2",
    "grafana/loki:3.7.8": "grafana/loki:3.7.8",
    "grafana/promtail:3.6.11": "grafana/promtail:3.6.11",
    "grafana/grafana:13.2.3": "grafana/grafana:13.2.3",
    "ghcr.io/google/cadvisor:0.60.5": "google/cadvisor:0.60.5",
}
STAND_INS = {"api", "cms-setup", "cache", "loki", "promtail", "grafana"}


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_load("lab_images", LAB / "lab_images/__init__.py")  # a package: what it holds is imported by its name
builder, catalogue, foreign, local, recipe, registry, watch = (
    importlib.import_module(f"lab_images.{name}")
    for name in ("builder", "catalogue", "foreign", "local", "recipe", "registry", "watch")
)
LabError = sys.modules["lab_images"].LabError
dragonfly = _load("lab_dragonfly", LAB / "images/dragonfly/dragonfly.py")
standin = _load("lab_standin", LAB / "images/standin/standin.py")
checks = standin.checks


# --- rows ---------------------------------------------------------------------------------------------------------


def test_every_catalogue_image_has_one_row() -> None:
    rows, _ = catalogue.load()
    assert sorted(row.image for row in rows.values() if row.image) == sorted(CATALOGUE)


def test_every_row_has_a_recipe() -> None:
    rows, _ = catalogue.load()
    for row in rows.values():
        file = LAB / "images" / row.recipe / ("Dockerfile" if row.parent else "rootfs.sh")
        assert file.is_file(), f"{row.name}: {file} is missing"


def test_stand_ins_say_so() -> None:
    rows, _ = catalogue.load()
    assert {row.name for row in rows.values() if row.stand_in} == STAND_INS


@pytest.mark.parametrize(("image", "path"), CATALOGUE.items())
def test_registry_path_keeps_name_and_tag(image: str, path: str) -> None:
    assert registry.registry_path(image) == path


def test_wanted_adds_parents_and_refuses_strangers() -> None:
    rows, _ = catalogue.load()
    assert [row.name for row in catalogue.wanted(["cache"], rows)] == ["base", "python", "cache"]
    with pytest.raises(LabError, match="no such image: nginx"):
        catalogue.wanted(["nginx"], rows)


def test_the_program_runs_from_any_directory_and_reports_errors(tmp_path: Path) -> None:
    command = [sys.executable, str(LAB / "images.py"), "list", "nginx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("images: no such image: nginx; there are base, python,")


def test_unknown_parent_or_field_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "images.yml"
    file.write_text("probe: x\nimages: {a: {parent: b, software: s, version: v}}\n")
    with pytest.raises(LabError, match="parent b has no row"):
        catalogue.load(file)
    file.write_text("probe: x\nimages: {a: {softwere: s, version: v}}\n")
    with pytest.raises(LabError, match="softwere"):
        catalogue.load(file)


# --- hashes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    for file in ("images/base/rootfs.sh", "images/app/Dockerfile", "images/other/Dockerfile", "backend/main.py"):
        path = tmp_path / file
        path.parent.mkdir(parents=True)
        path.write_text(file)
    return tmp_path


ROWS = {
    "base": catalogue.Image("base", "base", "s", "v"),
    "app": catalogue.Image("app", "app", "s", "v", parent="base", context="backend"),
    "other": catalogue.Image("other", "other", "s", "v", parent="base"),
}


def _hashes(lab: Path, rows: dict = ROWS, extra: tuple[str, ...] = ()) -> dict[str, str]:
    return {name: recipe.recipe_hash(row, rows, extra, lab) for name, row in rows.items()}


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("images/app/Dockerfile", {"app"}),
        ("images/app/added", {"app"}),
        ("backend/main.py", {"app"}),
        ("backend/package/new.py", {"app"}),
        ("images/other/Dockerfile", {"other"}),
        ("images/base/rootfs.sh", {"base", "app", "other"}),
        ("backend/__pycache__/main.pyc", set()),
    ],
)
def test_hash_follows_recipe_context_and_parent(lab: Path, file: str, changed: set[str]) -> None:
    before = _hashes(lab)
    path = lab / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("changed")
    after = _hashes(lab)
    assert {name for name in ROWS if before[name] != after[name]} == changed


def test_hash_follows_mode_row_and_authorities(lab: Path) -> None:
    before = _hashes(lab)
    assert before == _hashes(lab), "the same input must give the same hash"
    (lab / "images/app/Dockerfile").chmod(0o755)
    assert _hashes(lab)["app"] != before["app"]
    changed = {**ROWS, "other": catalogue.Image("other", "other", "s", "v", parent="base", cmd=["x"])}
    assert _hashes(lab, changed)["other"] != before["other"]
    assert all(_hashes(lab, extra=("ca",))[name] != before[name] for name in ROWS)


def test_missing_context_is_named(lab: Path) -> None:
    shutil.rmtree(lab / "backend")
    with pytest.raises(LabError, match="backend is missing"):
        _hashes(lab)


def test_only_the_controllers_own_authorities_count(tmp_path: Path) -> None:
    def pem(body: str) -> str:
        return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"

    public = tmp_path / "public"
    public.mkdir()
    (public / "known.crt").write_text(pem("a25vd24="))
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("# a comment\n" + pem("a25vd24=") + pem("b3du"))
    found = recipe.authorities(bundle, public)
    assert [text.split()[2] for text in found.values()] == ["b3du"]
    assert recipe.authorities(tmp_path / "absent", public) == {}


# --- order of work ------------------------------------------------------------------------------------------------


class _Recorder(builder.Builder):
    """A builder that only records what it would build."""

    def __init__(self, failing: str = "") -> None:
        self.rows, self.order, self.failing = ROWS, [], failing
        self.watch = watch.Watch()

    def ask_upstream(self, chosen: list) -> None:
        pass

    def make(self, row: catalogue.Image, registry: str | None) -> None:
        self.order.append(row.name)
        if row.name == self.failing:
            raise LabError(f"{row.name} is broken")


def test_parents_are_made_first_then_the_catalogues_order() -> None:
    builder = _Recorder()
    builder.make_all([ROWS["app"], ROWS["other"], ROWS["base"]], None, jobs=1)
    assert builder.order == ["base", "app", "other"]


def test_a_failure_ends_the_work_and_is_reported() -> None:
    builder = _Recorder(failing="app")
    with pytest.raises(LabError, match="app is broken"):
        builder.make_all(list(ROWS.values()), None, jobs=1)
    assert builder.order == ["base", "app"]


def test_recipes_do_nothing_when_a_tool_runs_every_executable_it_finds() -> None:
    # Ansible does just that with a folder that is mistaken for an inventory.
    executable = [path for path in (LAB / "images").rglob("*") if path.is_file() and path.stat().st_mode & 0o111]
    assert executable == []


# --- Dragonfly's flags --------------------------------------------------------------------------------------------


def _valkey(*arguments: str, cores: int = 2) -> list[str]:
    return dragonfly.configuration(dragonfly.parse(list(arguments)), cores).splitlines()


def test_dragonfly_flags_of_the_compose_file(tmp_path: Path) -> None:
    file = tmp_path / "dragonfly.flags"
    file.write_text('# secret\n--requirepass=se"cret \\é\n')
    lines = _valkey(
        f"--flagfile={file}", "--proactor_threads=2", "--maxmemory=512mb", "--dir=/data", "--dbfilename=dump",
        "--snapshot_cron=*/5 * * * *", "--nodf_snapshot_format", "--logtostderr",
    )  # fmt: skip
    for line in (
        "maxmemory 536870912", "maxmemory-policy noeviction", 'dir "/data"', 'dbfilename "dump.rdb"', "save 300 1",
        'logfile ""', 'requirepass "se\\x22cret\\x20\\x5c\\xc3\\xa9"', "port 6379",
    ):  # fmt: skip
        assert line in lines


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--port", "6380"], "port 6380"),
        (["-port=1", "-port=6381"], "port 6381"),
        (["--cache_mode"], "maxmemory-policy allkeys-lru"),
        (["--cache_mode=true", "--nocache_mode"], "maxmemory-policy noeviction"),
        (["--snapshot_cron=0 */2 * * *"], "save 7200 1"),
        ([], 'save ""'),
        ([], 'dbfilename "dump.rdb"'),
        ([], 'logfile "/tmp/dragonfly.INFO"'),
        (["--alsologtostderr"], 'logfile ""'),
        (["--maxmemory=1G", "--proactor_threads=4"], "maxmemory 1073741824"),
    ],
)
def test_dragonfly_flag_spellings(arguments: list[str], line: str) -> None:
    assert line in _valkey("--nodf_snapshot_format", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--requirepas=x"], "unknown command line flag 'requirepas'"),
        (["stray"], "unexpected argument"),
        (["--port"], "missing the value"),
        (["--port=many"], "illegal value 'many'"),
        (["--cache_mode=maybe"], "illegal value 'maybe'"),
        (["--maxmemory=lots"], "is not a size"),
        (["--maxmemory=511mb", "--proactor_threads=2"], "512 MiB are required"),
        (["--maxmemory=512mb"], "4 threads, so 1024 MiB"),
        (["--snapshot_cron=0 3 * * 1", "--nodf_snapshot_format"], "snapshot_cron"),
        (["--flagfile=/nonexistent"], "cannot read flag file"),
        (["--maxmemory=1G"], "use --nodf_snapshot_format"),
    ],
)
def test_dragonfly_refuses(arguments: list[str], message: str) -> None:
    with pytest.raises(dragonfly.FlagError, match=message):
        _valkey(*arguments, cores=4)


def test_dragonfly_flag_file_that_includes_itself(tmp_path: Path) -> None:
    file = tmp_path / "flags"
    file.write_text(f"--flagfile={file}\n")
    with pytest.raises(dragonfly.FlagError, match="include one another"):
        _valkey(f"--flagfile={file}")


# --- stand-ins ----------------------------------------------------------------------------------------------------

LOKI = """
auth_enabled: false
server: {http_listen_port: 3101}
common: {path_prefix: /loki}
querier: {max_concurrent: 2}
ingester: {wal: {replay_memory_ceiling: 128MB}}
limits_config: {deletion_mode: disabled}
chunk_store_config: {chunk_cache_config: {embedded_cache: {enabled: true, max_size_mb: 32}}}
query_range:
  results_cache: &cache {cache: {embedded_cache: {enabled: true, max_size_mb: 8}}}
  index_stats_results_cache: *cache
  volume_results_cache: *cache
  instant_metric_results_cache: *cache
  series_results_cache: *cache
  label_results_cache: *cache
schema_config:
  configs: [{from: 2024-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {period: 24h}}]
"""
PROMTAIL = """
server: {http_listen_port: 9080}
clients: [{url: "http://loki:3100/loki/api/v1/push", backoff_config: {max_retries: 0}}]
scrape_configs: [{job_name: containers, pipeline_stages: [{docker: {}}]}]
"""


def _file(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_loki_and_promtail_take_good_configs(tmp_path: Path) -> None:
    loki = _file(tmp_path / "loki.yml", LOKI)
    port, routes = standin.prepare("loki", [f"-config.file={loki}"], {"GOMEMLIMIT": "300MiB"})
    assert port == 3101 and routes["/ready"]({})[0] == 200
    promtail = _file(tmp_path / "promtail.yml", PROMTAIL)
    port, routes = standin.prepare("promtail", ["--config.file", str(promtail)], {})
    assert port == 9080 and routes["/ready"]({})[0] == 200


@pytest.mark.parametrize(
    ("check", "text", "message"),
    [
        ("loki", "a: [", "no valid YAML"),
        ("loki", "- a\n", "a mapping is expected"),
        ("loki", LOKI.replace("schema_config", "schema_konfig"), "unknown key schema_konfig"),
        ("loki", "common: {path_prefix: /loki}\n", "schema_config|configs must be a list"),
        ("loki", LOKI.replace("common: {path_prefix: /loki}", ""), "common or storage_config"),
        ("loki", LOKI.replace("v13", "v99"), "unknown schema"),
        ("loki", LOKI.replace("3101", "none"), "http_listen_port"),
        ("loki", LOKI.replace("deletion_mode: disabled", "retention_period: 1h"), "deletion_mode"),
        ("promtail", PROMTAIL.replace("clients", "client"), "unknown key client"),
        ("promtail", "server: {http_listen_port: 9080}\n", "clients must be a list"),
        ("promtail", PROMTAIL.replace("http://", ""), "no http"),
        ("promtail", PROMTAIL.replace("job_name", "name"), "lacks job_name"),
        ("promtail", PROMTAIL.replace(", backoff_config: {max_retries: 0}", ""), "max_retries"),
        ("promtail", PROMTAIL.replace("9080", "9080, grpc_listen_port: 0"), "random port"),
        ("promtail", PROMTAIL.replace("{docker: {}}", "{labeldrop: [filename]}"), "without a label container_id"),
    ],
)
def test_log_stand_ins_refuse(tmp_path: Path, check: str, text: str, message: str) -> None:
    with pytest.raises(checks.ConfigError, match=message):
        getattr(checks, check)(_file(tmp_path / "config.yml", text))


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        (LOKI.replace("max_size_mb: 32", "ttl: 1h"), {"GOMEMLIMIT": "300MiB"}, "chunk_cache_config.*takes 100 MB"),
        (LOKI.replace("  label_results_cache: *cache\n", ""), {"GOMEMLIMIT": "300MiB"}, "label_results_cache"),
        (LOKI.replace("max_concurrent: 2", "max_concurrent: 8"), {"GOMEMLIMIT": "300MiB"}, "max_concurrent"),
        (LOKI.replace("{replay_memory_ceiling: 128MB}", "{}"), {"GOMEMLIMIT": "300MiB"}, "replay_memory_ceiling"),
        (LOKI, {}, "GOMEMLIMIT"),
    ],
)
def test_loki_refuses_what_does_not_fit_its_memory(
    tmp_path: Path, text: str, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(checks.ConfigError, match=message):
        standin.prepare("loki", [f"-config.file={_file(tmp_path / 'loki.yml', text)}"], environment)


def test_the_projects_own_files_are_taken() -> None:
    files = LAB.parent / "files/compose/config"
    assert checks.loki(files / "loki/loki.yml", environment={"GOMEMLIMIT": "299MiB"}) == 3100
    assert checks.promtail(files / "promtail/promtail.yml") == 9080


def test_lokis_own_health_check(monkeypatch: pytest.MonkeyPatch) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/ready" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    assert standin.loki_health({"health.url": f"{url}/ready"}) == 0
    assert standin.loki_health({"health.url": f"{url}/other"}) == 1
    server.shutdown()
    server.server_close()
    assert standin.loki_health({"health.url": f"{url}/ready"}) == 1


def test_expansion_is_opt_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _file(tmp_path / "loki.yml", LOKI.replace("3101", "${LOKI_PORT:3102}"))
    assert checks.loki(file, expand=True) == 3102
    monkeypatch.setenv("LOKI_PORT", "3103")
    assert checks.loki(file, expand=True) == 3103
    with pytest.raises(checks.ConfigError):
        checks.loki(file)


@pytest.mark.parametrize("service", sorted(standin.BARE_FLAGS))
def test_unknown_flag_and_missing_value_are_refused(service: str) -> None:
    with pytest.raises(checks.ConfigError, match="unknown argument"):
        standin.flags(service, ["--no-such-flag=1"])
    valued = standin.VALUED_FLAGS[service].split()[0]
    with pytest.raises(checks.ConfigError, match="needs an argument"):
        standin.flags(service, [f"-{valued}"])


def _grafana(tmp_path: Path, datasources: str, password: str = "secret\n") -> tuple[int, dict]:
    _file(tmp_path / "provisioning/datasources/all.yml", datasources)
    environment = {
        **checks.GRAFANA_QUIET,
        "GF_PATHS_DATA": str(tmp_path),
        "GF_PATHS_PROVISIONING": str(tmp_path / "provisioning"),
        "GF_SECURITY_ADMIN_PASSWORD__FILE": str(_file(tmp_path / "password", password)),
    }
    return standin.prepare("grafana", [], environment)


DATASOURCES = "apiVersion: 1\ndatasources: [{name: <Loki>, type: loki, url: 'http://loki:3100'}]\n"


def test_grafana_lists_data_sources_and_honours_the_password(tmp_path: Path) -> None:
    port, routes = _grafana(tmp_path, DATASOURCES)
    assert port == 3000 and routes["/api/health"]({})[0] == 200
    assert "tand-in" in routes["/"]({})[2] and "&lt;Loki&gt; (loki)" in routes["/"]({})[2]
    assert routes["/api/datasources"]({})[0] == 401
    assert routes["/api/datasources"]({"Authorization": "Basic YWRtaW46d3Jvbmc="})[0] == 401
    assert routes["/api/datasources"]({"Authorization": "Basic YWRtaW46c2VjcmV0"})[0] == 200


def _status(routes: dict, password: str) -> int:
    token = base64.b64encode(f"admin:{password}".encode()).decode()
    return routes["/api/datasources"]({"Authorization": f"Basic {token}"})[0]


def test_grafana_reads_its_password_at_the_first_start_only(tmp_path: Path) -> None:
    _grafana(tmp_path, DATASOURCES, "first\n")
    _, routes = _grafana(tmp_path, DATASOURCES, "second\n")
    assert (_status(routes, "first"), _status(routes, "second")) == (200, 401)
    arguments = ["cli", "--homepath", "/usr/share/grafana", "admin", "reset-admin-password", "--password-from-stdin"]
    standin.grafana_cli(arguments, {"GF_PATHS_DATA": str(tmp_path)}, "second")
    assert (_status(routes, "first"), _status(routes, "second")) == (401, 200)
    with pytest.raises(checks.ConfigError, match="unknown command"):
        standin.grafana_cli(["cli", "admin", "reset-admin-password", "second"], {}, "")


@pytest.mark.parametrize("name", sorted(checks.GRAFANA_QUIET))
def test_grafana_refuses_to_call_out(tmp_path: Path, name: str) -> None:
    environment = {key: value for key, value in checks.GRAFANA_QUIET.items() if key != name}
    with pytest.raises(checks.ConfigError, match=name):
        standin.prepare("grafana", [], environment | {"GF_PATHS_DATA": str(tmp_path)})


@pytest.mark.parametrize(
    ("datasources", "password", "message"),
    [
        (DATASOURCES.replace("apiVersion: 1", "version: 1"), "x", "apiVersion"),
        (DATASOURCES.replace("type: loki, ", ""), "x", "lacks type"),
        ("a: [", "x", "no valid YAML"),
        (DATASOURCES, "\n", "no admin password"),
    ],
)
def test_grafana_refuses(tmp_path: Path, datasources: str, password: str, message: str) -> None:
    with pytest.raises(checks.ConfigError, match=message):
        _grafana(tmp_path, datasources, password)


# --- images that a developer built --------------------------------------------------------------------------------


class Engine:
    """Docker as local.py uses it: images of this machine, of the registry and of the lab host, id by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.local: dict[str, str] = {}
        self.registry: dict[str, str] = {}
        self.host: dict[str, str] = {}
        monkeypatch.setattr(local, "docker", self.docker)
        monkeypatch.setattr(local, "image_id", self.local.get)
        monkeypatch.setattr(local, "in_registry", lambda _registry, path: self.registry.get(path))

    def docker(self, *words: str, timeout: float = 0) -> subprocess.CompletedProcess:
        done, output = 0, ""
        match words:
            case ("tag", identity, target):
                self.local[target] = identity
            case ("push", _, target):
                self.registry[target.partition("/")[2]] = self.local[target]
            case ("rmi", _, target):
                del self.local[target]
            case ("exec", "lab", "docker", "image", "inspect", _, _, target):
                done, output = (0, self.host[target]) if target in self.host else (1, "")
            case ("exec", "lab", "docker", "pull", _, target):
                self.host[target] = self.registry[target.partition("/")[2]]
        return subprocess.CompletedProcess(words, done, output, "")


def test_an_image_of_the_local_engine_reaches_the_lab_host_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch)
    engine.local["openmates-api:dev"] = "sha256:new"
    assert local.offer(["openmates-api:dev"], {}, "loopback") == {"openmates-api:dev": "sha256:new"}
    assert engine.registry == {"library/openmates-api:dev": "sha256:new"}
    assert engine.local == {"openmates-api:dev": "sha256:new"}


def test_a_rebuilt_image_replaces_the_one_that_the_host_has(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch)
    engine.registry["library/openmates-api:dev"] = "sha256:new"
    images = {"openmates-api:dev": "sha256:new"}
    assert local.refresh("lab", images, "registry.test") == []  # the host pulls it when it first needs it
    engine.host["registry.test/library/openmates-api:dev"] = "sha256:old"
    assert local.refresh("lab", images, "registry.test") == ["openmates-api:dev"]
    assert local.refresh("lab", images, "registry.test") == []


def test_an_image_that_nothing_has_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    Engine(monkeypatch)
    with pytest.raises(LabError, match=r"openmates-api:typo: neither the local Docker engine (.*)Build it"):
        local.offer(["openmates-api:typo"], {}, "loopback")


def test_the_catalogue_s_own_images_are_left_to_the_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, (rows, _) = Engine(monkeypatch), catalogue.load()
    name, path = "ghcr.io/glowingkitty/openmates-api:v0.14.0", "glowingkitty/openmates-api:v0.14.0"
    engine.local[name], engine.registry[path] = "sha256:other", "sha256:built"
    assert local.offer([name], rows, "loopback") == {name: "sha256:built"}
    assert engine.registry == {path: "sha256:built"}


# --- what is shown meanwhile --------------------------------------------------------------------------------------


def test_a_build_is_shown_with_its_step_and_time(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    log = tmp_path / "api.log"
    log.write_text("Step 1/9 : FROM x\n ---> 12\nStep 4/9 : RUN make all\nwarning: Step 9\n")
    shown = watch.Watch(every=0.1)
    with shown.watching(), shown.doing("api", "building", log), shown.doing("cms", "pushing cms:1"):
        time.sleep(0.4)
    lines = capsys.readouterr().out.splitlines()
    assert "api: building, step 4 of 9, RUN make all, 0 s" in lines
    assert "cms: pushing cms:1, 0 s" in lines
    assert shown.lines() == []


def test_a_long_step_is_cut_and_a_log_without_one_says_nothing() -> None:
    assert watch.step("Step 2/3 : RUN " + "word " * 40).endswith(" word w...")
    assert watch.step("fetching") == ""

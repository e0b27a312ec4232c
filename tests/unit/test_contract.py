"""The contract gate: each kind of gap is found, and gone once it is fixed; sources, acceptances and exit codes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import contract_sample as sample  # noqa: E402

from contract import __main__ as program  # noqa: E402
from contract import accepted, compose, routes, vault  # noqa: E402
from contract.findings import BREAKS, INFO, NEW, ContractError, Finding  # noqa: E402
from contract.project import Project  # noqa: E402
from contract.source import open_tree  # noqa: E402


def found(level: str = BREAKS, *, files: dict[str, str] | None = None, **project: object) -> set[str]:
    """Identities of the findings of that level; what is given replaces a part of either side."""
    upstream = sample.upstream(**(files or {}))
    return {entry.identity for entry in program.findings(upstream, sample.project(**project)) if entry.level == level}


def without(text: str, pattern: str) -> str:
    changed = re.sub(pattern, "", text)
    assert changed != text, pattern
    return changed


def compose_without(pattern: str) -> dict:
    return {"compose": without(sample.COMPOSE, pattern)}


def secrets_without(name: str) -> dict:
    return {"secrets": {service: [word for word in words if word != name] for service, words in sample.SECRETS.items()}}


def test_a_project_that_gives_everything_has_no_gap() -> None:
    assert found() == set()


# What is taken away from the project that gives everything, and what has to be found then.
GAPS = {
    "a login that .env.example names": (
        compose_without(r"ADMIN_LOGIN: a@example.org\n +(?=LINKS)"), "environment/api/ADMIN_LOGIN",
    ),
    "a variable the code fails without": (secrets_without("ADMIN_WORD"), "environment/api/ADMIN_WORD"),
    "a link to OpenMates' own site": (compose_without(r"LINKS: .*"), "environment/api/LINKS"),
    "such a link as a function's fallback": (compose_without(r"FRONT: .*"), "environment/api/FRONT"),
    "a switch that is on": (compose_without(r"TRACING: .*"), "environment/api/TRACING"),
    "a host that is not there": (compose_without(r"LENS_URL: .*"), "environment/api/LENS_URL"),
    "a secret in the source": (secrets_without("SALT_SECRET"), "environment/api/SALT_SECRET"),
    "a variable of their Compose file": (compose_without(r"MODE: a(?=\n)"), "environment/api/MODE"),
    "an origin that a list lacks": (compose_without(r",https://www.example.org"), "environment/api/ORIGINS/list"),
    "a code that would be made up": (secrets_without("FIRST_CODE"), "environment/cms-setup/FIRST_CODE"),
    "a mount that is asked for": (
        {"policy": without(sample.POLICY, r'(?s)path "sys.*?\}')}, "vault/sys/mounts/transit/read",
    ),
    "a path that is written to": (
        {"policy": without(sample.POLICY, r'(?s)path "kv/data/providers/push.*?\}')},
        "vault/kv/data/providers/push/write",
    ),
    "a redirect as health path": (
        {"caddyfile": sample.CADDYFILE.replace("/v1/health", "/health")}, "routes/health",
    ),
    "a health path that does not exist": (
        {"caddyfile": sample.CADDYFILE.replace("/v1/health", "/ready")}, "routes/ready",
    ),
    "a probe that shares its limit": (
        {"caddyfile": without(sample.CADDYFILE, r"X-Forwarded-For.*")}, "routes/v1/health/limit",
    ),
    "what must not be public": ({"caddyfile": without(sample.CADDYFILE, "/internal/\\*")}, "routes/internal"),
    "numbers that must not be public": ({"caddyfile": without(sample.CADDYFILE, "/metrics/\\*")}, "routes/metrics"),
    "a queue without a worker": (compose_without(r",push"), "queues/push"),
    "a queue that no code has": (
        {"compose": sample.COMPOSE.replace("mail,push", "mail,push,male")}, "queues/male/unknown",
    ),
    "a volume": (compose_without("api-logs:/app/logs, "), "volumes/api/app/logs"),
    "a tmpfs in place of a volume": (
        {"compose": sample.COMPOSE.replace("api-logs:/app/logs, ", "").replace("[/tmp]", "[/tmp, /app/logs]")},
        "volumes/api/app/logs",
    ),
    "a folder that is written to": (compose_without(", shared-cache:/shared/cache"), "volumes/api/shared/cache"),
    "time to stop": (compose_without("stop_grace_period: 30s"), "services/api/stop"),
    "an image of their own": (
        {"compose": sample.COMPOSE.replace("ghcr.io/glowingkitty/openmates-cms-setup:v1", "directus/directus:11.17")},
        "images/cms-setup",
    ),
    "root without capabilities": (
        {"compose": re.sub(r'(cms-setup:v1)\n    user: "1000:1000"', r"\1", sample.COMPOSE)}, "images/cms-setup/user",
    ),
    "a module that is not there": (
        {"compose": sample.COMPOSE.replace("backend.core.api.main:app", "backend.core.api.mainly:app")},
        "services/api/command",
    ),
    "a program that is not in the image": (
        {"compose": sample.COMPOSE.replace("setup_schemas.py", "setup_all.py")}, "images/cms-setup/setup_all.py",
    ),
    "a setting of Directus": (compose_without('SKIP: "true", '), "directus/SKIP"),
}  # fmt: skip


@pytest.mark.parametrize("name", GAPS)
def test_each_gap_is_found(name: str) -> None:
    project, identity = GAPS[name]
    assert found(**project) == {identity}


@pytest.mark.parametrize("probe", ["curl http://127.0.0.1:8000", "bash /openmates/http-alive.sh 8000 "])
def test_the_container_may_ask_in_several_ways(probe: str) -> None:
    old = re.sub(r"\{test: .*\}", f"{{test: '{probe}/health'}}", sample.COMPOSE)
    assert found(compose=old) == {"routes/health"}


def test_a_finding_names_its_place_on_both_sides() -> None:
    findings = program.findings(sample.upstream(), sample.project(**compose_without(r"LINKS: .*")))
    (finding,) = [entry for entry in findings if entry.identity == "environment/api/LINKS"]
    assert finding.upstream.startswith("backend/core/api/main.py:7")
    assert finding.here == "files/compose/docker-compose.yml.j2: x-backend.environment"
    assert "api, task-worker, task-scheduler" in finding.problem


def test_what_needs_a_decision_and_what_is_only_worth_knowing() -> None:
    assert found(NEW) == {"services/telescope"}
    information = found(INFO)
    assert {"environment/api/HARMLESS", "vault/sys/mounts/transit/wider", "directus/schemas"} <= information
    assert not {
        entry for entry in information if "ONLY_IN_TESTS" in entry or "FROM_IMAGE" in entry or "sys/commented" in entry
    }


def test_an_image_of_their_own_for_directus_breaks_and_names_its_extensions() -> None:
    path = "backend/core/docker-compose.selfhost.yml"
    changed = {
        path: sample.FILES[path].replace("directus/directus:11.5", "ghcr.io/glowingkitty/openmates-directus:v2"),
        "backend/core/directus/extensions/recovery/package.json": "{}",
    }
    findings = {entry.identity: entry for entry in program.findings(sample.upstream(**changed), sample.project())}
    assert findings["images/cms"].level == BREAKS
    assert "with the extensions recovery" in findings["images/cms"].problem


def test_credentials_that_a_new_cms_setup_needs_break() -> None:
    path = "backend/core/directus/setup/setup_schemas.py"
    code = sample.FILES[path] + 'PASSWORD = os.getenv("DB_PASSWORD") or os.getenv("DATABASE_PASSWORD")\n'
    changed = {path: code, ".env.example": sample.FILES[".env.example"] + "DATABASE_PASSWORD=\n"}
    assert found(files=changed) == {"environment/cms-setup/DATABASE_PASSWORD"}
    secrets = {**sample.SECRETS, "cms-setup": ["FIRST_CODE", "DB_PASSWORD"]}
    assert found(files=changed, secrets=secrets) == set()


def test_a_default_that_differs_between_places_breaks() -> None:
    code = 'import os\nA = os.getenv("KIND", "production")\nB = os.getenv("KIND", "development")\n'
    assert found(files={"backend/apps/one.py": code}) == {"environment/api/KIND"}


def test_python_that_cannot_be_read_is_reported() -> None:
    identities = found(NEW, files={"backend/apps/future.py": "import os\nos.getenv('X' in 4 5\n"})
    assert "environment/unread/backend/apps/future.py" in identities


def test_the_innermost_mount_counts() -> None:
    text = "services: {a: {tmpfs: [/app], volumes: [logs:/app/logs, {source: x, target: /data}]}}"
    service = compose.services(text, "file")["a"]
    places = ("/app/logs/audit.log", "/app/other", "/data", "/datax", "/app/logs")
    assert [service.mount_of(place) for place in places] == ["/app/logs", "/app", "/data", "", "/app/logs"]


def test_the_most_specific_policy_counts() -> None:
    rules = vault.rules('path "kv/data/a/*" { capabilities = ["read"] } path "kv/data/a/b" { capabilities = ["deny"] }')
    assert vault.allowed("kv/data/a/c", rules) == {"read"}
    assert vault.allowed("kv/data/a/b", rules) == {"deny"}
    assert vault.allowed("kv/data/b", rules) == set()
    assert vault.allowed("kv/x/y", {"kv/+/y": {"list"}}) == {"list"}


# ---------------------------------------------------------------- where OpenMates' files come from


def test_every_kind_of_source_gives_the_same_files(tmp_path: Path) -> None:
    wanted = {path: text for path, text in sample.FILES.items() if not path.startswith("frontend/")}
    checkout = sample.write(tmp_path / "checkout")
    sources = [
        open_tree(checkout),
        open_tree(sample.tar(tmp_path, "OpenMates-1.0/")),
        open_tree(sample.zipped(tmp_path, "")),
        open_tree(sample.bare(tmp_path), "v1"),
    ]
    for tree in sources:
        assert {path: tree.load(path) for path in tree.paths} == wanted, tree.name


def test_a_revision_of_a_bare_repository(tmp_path: Path) -> None:
    repository = sample.bare(tmp_path)
    assert "backend/core/api/app/internal.py" in open_tree(repository)
    assert "backend/core/api/app/internal.py" not in open_tree(repository, "later")


@pytest.mark.parametrize(
    ("make", "revision", "said"),
    [
        (lambda folder: folder / "absent", "", "does not exist"),
        (lambda folder: folder, "", "not a checkout"),
        (lambda folder: sample.write(folder / "c"), "v1", "not a Git repository"),
        (lambda folder: sample.zipped(folder, ""), "v1", "it holds one version"),
        (lambda folder: sample.bare(folder), "v9", "v9"),
        (lambda folder: sample.bare(folder), "--output=x", "rev-parse"),
    ],
)
def test_a_source_that_is_none_is_refused(make: object, revision: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=re.escape(said)):
        open_tree(make(tmp_path), revision)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ContractError, match="neither a directory nor"):
        open_tree(tmp_path / "notes.txt")


# ---------------------------------------------------------------- accepted differences


def finding(identity: str) -> Finding:
    return Finding(BREAKS, identity, "something")


def test_an_acceptance_needs_a_reason(tmp_path: Path) -> None:
    for text in ("- {finding: a}", "- {finding: a, reason: ''}", "- a", "- {finding: a, reason: b, more: c}"):
        (tmp_path / "accepted.yml").write_text(text)
        with pytest.raises(ContractError, match="entry 1"):
            accepted.load(tmp_path / "accepted.yml")
    (tmp_path / "accepted.yml").write_text("- {finding: a, reason: b}\n- {finding: a, reason: c}")
    with pytest.raises(ContractError, match="accepted twice: a"):
        accepted.load(tmp_path / "accepted.yml")


def test_what_is_accepted_what_is_not_and_what_is_unused() -> None:
    entries = [accepted.Acceptance("a/*/x", "why"), accepted.Acceptance("gone", "why")]
    standing, agreed, unused = accepted.sort_out([finding("a/b/x"), finding("a/b/y")], entries)
    assert [entry.identity for entry in standing] == ["a/b/y"]
    assert [(entry.identity, reason.reason) for entry, reason in agreed] == [("a/b/x", "why")]
    assert unused == [entries[1]]


# Of the gaps that the real backend met on this stack, those that can be read from its source. Nothing may accept them.
KNOWN_GAPS = [
    *(
        "environment/api/DATABASE_ADMIN_EMAIL",
        "environment/api/DATABASE_ADMIN_PASSWORD",
        "environment/api/FRONTEND_URL",
    ),
    *("environment/api/PRODUCTION_URL/list", "environment/api/OTEL_TRACING_ENABLED", "environment/api/CELERY_QUEUES"),
    *("environment/cms-setup/SELF_HOST_FIRST_INVITE_CODE", "images/cms-setup", "images/cms-setup/user"),
    *("vault/sys/mounts/transit/read", "vault/kv/data/providers/vapid/write", "routes/internal", "routes/metrics"),
    *(
        "routes/health",
        "routes/v1/health/limit",
        "volumes/api/app/logs",
        "volumes/api/shared/cache",
        "services/api/stop",
    ),
    *("directus/CACHE_SKIP_ALLOWED", "directus/REFRESH_TOKEN_TTL", "queues/email", "queues/app_ai"),
    *("images/cms", "environment/cms-setup/DATABASE_PASSWORD", "environment/cms-setup/DB_PASSWORD"),
]


def test_no_acceptance_hides_a_known_gap() -> None:
    standing, _, _ = accepted.sort_out(map(finding, KNOWN_GAPS), accepted.load())
    assert [entry.identity for entry in standing] == KNOWN_GAPS


# ---------------------------------------------------------------- the program


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> object:
    """Run it on a checkout of the sample; answers the exit code and the output."""

    def run(made: Project, entries: list, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(Project, "of", classmethod(lambda cls, root: made))
        (tmp_path / "accepted.yml").write_text(yaml.safe_dump(entries))
        monkeypatch.setattr(accepted.load, "__defaults__", (tmp_path / "accepted.yml",))
        code = program.main([str(sample.write(tmp_path / "checkout")), *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_the_exit_code_and_the_report(run: object) -> None:
    code, output = run(sample.project(**compose_without(r"LINKS: .*")), [])
    assert code == 1
    assert "Would break (1)" in output
    assert "[environment/api/LINKS]" in output
    assert re.search(r"\d+ optional variables of api, named in the code alone:.*HARMLESS", output)

    entries = [
        {"finding": "environment/api/LINKS", "reason": "The reason."},
        {"finding": "x/y", "reason": "None left."},
    ]
    code, output = run(sample.project(**compose_without(r"LINKS: .*")), entries)
    assert code == 0
    assert "Would break (0)" in output
    assert "Accepted with a reason (1); --accepted lists them" in output
    assert "not found any more (1)" in output
    assert "x/y: None left." in output
    assert "The reason." not in output
    assert "accepted: The reason." in run(sample.project(**compose_without(r"LINKS: .*")), entries, "--accepted")[1]


def test_a_comparison_that_cannot_be_made_has_its_own_exit_code(run: object) -> None:
    code, output = run(sample.project(), [], "--rev", "v1")
    assert code == 2
    assert output.startswith("contract: REV=v1 is set")


def test_an_archive_has_no_earlier_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(Project, "of", classmethod(lambda cls, root: sample.project()))
    assert program.main([str(sample.zipped(tmp_path, "")), "--since", "v1"]) == 2
    assert "SINCE=v1 is set" in capsys.readouterr().err


def test_only_what_is_new_since_a_revision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(Project, "of", classmethod(lambda cls, root: sample.project(**compose_without(r"LINKS: .*"))))
    repository = str(sample.bare(tmp_path))
    assert program.main([repository, "--rev", "later", "--since", "v1"]) == 0
    assert "Would break (0), not so in v1" in capsys.readouterr().out
    assert program.main([repository, "--rev", "v1"]) == 1


def test_this_project_is_read_as_a_server_gets_it() -> None:
    project = Project.of(ROOT)
    api = project.known_services["api"]
    assert api.read_only
    assert api.without_capabilities
    assert project.environment("api")["SERVER_ENVIRONMENT"] == "production"
    assert project.environment("api", "dev")["SERVER_ENVIRONMENT"] == "development"
    assert "DRAGONFLY_PASSWORD" in project.environment("api")
    assert "@hidden path" in project.caddyfile
    assert vault.allowed("transit/encrypt/any", vault.rules("".join(project.policies.values()))) == {"update"}
    assert {path for path, _ in routes.probes(project).values()} == {"/v1/health"}
    assert len(routes.probes(project)) == 2
    own = project.services(project.cms_setup_kind)["cms-setup"]
    assert "openmates-cms-setup" in own.image


def test_a_directory_that_is_not_this_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="not a checkout of this project"):
        Project.of(tmp_path)

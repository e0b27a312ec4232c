"""The sample backend's logic, without its dependencies (the live wiring is what the lab scenarios prove)."""

import importlib
import json
import logging
import sys
import threading
import time
from pathlib import Path

import pytest

BACKEND = Path(__file__).parents[2] / "lab" / "backend"
SECRET = "correct-horse/battery+staple"

GOOD = {
    "SERVER_ENVIRONMENT": "production",
    "PRODUCTION_URL": "https://web.example.test",
    "CMS_URL": "http://cms:8055",
    "DRAGONFLY_URL": "cache:6379",
    "DRAGONFLY_PASSWORD": SECRET,
    "VAULT_URL": "http://vault:8200",
    "DATABASE_ADMIN_EMAIL": "admin@example.test",
    "DATABASE_ADMIN_PASSWORD": "another-secret",
    "INTERNAL_API_SHARED_TOKEN": "a-third-secret",
    "APP_URLS": '{"sample": "http://app-sample:8000"}',
}


def load(name):
    """Import one of the backend's modules; its folder is not a part of the project's own Python path."""
    if str(BACKEND) not in sys.path:
        sys.path.insert(0, str(BACKEND))
    return importlib.import_module(f"backend.core.api.app.{name}")


settings = load("settings")
frontends = load("frontends")
checks = load("checks")
rate_limit = load("rate_limit")
tracing = load("tracing")
compliance = load("compliance")
heavy = load("heavy")
queues = load("tasks.queues")
redact = load("redact")
logs = load("logs")


class TestSettings:
    def test_good_environment(self):
        loaded = settings.load(GOOD)
        assert (loaded.cache_host, loaded.cache_port, loaded.cache_password) == ("cache", 6379, SECRET)
        assert (loaded.admin_email, loaded.admin_password) == ("admin@example.test", "another-secret")
        assert loaded.apps == {"sample": "http://app-sample:8000"}
        assert str(loaded.token_file) == "/vault-data/api.token"
        assert str(loaded.log_directory) == "/app/logs"
        assert str(loaded.analytics_file) == "/shared/cache/web_analytics_backup.json"
        assert not loaded.development

    def test_nothing_is_refused_and_development_is_the_default(self):
        loaded = settings.load({})
        assert (loaded.admin_email, loaded.vault_url, loaded.development) == (None, None, True)
        assert (loaded.cms_url, loaded.cache_host, loaded.cache_port) == ("http://cms:8055", "cache", 6379)
        assert loaded.apps == {}

    def test_the_names_of_2025_are_not_accepted(self):
        old = {"ADMIN_EMAIL": "admin@example.test", "ADMIN_PASSWORD": "another-secret"}
        loaded = settings.load({name: value for name, value in GOOD.items() if "DATABASE" not in name} | old)
        assert (loaded.admin_email, loaded.admin_password) == (None, None)

    @pytest.mark.parametrize("text", ["not json", '["http://app"]', '{"sample": 1}', '{"sample": ""}'])
    def test_an_impossible_list_of_apps_is_named(self, text):
        with pytest.raises(ValueError, match="APP_URLS"):
            settings.load({"APP_URLS": text})

    def test_secrets_do_not_show_when_printed(self):
        secrets = settings.secret_values(GOOD)
        assert set(secrets) == {"DRAGONFLY_PASSWORD", "DATABASE_ADMIN_PASSWORD", "INTERNAL_API_SHARED_TOKEN"}
        assert not [name for name, value in secrets.items() if value in repr(settings.load(GOOD))]

    def test_the_brokers_address_is_fixed_and_a_slash_in_the_password_breaks_it(self):
        elsewhere = {"DRAGONFLY_URL": "elsewhere:1", "DRAGONFLY_PASSWORD": "a+b"}
        assert settings.broker_url(elsewhere) == "redis://default:a%2Bb@cache:6379/0"
        assert settings.broker_url({"DRAGONFLY_PASSWORD": "a/b"}) == "redis://default:a/b@cache:6379/0"


def production(url):
    return {"SERVER_ENVIRONMENT": "production", "PRODUCTION_URL": url}


def development(urls=None):
    return {"SERVER_ENVIRONMENT": "development"} | ({} if urls is None else {"FRONTEND_URLS": urls})


class TestFrontends:
    def test_origins_are_a_list_and_stay_as_written(self):
        assert frontends.allowed_origins(production(" https://a.test/, https://a.test,,https://b.test")) == [
            "https://a.test/",
            "https://a.test",
            "https://b.test",
        ]
        assert frontends.allowed_origins(production("https://a.test") | {"FRONTEND_URLS": "https://b.test"}) == [
            "https://a.test"
        ]
        assert frontends.allowed_origins(development("http://localhost:5173")) == ["http://localhost:5173"]
        assert frontends.allowed_origins({"SERVER_ENVIRONMENT": "production"}) == ["https://openmates.org"]

    @pytest.mark.parametrize(
        ("environ", "domain", "refused"),
        [
            (production("https://web.example.test"), "web.example.test", False),
            (production("https://openmates.org"), "openmates.org", False),
            (production("https://openmates.org/"), "openmates.org", False),
            (production("https://app.openmates.org"), "app.openmates.org", True),
            (production("https://app.openmates.test"), "app.openmates.test", True),
            (production("https://my-openmates.vercel.app"), "my-openmates.vercel.app", True),
            (production("https://0pen-mates.test"), "0pen-mates.test", True),
            # The whole is taken for one URL.
            (production("https://openmates.org,https://x.test"), "openmates.org,https", True),
            (production("https://openmates.org/,https://openmates.org,https://x.test"), "openmates.org", False),
            (development("http://localhost:5173,https://app.dev.openmates.org"), "app.dev.openmates.org", True),
            (development("http://localhost:5173"), None, False),
            (development(), None, False),
            # It counts in development too.
            (development("http://localhost:5173") | {"PRODUCTION_URL": "https://a.test"}, "a.test", False),
        ],
    )
    def test_the_domain_check(self, environ, domain, refused):
        assert frontends.hosting_domain(environ) == domain
        assert frontends.refused_domain(domain) is refused

    @pytest.mark.parametrize(
        ("environ", "payment", "self_hosted"),
        [
            (production("https://web.example.test"), False, True),
            (production("https://openmates.org"), True, False),
            (production("http://localhost:5173"), False, True),
            (development("http://localhost:5173"), True, True),
            (development("https://web.example.test"), False, True),
            (development("https://web.dev.example.test"), True, True),
        ],
    )
    def test_edition_and_payment(self, environ, payment, self_hosted):
        assert frontends.payment_enabled(environ) is payment
        assert frontends.self_hosted(environ) is self_hosted

    @pytest.mark.parametrize(
        ("origin", "expected"),
        [
            ("https://web.example.test", ".example.test"),
            ("https://a.b.example.test:8443", ".example.test"),
            ("https://my-frontend.vercel.app", ".vercel.app"),
            ("http://localhost:5173", None),
            ("http://192.168.1.2:5173", None),
            (None, ".first.test"),
        ],
    )
    def test_the_cookies_domain(self, origin, expected):
        origins = ["http://localhost:5173", "https://web.first.test"]
        assert frontends.cookie_domain({}, origin, origins) == expected
        assert frontends.cookie_domain({"COOKIE_DOMAIN": ".given.test"}, origin, origins) == ".given.test"


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class TestRateLimiter:
    def test_one_client_does_not_use_up_anothers_minute(self, clock):
        limiter = rate_limit.RateLimiter(clock)
        assert [limiter.allows("/v1/health", "a", 3) for _ in range(5)] == [True, True, True, False, False]
        assert limiter.allows("/v1/health", "b", 3)
        assert limiter.allows("/v1/auth/login", "a", 3)

    def test_the_minute_begins_with_the_first_request_and_ends(self, clock):
        limiter = rate_limit.RateLimiter(clock)
        for wait, allowed in ((0, True), (59.9, False), (0.2, True), (59, False)):
            clock.now += wait
            assert limiter.allows("/", "a", 1) is allowed

    def test_what_has_ended_does_not_pile_up(self, clock, monkeypatch):
        monkeypatch.setattr(rate_limit, "MAXIMUM_CLIENTS", 10)
        limiter = rate_limit.RateLimiter(clock)
        for number in range(1000):
            limiter.allows("/", str(number), 1)
            clock.now += 10
        assert len(limiter._windows) <= 10


class TestTracing:
    @pytest.mark.parametrize(
        ("value", "enabled"), [(None, True), ("true", True), ("True", True), ("false", False), ("0", False)]
    )
    def test_it_is_on_unless_it_is_switched_off(self, value, enabled):
        assert tracing.is_enabled({} if value is None else {"OTEL_TRACING_ENABLED": value}) is enabled

    def test_the_last_batch_outlives_dockers_patience(self):
        pauses = []
        assert not tracing.flush(lambda: False, pauses.append)
        assert sum(pauses) > 10

    def test_the_last_batch_is_quick_where_there_is_a_collector(self):
        pauses = []
        assert tracing.flush(lambda: True, pauses.append)
        assert pauses == []


class TestCompliance:
    @pytest.fixture(autouse=True)
    def _close(self):
        yield
        for name in ("compliance.audit", "compliance.financial"):
            for handler in logging.getLogger(name).handlers:
                handler.close()
            logging.getLogger(name).handlers = []

    def test_events_are_lines_in_their_file_only(self, tmp_path):
        compliance.set_up(tmp_path / "logs")
        compliance.audit("login", "an-id", status="success")
        compliance.audit("session_expired", None)
        lines = [json.loads(line) for line in (tmp_path / "logs" / compliance.AUDIT).read_text().splitlines()]
        found = [(line["event_type"], line["user_id"], line.get("status")) for line in lines]
        assert found == [("login", "an-id", "success"), ("session_expired", "anonymous", None)]
        assert (tmp_path / "logs" / compliance.FINANCIAL).read_text() == ""

    def test_a_place_that_cannot_be_written_to_ends_the_start(self, tmp_path):
        (tmp_path / "logs").write_text("a file")
        with pytest.raises(OSError, match="logs"):
            compliance.set_up(tmp_path / "logs")


def test_importing_costs_cpu_time_and_memory_as_often_as_it_is_done(monkeypatch):
    monkeypatch.setattr(heavy, "_held", [])
    before = time.process_time()
    for _ in range(2):
        heavy.weigh_down({"SAMPLE_IMPORT_CPU_SECONDS": "0.05", "SAMPLE_IMPORT_MEBIBYTES": "2"})
    assert time.process_time() - before >= 0.1
    assert [len(block) for block in heavy._held] == [2 << 20]


class TestQueues:
    def test_without_a_list_a_worker_takes_from_all(self):
        assert queues.consumed({}) == queues.consumed({"CELERY_QUEUES": ""}) == queues.QUEUES

    def test_names_that_are_no_queue_are_left_out_silently(self):
        assert queues.consumed({"CELERY_QUEUES": "push, email,demo,nonsense"}) == ("email", "push")

    def test_the_samples_own_tasks_go_to_a_queue_that_exists(self):
        assert queues.DEFAULT in queues.QUEUES


class TestChecks:
    def test_each_is_reported_by_name_and_one_failure_is_enough(self):
        def fail():
            raise checks.CheckError("the wire is cut")

        asked = checks.Checks([checks.Check("a", lambda: "fine"), checks.Check("b", fail)], redact=str)
        results = asked.results()
        assert results == {"a": checks.Result(True, "fine"), "b": checks.Result(False, "the wire is cut")}
        assert not checks.all_ok(results)
        assert not checks.all_ok({})
        assert checks.all_ok({"a": results["a"]})

    def test_it_recovers_and_results_are_kept_for_a_moment_only(self, clock):
        states, ran = {"ok": False}, []

        def run():
            ran.append(clock.now)
            if not states["ok"]:
                raise checks.CheckError("down")
            return "fine"

        asked = checks.Checks([checks.Check("it", run)], redact=str, clock=clock)
        assert not asked.results()["it"].ok
        states["ok"] = True
        clock.now += checks.KEEP
        assert not asked.results()["it"].ok
        clock.now += 0.1
        assert asked.results()["it"].ok
        assert len(ran) == 2

    def test_one_that_hangs_holds_up_no_answer(self):
        release = threading.Event()
        hanging = checks.Check("hanging", lambda: str(release.wait(30)))
        asked = checks.Checks([hanging, checks.Check("quick", lambda: "fine")], redact=str, timeout=0.2)
        began = time.monotonic()
        try:
            results = asked.results()
        finally:
            release.set()
        assert time.monotonic() - began < 20
        assert results["hanging"] == checks.Result(False, "no answer within 0.2 s")
        assert results["quick"].ok

    def test_unexpected_exception_is_a_failure_and_redacted(self):
        def run():
            raise RuntimeError(f"login with {SECRET}\nfailed")

        redactor = redact.Redactor()
        redactor.register("password", SECRET)
        result = checks.Checks([checks.Check("it", run)], redact=redactor).results()["it"]
        assert result == checks.Result(False, "RuntimeError: login with [redacted] failed")


class TestRedaction:
    @pytest.mark.parametrize(
        "text",
        [
            f"password {SECRET} refused",
            "redis://:correct-horse%2Fbattery%2Bstaple@cache:6379/0",
            'say "say \\"quoted\\"" twice',
            f"token s.{'abcdefgh' * 3} and hvs.{'CAESIabc' * 3}",
            "Bearer eyJhbGciOiJIUzI1NiJ9.eyJpZCI6IjEifQ.abc-def",
            "http://user:hunter2@cms:8055/",
        ],
    )
    def test_no_spelling_of_a_secret_remains(self, text):
        redactor = redact.Redactor()
        redactor.register("one", SECRET)
        redactor.register("two", 'say "quoted"')
        cleaned = redactor(text)
        for part in (SECRET, "battery", "quoted", "abcdefghijklmnop", "eyJ", "hunter2"):
            assert part not in cleaned
        assert redact.REDACTED in cleaned

    def test_ordinary_text_stays(self):
        text = "no connection to Vault at http://vault:8200 within 2 s."
        assert redact.Redactor()(text) == text

    def test_empty_values_are_ignored(self):
        redactor = redact.Redactor()
        redactor.register("one", "")
        assert redactor("text") == "text"

    def test_later_value_replaces_the_earlier(self):
        redactor = redact.Redactor()
        redactor.register("token", "first-value")
        redactor.register("token", "second-value")
        assert redactor("first-value second-value") == "first-value [redacted]"

    def test_log_line_is_one_redacted_line(self):
        redactor = redact.Redactor()
        redactor.register("one", SECRET)
        try:
            raise RuntimeError(f"with {SECRET}")
        except RuntimeError:
            caught = sys.exc_info()
        record = logging.LogRecord("a.logger", logging.ERROR, __file__, 1, "it is %s\nnow", (SECRET,), caught)
        record.fields = {"detail": SECRET, "count": 1}
        line = logs.JsonFormatter(redactor).format(record)
        assert SECRET not in line
        assert "\n" not in line
        parsed = json.loads(line)
        assert parsed["message"] == "it is [redacted]\nnow"
        assert (parsed["detail"], parsed["count"], parsed["level"]) == ("[redacted]", 1, "error")
        assert "RuntimeError: with [redacted]" in parsed["exception"]

    def test_log_line_is_short_and_cutting_leaves_no_part_of_a_secret(self):
        redactor = redact.Redactor()
        redactor.register("one", SECRET)
        message = "x" * (logs.MAXIMUM_MESSAGE - 5) + SECRET
        try:
            raise RuntimeError(SECRET + "y" * (logs.MAXIMUM_EXCEPTION - 5))
        except RuntimeError:
            caught = sys.exc_info()
        record = logging.LogRecord("a.logger", logging.ERROR, __file__, 1, message, None, caught)
        line = logs.JsonFormatter(redactor).format(record)
        assert len(line) < logs.MAXIMUM_MESSAGE + logs.MAXIMUM_EXCEPTION + 300
        assert not [end for end in (SECRET[:5], SECRET[-5:]) if end in line]


def test_requirements_are_pinned_with_hashes_and_without_addresses():
    text = (BACKEND / "requirements.txt").read_text(encoding="utf-8")
    assert "://" not in text
    pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert pins
    assert not [line for line in pins if "==" not in line]
    assert text.count("--hash=sha256:") >= len(pins)

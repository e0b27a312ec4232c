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
    "SERVER_ENVIRONMENT": "development",
    "FRONTEND_URLS": "http://localhost:5173, https://dev.openmates.test/",
    "CMS_URL": "http://cms:8055",
    "DRAGONFLY_URL": "cache:6379",
    "DRAGONFLY_PASSWORD": SECRET,
    "VAULT_URL": "http://vault:8200",
    "ADMIN_EMAIL": "admin@openmates.test",
    "ADMIN_PASSWORD": "another-secret",
    "INTERNAL_API_SHARED_TOKEN": "a-third-secret",
    "APP_URLS": '{"sample": "http://app-sample:8000"}',
    "TRUSTED_PROXY_IPS": "172.16.0.0/12, 2001:db8:51::1",
}


def load(name):
    """Import one of the backend's modules; its folder is not a part of the project's own Python path."""
    if str(BACKEND) not in sys.path:
        sys.path.insert(0, str(BACKEND))
    return importlib.import_module(f"backend.core.api.app.{name}")


settings = load("settings")
readiness = load("readiness")
client_address = load("client_address")
redact = load("redact")
logs = load("logs")
errors = load("errors")
login_guard = load("dependencies.login_guard")


class TestSettings:
    def test_good_environment(self):
        loaded = settings.load_api(GOOD)
        assert loaded.allowed_origins == ("http://localhost:5173", "https://dev.openmates.test")
        assert (loaded.cache.host, loaded.cache.port) == ("cache", 6379)
        assert loaded.cache.url == "redis://:correct-horse%2Fbattery%2Bstaple@cache:6379/0"
        assert loaded.apps == {"sample": "http://app-sample:8000"}
        assert str(loaded.vault.token_file) == "/vault-data/api.token"
        assert loaded.provider == "sample"
        assert len(loaded.trusted_proxies) == 2

    def test_production_wants_its_own_origin(self):
        environ = {**GOOD, "SERVER_ENVIRONMENT": "production", "PRODUCTION_URL": "https://openmates.test"}
        assert settings.load_api(environ).allowed_origins == ("https://openmates.test",)

    def test_secrets_do_not_show_when_printed(self):
        shown = repr(settings.load_api(GOOD))
        assert not [name for name, value in settings.secret_values(GOOD).items() if value in shown]

    @pytest.mark.parametrize("name", sorted(set(GOOD) - {"TRUSTED_PROXY_IPS"}))
    @pytest.mark.parametrize("empty", [None, "", "  "])
    def test_missing_variable_is_named(self, name, empty):
        environ = {**GOOD, name: empty}
        if empty is None:
            del environ[name]
        with pytest.raises(settings.SettingsError, match=f"{name} is missing"):
            settings.load_api(environ)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("SERVER_ENVIRONMENT", "staging"),
            ("SERVER_ENVIRONMENT", "Production"),
            ("LOG_LEVEL", "loud"),
            ("FRONTEND_URLS", "*"),
            ("FRONTEND_URLS", "http://localhost:5173/path"),
            ("CMS_URL", "cms:8055"),
            ("CMS_URL", f"http://admin:{SECRET}@cms:8055"),
            ("CMS_URL", "http://cms:port"),
            ("DRAGONFLY_URL", "cache"),
            ("DRAGONFLY_URL", "cache:none"),
            ("DRAGONFLY_URL", "redis://cache:6379"),
            ("VAULT_URL", "ftp://vault:8200"),
            ("APP_URLS", "not json"),
            ("APP_URLS", '["http://app"]'),
            ("APP_URLS", '{"Sample App": "http://app"}'),
            ("APP_URLS", '{"sample": "app:8000"}'),
            ("APP_URLS", '{"sample": 1}'),
            ("TRUSTED_PROXY_IPS", "proxy"),
            ("TRUSTED_PROXY_IPS", "0.0.0.0/0"),
            ("TRUSTED_PROXY_IPS", "::/0"),
            ("TRUSTED_PROXY_IPS", "172.16.1.1/12"),
            ("SAMPLE_PROVIDER", "../system"),
            ("SAMPLE_PROVIDER", "Upper"),
            ("DRAIN_SECONDS", "long"),
            ("DRAIN_SECONDS", "31"),
            ("FORWARDED_ALLOW_IPS", "*"),
        ],
    )
    def test_impossible_value_is_named(self, name, value):
        with pytest.raises(settings.SettingsError, match=name) as raised:
            settings.load_api({**GOOD, name: value})
        assert SECRET not in str(raised.value)

    def test_production_refuses_plain_http(self):
        environ = {**GOOD, "SERVER_ENVIRONMENT": "production", "PRODUCTION_URL": "http://openmates.test"}
        with pytest.raises(settings.SettingsError, match="PRODUCTION_URL must begin with https"):
            settings.load_api(environ)

    def test_every_problem_is_listed_at_once(self):
        with pytest.raises(settings.SettingsError) as raised:
            settings.load_api({})
        assert not [name for name in ("SERVER_ENVIRONMENT", "VAULT_URL", "APP_URLS") if name not in str(raised.value)]

    def test_scheduler_needs_no_vault(self):
        environ = {name: value for name, value in GOOD.items() if name.startswith(("SERVER", "DRAGONFLY"))}
        assert settings.load_celery(environ).environment == "development"
        with pytest.raises(settings.SettingsError, match="VAULT_URL"):
            settings.load_vault(environ)


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def monitor_of(clock, run, **kwargs):
    return readiness.Monitor([readiness.Check("it", run, **kwargs)], redact=str, clock=clock)


class TestReadiness:
    def test_nothing_checked_is_not_ready(self, clock):
        results = monitor_of(clock, lambda: "fine").results()
        assert not readiness.all_up(results)
        assert results["it"].detail == "not checked yet"
        assert not readiness.all_up({})

    def test_turns_false_and_recovers(self, clock):
        up = True

        def run():
            if not up:
                raise errors.DependencyError("the wire is cut")
            return "fine"

        monitor = monitor_of(clock, run)
        for up, detail in ((True, "fine"), (False, "the wire is cut"), (True, "fine")):
            monitor.run_once("it")
            assert (monitor.results()["it"].ok, monitor.results()["it"].detail) == (up, detail)

    def test_first_failure_and_every_change_are_logged_once(self, clock, caplog):
        states = iter([False, False, True, True, False])

        def run():
            if not next(states):
                raise errors.DependencyError("the wire is cut")
            return "fine"

        monitor = monitor_of(clock, run)
        caplog.set_level(logging.INFO)
        for _ in range(5):
            monitor.run_once("it")
        assert [record.getMessage() for record in caplog.records] == [
            "dependency is down",
            "dependency is up",
            "dependency is down",
        ]

    def test_one_of_two_down_is_not_ready(self, clock):
        def fail():
            raise errors.DependencyError("down")

        checks = [readiness.Check("a", lambda: "fine"), readiness.Check("b", fail)]
        monitor = readiness.Monitor(checks, redact=str, clock=clock)
        for name in "ab":
            monitor.run_once(name)
        assert monitor.results()["a"].ok
        assert not readiness.all_up(monitor.results())

    def test_stalled_loop_is_not_ready(self, clock):
        monitor = monitor_of(clock, lambda: "fine")
        monitor.run_once("it")
        clock.now += readiness.STALE_AFTER - 0.1
        assert readiness.all_up(monitor.results())
        clock.now += 0.2
        result = monitor.results()["it"]
        assert not result.ok
        assert "stale" in result.detail
        assert result.checked_seconds_ago == pytest.approx(15.1)

    def test_hanging_run_is_not_ready_before_it_ends(self, clock):
        entered, release = threading.Event(), threading.Event()

        def hang():
            entered.set()
            release.wait(30)
            return "fine"

        monitor = monitor_of(clock, hang)
        thread = threading.Thread(target=monitor.run_once, args=("it",), daemon=True)
        thread.start()
        try:
            assert entered.wait(30), "the check did not start within 30 s"
            clock.now += 3.5
            assert monitor.results()["it"].detail == "no answer for 3.5 s"
        finally:
            release.set()
            thread.join(30)
        # It succeeded, but too late to count.
        assert not monitor.results()["it"].ok
        assert "limit is 3 s" in monitor.results()["it"].detail

    def test_unexpected_exception_is_a_failure_and_redacted(self, clock):
        def run():
            raise RuntimeError(f"login with {SECRET}\nfailed")

        redactor = redact.Redactor()
        redactor.register("password", SECRET)
        monitor = readiness.Monitor([readiness.Check("it", run)], redact=redactor, clock=clock)
        monitor.run_once("it")
        assert monitor.results()["it"].detail == "RuntimeError: login with [redacted] failed"

    def test_started_monitor_checks_by_itself_until_stopped(self):
        ran = threading.Event()

        def run():
            ran.set()
            return "fine"

        monitor = readiness.Monitor([readiness.Check("it", run)], redact=str)
        monitor.start()
        try:
            assert ran.wait(30), "the check did not run within 30 s"
            deadline = time.monotonic() + 30
            while not readiness.all_up(monitor.results()):
                assert time.monotonic() < deadline, f"not up within 30 s: {monitor.results()}"
        finally:
            monitor.stop()


class TestClientAddress:
    TRUSTED = client_address.parse_networks("172.16.0.0/12, 2001:db8:51::1")

    @pytest.mark.parametrize(
        ("peer", "headers", "expected"),
        [
            ("198.51.100.7", [], "198.51.100.7"),
            # Not from a trusted proxy: whatever it says is ignored.
            ("198.51.100.7", ["203.0.113.9"], "198.51.100.7"),
            ("172.18.0.1", [], "172.18.0.1"),
            ("172.18.0.1", ["203.0.113.9"], "203.0.113.9"),
            ("::ffff:172.18.0.1", ["203.0.113.9"], "203.0.113.9"),
            ("2001:db8:51::1", ["2001:db8::9"], "2001:db8::9"),
            # What the client itself sent stands left of what the proxy appended.
            ("172.18.0.1", ["127.0.0.1, 203.0.113.9"], "203.0.113.9"),
            ("172.18.0.1", ["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
            ("172.18.0.1", ["6.6.6.6, 203.0.113.9, 172.18.0.5"], "203.0.113.9"),
            ("172.18.0.1", ["172.18.0.9"], "172.18.0.9"),
            # Rubbish ends the search: left of it nothing can be believed.
            ("172.18.0.1", ["203.0.113.9, rubbish"], "172.18.0.1"),
            ("172.18.0.1", ["203.0.113.9:1234"], "172.18.0.1"),
            ("172.18.0.1", [""], "172.18.0.1"),
            ("172.18.0.1", [",".join(["6.6.6.6"] * 5000 + ["203.0.113.9"])], "203.0.113.9"),
            ("a-socket", ["203.0.113.9"], "a-socket"),
        ],
    )
    def test_client_address(self, peer, headers, expected):
        assert client_address.client_address(peer, headers, self.TRUSTED) == expected

    def test_nobody_is_trusted_by_default(self):
        assert client_address.client_address("127.0.0.1", ["203.0.113.9"], ()) == "127.0.0.1"


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


class TestLoginGuard:
    def test_pauses_grow_and_end(self):
        guard, now = login_guard.LoginGuard(), 0.0
        for pause in (10, 20, 40, 80):
            assert guard.obstacle(now) is None
            guard.refused(now)
            assert "next try in" in guard.obstacle(now + pause - 1)
            now += pause
        assert guard.obstacle(now) is None
        guard.refused(now)
        assert "restart the api" in guard.obstacle(now + 1e9)

    def test_success_forgets_refusals(self):
        guard = login_guard.LoginGuard()
        guard.refused(0.0)
        guard.accepted()
        assert guard.obstacle(0.0) is None
        assert guard.refusals == 0


def test_requirements_are_pinned_with_hashes_and_without_addresses():
    text = (BACKEND / "requirements.txt").read_text(encoding="utf-8")
    assert "://" not in text
    pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert pins
    assert not [line for line in pins if "==" not in line]
    assert text.count("--hash=sha256:") >= len(pins)

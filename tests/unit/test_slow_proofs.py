"""make faults and make real: the cases, their selection, and the evaluation of a service's log."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def _load(folder: str, *names: str) -> list:
    """A runner's modules, under their own names; two runners have a `run`."""
    sys.modules.pop("run", None)
    sys.path.insert(0, str(TESTS / folder))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(TESTS / folder))
        sys.modules.pop("run", None)


lab_host, first_start, faults = _load("faults", "lab_host", "first_start", "run")
logs, client, real = _load("real", "logs", "client", "run")


def test_the_cases_are_those_of_the_agreement() -> None:
    """Typed in from the issue: five services frozen and cut off, four killed at five moments each."""
    expected = {f"{name}-{how}" for name in ("cache", "cms", "cms-database", "vault", "task-worker")
                for how in ("frozen", "cut-off")}  # fmt: skip
    expected |= {f"{name}-killed-{number}" for name in ("vault", "cms-database", "cms-setup", "api")
                 for number in (1, 2, 3, 4, 5)}  # fmt: skip
    assert set(faults.cases()) == expected


@pytest.mark.parametrize(
    ("words", "number"),
    [([], 30), (["cache-frozen"], 1), (["frozen"], 5), (["killed"], 20), (["cms-setup"], 5), (["killed-3"], 4)],
)
def test_cases_are_chosen_by_their_names_or_parts(words: list[str], number: int) -> None:
    assert len(faults.chosen(words)) == number


def test_an_unknown_case_is_refused_with_the_known_ones() -> None:
    with pytest.raises(lab_host.HostError, match=r"CASE=postgres is none of: .*cms-database-frozen"):
        faults.chosen(["postgres"])


def test_moments_are_spread_over_the_first_start() -> None:
    assert first_start.moments({"vault": 20.0}, "vault") == [2.0, 6.0, 10.0, 14.0, 18.0]


@pytest.mark.parametrize(
    ("lines", "against"),
    [
        (["2026-11-26 10:00:00 INFO all is well"], 0),
        (["ERROR cannot reach x"], 0),
        (["2026-11-26 10:00:00 ERROR cannot reach x 1", "2026-11-26 10:00:09 ERROR cannot reach x 2"], 1),
        (["CRITICAL main Failed during critical service initialization: refused"], 1),
        (["CRITICAL S3 service will be unavailable"], 0),
        (["ERROR Invoice Ninja URL could not be retrieved"] * 9, 0),
        (["ERROR services.directus Admin login failed with status 401"] * 2, 1),
        (["INFO 3 ERRORS were counted"] * 5, 0),
        (['{"level": "INFO", "message": "no ERROR so far"}'] * 5, 0),
        (['{"level": "ERROR", "message": "task 1 failed", "exc_info": "ValueError: no room"}'] * 2, 1),
        (['{"level": "ERROR", "message": "task 1 failed", "exc_info": "Stripe API key is missing"}'] * 2, 0),
        (['{"level": "CRITICAL", "message": "the provider of rows is gone"}'], 1),
    ],
)
def test_logs(lines: list[str], against: int) -> None:
    assert len(logs.judged(lines).against) == against


def test_absent_keys_are_distinguished() -> None:
    assert logs.judged(["ERROR no API key for brave"] * 3).absent == ["3 x ERROR no API key for brave"]


def test_two_accounts_differ_and_hold_what_the_api_wants() -> None:
    one, two = client.new_account(), client.new_account()
    assert not set(one.values()) & set(two.values())
    assert 3 <= len(one["username"]) <= 20


def test_images_are_pushed_under_a_tag_of_their_own(monkeypatch) -> None:
    """Under the product's own tag they would replace the sample backend of every lab host."""
    monkeypatch.setattr(real.Proof, "_identity", lambda _, image: {"a": "0123456789ab", "s": "ba9876543210"}[image])
    proof = real.Proof(lab_host.LabHost("real1"), "a", "s")
    assert proof.extra() == [
        *("-e", "openmates_backend_image=ghcr.io/glowingkitty/openmates-api:local-0123456789ab"),
        *("-e", "openmates_cms_setup_image=ghcr.io/glowingkitty/openmates-cms-setup:local-ba9876543210"),
    ]


def test_what_lies_outside_of_this_project_is_named_with_its_reason() -> None:
    line = '{"level": "ERROR", "message": "Health check: Meetup error: [Errno -2] Name or service not known"}'
    found = logs.judged([line] * 2)
    assert found.against == [] and found.outside == {"the lab reaches no third party": 2}

"""Variables and secrets of Directus that an inventory adds: none that the stack sets, and none that locks it out."""

from __future__ import annotations

import re

import pytest
from ansible_collections.openmates.server.plugins.plugin_utils.preflight import directus
from rendering import merged, render
from test_preflight import good, problems

ENVIRONMENT, SECRETS = "openmates_directus_environment", "openmates_directus_secrets"


def found(**settings: object) -> list[str]:
    return problems(good("prod") | settings)


@pytest.mark.parametrize("value", ["true", "True", True, "1", 1])
@pytest.mark.parametrize("setting", [ENVIRONMENT, SECRETS])
def test_logins_by_password_cannot_be_turned_off(setting: str, value: object) -> None:
    [problem] = found(**{setting: {"AUTH_DISABLE_DEFAULT": value}})
    assert problem.startswith(f"{setting} in ") and "AUTH_DISABLE_DEFAULT" in problem and "the api logs in" in problem


@pytest.mark.parametrize("value", ["false", False, "0", 0, ""])
def test_leaving_them_on_is_no_problem(value: object) -> None:
    assert found(**{ENVIRONMENT: {"AUTH_DISABLE_DEFAULT": value, "AUTH_PROVIDERS": "google"}}) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({ENVIRONMENT: {"PUBLIC_URL": "https://x"}}, ["PUBLIC_URL", "openmates_directus_public_url"]),
        ({ENVIRONMENT: {"DB_HOST": "elsewhere"}}, ["DB_HOST", "the Compose file"]),
        ({ENVIRONMENT: {"SECRET": "x"}}, ["SECRET", "openmates_directus_secret"]),
        ({ENVIRONMENT: {"SECRET_FILE": "/x"}}, ["SECRET_FILE", "openmates_directus_secret"]),
        ({SECRETS: {"DB_PASSWORD": "fixture-secret"}}, ["DB_PASSWORD", "openmates_database_password"]),
        ({ENVIRONMENT: {"A": "x"}, SECRETS: {"A": "fixture-secret"}}, ["A is in openmates_directus_secrets too"]),
    ],
)
def test_what_the_stack_sets_is_refused_with_its_setting(settings: dict, words: list[str]) -> None:
    [problem] = found(**settings)
    assert all(word in problem for word in words) and "fixture-secret" not in problem


def test_other_variables_and_secrets_are_no_problem() -> None:
    others = {"WEBSOCKETS_ENABLED": "true", "CACHE_SKIP_ALLOWED": "false", "REFRESH_TOKEN_TTL": "1d"}
    assert found(**{ENVIRONMENT: others, SECRETS: {"LICENSE_KEY": "fixture"}}) == []


def test_every_variable_of_the_compose_file_is_known(tmp_path) -> None:
    """Apart from those that the setting is documented to have the last word on."""
    known = set(directus.SET)
    last_word = re.compile("CACHE_SKIP_ALLOWED|REFRESH_TOKEN_TTL|PRESSURE_LIMITER_ENABLED|STORAGE_|EMAIL_|CMS_SETUP_")
    environment = merged(render("dev", tmp_path))["cms"]["environment"]
    variables = {name.removesuffix("_FILE") for name in environment if not last_word.match(name)}
    assert variables <= known, variables - known

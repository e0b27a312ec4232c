"""Effects of an outage of Directus's cache on the account that the api logs in with."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from real import Api, Stack, docker, wait_until

ATTEMPTS = 40


@pytest.fixture(scope="module")
def cms(stack: Stack) -> Iterator[Stack]:
    """Directus as the stack configures it: its limiters count in the cache."""
    stack.start_cms(RATE_LIMITER_STORE="redis")
    yield stack
    stack.start_cms()


def give_up_soon(stack: Stack) -> None:
    """A login with the right password whose caller waits for half a second, as the api waits for some."""
    body = json.dumps({"email": stack.environment["ADMIN_EMAIL"], "password": stack.admin_password}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{stack.url}/auth/login", method="POST", data=body, headers=headers)
    with contextlib.suppress(OSError):
        urllib.request.urlopen(request, timeout=0.5).close()


def freeze_cache(stack: Stack) -> None:
    """The cache takes connections and does not answer, while the api tries to log in."""
    docker("pause", f"{stack.name}-cache")
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: give_up_soon(stack), range(ATTEMPTS)))
    finally:
        docker("unpause", f"{stack.name}-cache")
    wait_until(stack.answers, "Directus answers again", 60)


def status(stack: Stack) -> str:
    return stack.sql(f"select status from directus_users where email = '{stack.environment['ADMIN_EMAIL']}'")


def allow(stack: Stack, attempts: int | None) -> None:
    admin = Api(stack.url).log_in(stack.environment["ADMIN_EMAIL"], stack.admin_password)
    admin.call("PATCH", "/settings", {"auth_login_attempts": attempts})


def works_again(stack: Stack) -> bool:
    """Activate the account and log in. A login that was still under way may suspend it once more."""
    stack.sql("update directus_users set status = 'active'")
    body = {"email": stack.environment["ADMIN_EMAIL"], "password": stack.admin_password}
    return Api(stack.url).status("POST", "/auth/login", body)[0] == 200


def test_with_a_limit_the_outage_suspends_the_account(cms: Stack) -> None:
    """The reason for the limit of 0: the account is suspended although every password was right."""
    allow(cms, 25)
    freeze_cache(cms)
    wait_until(lambda: status(cms) == "suspended", "the account is suspended", 60)
    wait_until(lambda: works_again(cms), "the account works again", 60)


def test_without_one_the_account_works_on(cms: Stack) -> None:
    allow(cms, None)
    freeze_cache(cms)
    Api(cms.url).log_in(cms.environment["ADMIN_EMAIL"], cms.admin_password)
    assert status(cms) == "active"

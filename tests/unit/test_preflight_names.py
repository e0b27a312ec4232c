"""Every public name leads to the server, and the authority that Caddy asks may certify it."""

from __future__ import annotations

import pytest
from test_preflight import ADDRESSES, good, problems

API, CMS = "api.dev1.example.test", "cms.dev1.example.test"


def named(**more: object) -> dict:
    return good("dev") | {
        "openmates_domain": API,
        "openmates_directus_domain": CMS,
        "openmates_frontend_urls": ["https://web.example.test"],
        **more,
    }


def issue(value: str) -> dict:
    return {"tag": "issue", "value": value, "critical": False}


@pytest.mark.parametrize(
    ("addresses", "words"),
    [
        ([], ["does not resolve"]),
        (["203.0.113.9"], ["203.0.113.9", "not this host"]),
        (["198.51.100.11", "2001:db8:9::9"], ["2001:db8:9::9"]),
        (ADDRESSES, []),
        (None, []),
    ],
)
def test_each_name_is_looked_up_in_both_families(addresses: list[str] | None, words: list[str]) -> None:
    found = problems(named(), host_state={"resolved": {API: ADDRESSES, CMS: addresses}})
    assert len(found) == bool(words)
    assert all(word in found[0] for word in ["openmates_directus_domain", CMS, *words] if words)


def test_a_name_of_directus_without_one_of_the_api_has_no_effect_and_is_refused() -> None:
    settings = good("dev") | {"openmates_directus_domain": CMS}
    [found] = problems(settings, host_state={"resolved": {CMS: []}})
    assert found.startswith("openmates_directus_domain") and "Set openmates_domain" in found


@pytest.mark.parametrize(
    ("records", "allowed"),
    [
        ([], True),
        (None, True),
        ([issue("letsencrypt.org")], True),
        ([issue("LetsEncrypt.org ; accounturi=https://acme.example/1")], True),
        ([issue("letsencrypt.org; validationmethods=http-01,dns-01")], True),
        ([issue("letsencrypt.org;validationmethods=dns-01")], False),
        ([issue("digicert.com"), issue("letsencrypt.org")], True),
        ([issue("digicert.com")], False),
        ([issue(";")], False),
        ([{"tag": "issuewild", "value": ";", "critical": False}], True),
        ([{"tag": "iodef", "value": "mailto:x@example.test", "critical": False}], True),
        ([issue("letsencrypt.org"), {"tag": "future", "value": "x", "critical": True}], False),
    ],
)
def test_a_caa_record_that_forbids_our_authority_is_named(records: list[dict] | None, allowed: bool) -> None:
    state = {"resolved": {API: ADDRESSES, CMS: ADDRESSES}, "caa": {API: records, CMS: []}}
    found = problems(named(), host_state=state)
    assert (found == []) is allowed
    assert all("openmates_domain " in text and 'issue "letsencrypt.org"' in text for text in found)


def test_caa_is_not_judged_for_an_authority_of_the_operators_own() -> None:
    state = {"resolved": {API: ADDRESSES, CMS: ADDRESSES}, "caa": {API: [issue("digicert.com")]}}
    settings = named(openmates_acme_directory="https://acme.example.net/directory")
    assert problems(settings, host_state=state) == []

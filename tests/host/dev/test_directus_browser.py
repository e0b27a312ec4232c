"""A user works in Directus: in a real browser, on the port that development publishes."""

from __future__ import annotations

import uuid

import pytest
from browser import Browser
from directus import Directus

from lab import ROOT

SCREENSHOTS = ROOT / ".lab/screenshots"
COLLECTIONS = ("Articles", "Authors", "Categories", "Pages", "Tags")
EMAIL = "admin@lab.openmates.org"
# At first login Directus asks for the project's owner and licence, which a test does not answer.
LATER = "//button[contains(., 'Remind Later')]"
SAVE = "//header//button[.//*[@data-icon='check']]"


@pytest.fixture
def password(server) -> str:
    return server.operator.secrets()["openmates_admin_password"]


def test_the_administrator_logs_in_sees_the_collections_and_creates_an_item(server, password, tmp_path):
    address = f"http://{server.addresses[0]}:8055/admin"
    name = f"tag-{uuid.uuid4().hex[:8]}"
    with Browser(tmp_path) as browser:
        try:
            browser.open(f"{address}/login")
            browser.type("input[type=email]", EMAIL)
            browser.type("input[type=password]", password)
            browser.click("button[type=submit]")
            browser.wait(lambda: "/login" not in browser.address_bar(), "the login is taken")
            browser.click(LATER)
            browser.open(f"{address}/content/tags")
            browser.shows(*COLLECTIONS)
            browser.screenshot(SCREENSHOTS / "directus-collections.png")

            browser.open(f"{address}/content/tags/+")
            browser.type('[data-field="name"] input', name)
            browser.click(SAVE)
            browser.wait(lambda: browser.address_bar().endswith("/content/tags"), "the item is saved")
            browser.shows(name)
            browser.screenshot(SCREENSHOTS / "directus-item.png")
        except BaseException:
            browser.screenshot(SCREENSHOTS / "directus-failed.png")
            raise
    found = Directus(server, "website").call("GET", f"/items/tags?filter[name][_eq]={name}")
    assert [tag["name"] for tag in found] == [name]

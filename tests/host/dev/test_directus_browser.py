"""A person works in Directus: in a real browser, on the port that development publishes."""

from __future__ import annotations

import json
import subprocess
import uuid

import pytest
import yaml
from browser import Browser

from lab import ROOT

SCREENSHOTS = ROOT / ".lab/screenshots"
COLLECTIONS = ("Articles", "Authors", "Categories", "Pages", "Tags")
EMAIL = "admin@lab.openmates.org"
# Directus asks at first login who owns the project and takes its licence: for a person to answer, not for a test.
LATER = "//button[contains(., 'Remind Later')]"
SAVE = "//header//button[.//*[@data-icon='check']]"


@pytest.fixture
def password() -> str:
    view = ["ansible-vault", "view", "inventories/lab/group_vars/lab/secrets.yml"]
    text = subprocess.run(view, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return yaml.safe_load(text)["openmates_admin_password"]


@pytest.fixture
def ask_as_website(server):
    """Ask Directus with the service user's token, as the api would: inside the network, the token from Vault."""
    script = (
        "import json,sys,urllib.request as r;"
        "v=r.Request('http://vault:8200/v1/kv/data/system/directus/website',headers={'X-Vault-Token':open('/vault-data/api.token').read()});"
        "t=json.load(r.urlopen(v))['data']['data']['token'];"
        "q=r.Request('http://cms:8055'+sys.argv[1],headers={'Authorization':'Bearer '+t});"
        "print(json.dumps(json.load(r.urlopen(q))['data']))"
    )
    return lambda path: json.loads(server.compose(f"exec -T api python3 -c \"{script}\" '{path}'"))


def test_the_administrator_logs_in_sees_the_collections_and_creates_an_item(server, password, ask_as_website, tmp_path):
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
    found = ask_as_website(f"/items/tags?filter[name][_eq]={name}")
    assert [tag["name"] for tag in found] == [name]

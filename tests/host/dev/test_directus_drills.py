"""Drift in Directus is reported and repaired; a change of its database is prepared, or refused if it loses data."""

from __future__ import annotations

import json

import pytest
from directus import Directus

from lab import ROOT, recap

SCHEMA = ROOT / "inventories/directus/lab.json"
DUMPS = "/var/backups/openmates/directus"


@pytest.fixture(scope="module")
def admin(server) -> Directus:
    return Directus(server)


def run(server, *arguments: str):
    return server.playbook("site.yml", "--tags", "directus", *arguments)


def test_drift_is_reported_and_repaired(server, admin):
    role = next(role for role in admin.search("roles") if role["name"] == "Editor")
    policy = next(policy for policy in admin.search("policies") if policy["name"] == "read articles")
    admin.call("PATCH", f"/roles/{role['id']}", {"name": "Schreiber"})
    admin.call("PATCH", "/settings", {"project_name": "Something else"})
    admin.call("DELETE", "/fields/pages/slug")
    added = {"policy": policy["id"], "collection": "articles", "action": "delete", "fields": ["*"], "permissions": {}}
    permission = admin.call("POST", "/permissions", added)["id"]
    names = [
        "role Editor: name corrected",
        "settings: project_name corrected",
        "field pages.slug: created",
        "permission of policy read articles: delete articles",
    ]
    try:
        foretold = run(server, "--check")
        assert foretold.returncode == 0, foretold.stdout[-3000:]
        assert [name for name in names if name not in foretold.stdout] == []
        assert admin.call("GET", f"/roles/{role['id']}")["name"] == "Schreiber", "check mode changed something"

        repaired = run(server, "--diff")
        assert repaired.returncode == 0, repaired.stdout[-3000:]
        assert '-  name: "Schreiber"' in repaired.stdout and '+  name: "Editor"' in repaired.stdout
        assert admin.call("GET", f"/roles/{role['id']}")["name"] == "Editor"
        assert admin.call("GET", "/settings")["project_name"] == "OpenMates"
        assert admin.call("GET", "/fields/pages/slug")["field"] == "slug"

        again = run(server)
        assert recap(again.stdout)["changed"] == 0, again.stdout[-3000:]
        assert names[-1] in again.stdout, "additions are still reported"
        pruned = run(server, "-e", "directus_prune=true")
        assert recap(pruned.stdout)["changed"] == 1, pruned.stdout[-3000:]
    finally:
        admin.status("DELETE", f"/permissions/{permission}")


def test_a_changed_administrator_can_log_in_again(server, admin):
    me = admin.call("GET", "/users/me")["id"]
    admin.call("PATCH", f"/users/{me}", {"password": "set-by-hand-in-directus"})
    assert admin.status("GET", "/users/me")[0] == 401
    done = run(server)
    assert done.returncode == 0, done.stdout[-3000:]
    assert admin.call("GET", "/users/me")["id"] == me


def test_a_schema_file_that_could_harm_stops_the_run_and_nothing_else(server, admin, tmp_path):
    sample = json.loads(SCHEMA.read_text())
    title = next(f for f in sample["fields"] if (f["collection"], f["field"]) == ("articles", "title"))
    title["type"], title["schema"]["data_type"], title["schema"]["max_length"] = "integer", "integer", None
    cases = {
        "lossy": (json.dumps(sample), "type from string to integer"),
        "foreign": (SCHEMA.read_text().replace('"directus": "11.', '"directus": "10.'), "was created by Directus 10."),
        "rubbish": ('{"collections": []}', "no list of fields"),
    }
    for name, (text, message) in cases.items():
        file = tmp_path / f"{name}.json"
        file.write_text(text)
        stopped = server.playbook("site.yml", "--tags", "stack,directus", "-e", f"openmates_directus_schema={file}")
        assert stopped.returncode != 0, name
        assert message in stopped.stdout, stopped.stdout[-3000:]
        assert admin.call("GET", "/fields/articles/title")["type"] == "string"
    done = server.playbook("site.yml")
    assert done.returncode == 0, done.stdout[-3000:]
    server.wait_until_ready()


def test_the_database_was_dumped_before_it_was_changed(server):
    """By the runs above, each of which had another schema file for cms-setup."""
    dumps = server.run(f"ls {DUMPS}").split()
    assert dumps and len(dumps) <= 6
    assert server.run(f"stat -c '%a %U' {DUMPS}") == "700 root"
    for dump in dumps:
        assert server.run(f"stat -c '%a %U' {DUMPS}/{dump}") == "600 root"
        assert "directus_users" in server.compose(f"exec -T cms-database pg_restore --list < {DUMPS}/{dump}")

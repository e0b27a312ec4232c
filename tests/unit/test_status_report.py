"""The status of a server: what is judged as a fault, the table, and JSON."""

from __future__ import annotations

import copy
import json
import re

import pytest
from ansible_collections.openmates.server.plugins.plugin_utils.status import runs, times
from ansible_collections.openmates.server.plugins.plugin_utils.status.document import document_of
from ansible_collections.openmates.server.plugins.plugin_utils.status.faults import faults_of
from ansible_collections.openmates.server.plugins.plugin_utils.status.table import table_of

NOW = 1795793000.0  # 2026-11-27T15:23:20Z
HOUR, DAY = 3600, 86400
ONE_SHOTS = ("vault-setup", "cms-setup")
SERVICES = [
    *("api", "task-worker", "task-scheduler", "cms", "cms-setup", "cms-database", "cache", "vault", "vault-setup"),
    *("prometheus", "alertmanager", "loki", "promtail", "cadvisor", "grafana"),
]


def container(name: str, **more: object) -> dict:
    one_shot = name in ONE_SHOTS
    base = {
        "id": f"id-of-{name}",
        "state": "exited" if one_shot else "running",
        "health": "" if one_shot else "healthy",
        "exit_code": 0,
        "image": f"registry.example/openmates/{name}:v0.14.0-alpha",
        "address": "172.30.0.9",
        "one_shot": one_shot,
        "created": NOW - 2 * HOUR,
        "started": NOW - 2 * HOUR,
        "finished": NOW - 2 * HOUR + 5 if one_shot else None,
        "restarts": 0,
        "out_of_memory": False,
        "memory": None if one_shot else 500 * 2**20,
        "memory_limit": 1088 * 2**20,
    }
    return base | more


def answered(**content: object) -> dict:
    return {"rc": 0, "stdout": json.dumps(content), "stderr": ""}


def scanned(server: str, address: str) -> dict:
    """What a scan has seen of another server."""
    ports = [22, 80, 443]
    result = {"server": server, "address": address, "declared": ports, "open": ports, "unexpected": [], "missing": []}
    return result | {"state": "seen", "reason": "", "full": NOW - 2 * HOUR, "seen": NOW - 2 * HOUR}


PARTS = [{"name": name, "ok": True, "detail": "fine"} for name in ("directus_login", "cache", "health")]
SITE = {"verb": "site", "who": "root@controller", "begun": "2026-11-27T13:20:00Z", "ended": "2026-11-27T13:30:00Z"}


@pytest.fixture
def seen() -> dict:
    """A healthy server."""
    proof = {"age": 1800, "last_proven": {"seconds": NOW - 1800, "time": "2026-11-27T14:53:20Z"}}
    info = {
        "time": NOW,
        "services": {name: [container(name)] for name in SERVICES},
        "services_problem": "",
        "vault": {"state": "active", "problem": "", "token_seconds": 30 * DAY, "token_problem": ""},
        "certificate": {"ends": NOW + 80 * DAY, "problem": ""},
        "ready": answered(ready=True, maintenance=None, parts=PARTS),
        "backup": answered(age=HOUR, configured=DAY, last_success={"snapshot": "0123456789"}, problem="", proof=proof),
        "maintenance": None,
        "disks": [{"path": "/", "percent": 41, "free": 22 * 10**9, "days_left": None}],
        "updates": {"packages": 3, "security": 1, "problem": ""},
        "reboot": {"required": False, "packages": []},
        "failed_units": [],
        "killed_containers": [],
        "runs": {"ended": [{**SITE, "result": "ok"}], "running": {}},
        "scan": {
            "time": NOW - HOUR,
            "hours": 24,
            "results": [scanned("b", "198.51.100.2"), scanned("b", "2001:db8::2")],
        },
    }
    return {
        "host": "prod1",
        "environment": "prod",
        "info": info,
        "expected_services": SERVICES,
        "scanned": ["b", "c"],
        "domain": "api.prod1.example.test",
        "hints": {"vault": "site.yml unseals it"},
        "commands": {verb: f"ansible-playbook {verb}.yml -i prod" for verb in ("site", "drift", "verify")},
        "limits": {"disk_percent": 85, "certificate_days": 7},
    }


def texts(seen: dict) -> list[str]:
    return [fault.text for fault in faults_of(seen)]


def line(seen: dict, begin: str) -> str:
    """The last line of the table that begins so, apart from the verdict."""
    return next(found for found in reversed(table_of(seen)) if re.match(f"((ok|NOT OK) +)?{begin}", found))


def test_a_healthy_server_has_no_faults_and_fits_one_screen(seen: dict) -> None:
    assert texts(seen) == []
    table = table_of(seen)
    assert len(table) <= 24 and max(map(len, table)) <= 100, "\n".join(table)
    assert table[0] == "prod1 (prod): no faults; last run: site by root@controller 113 min ago, ok"


@pytest.mark.parametrize(("state", "does"), [("moved", "forwards to it"), ("returned", "answers with 503")])
def test_services_of_a_server_that_was_left_are_not_to_run(seen: dict, state: str, does: str) -> None:
    seen["info"] |= {
        "move": {"state": state, "peer": "prod2", "since": "2026-11-27T12:00:00Z"},
        "services": {name: [container(name, state="exited")] for name in SERVICES},
        "vault": {"state": "", "problem": "its container does not run", "token_seconds": None, "token_problem": ""},
        "ready": answered(ready=False, maintenance=None, parts=[{"name": "health", "ok": False, "detail": "refused"}]),
    }
    assert texts(seen) == []
    assert f"prod2 serves since 2026-11-27T12:00:00Z; this server {does}" in line(seen, "ready")
    seen["info"]["failed_units"] = ["chrony.service"]
    assert len(texts(seen)) == 1, "the rest of it is judged as ever"


@pytest.mark.parametrize("state", ["moving", "arriving"])
def test_a_move_that_has_not_ended_is_the_first_fault(seen: dict, state: str) -> None:
    seen["info"] |= {
        "move": {"state": state, "peer": "prod2", "since": "2026-11-27T12:00:00Z"},
        "services": {"api": [container("api", state="exited")]},
    }
    first, *others = texts(seen)
    assert "move.yml -e move_from=" in first and any("Service api" in text for text in others)


def test_a_line_says_since_when_by_which_run_and_with_how_much_memory_a_service_runs(seen: dict) -> None:
    assert " ".join(line(seen, "api ").split()) == "api healthy 2 h site 13:20 500/1088 46 % 0 api:v0.14.0-alpha"
    assert "done" in line(seen, "cms-setup ")


def test_the_rest_of_the_server_is_one_line_each(seen: dict) -> None:
    assert "ready in all 3 parts; no maintenance" in line(seen, "ready")
    assert "active; the services' token is valid for 30 d" in line(seen, "vault")
    assert "api.prod1.example.test, 80 d left" in line(seen, "certificate")
    assert "the last good one is 60 min old; a restore was proven 30 min ago" in line(seen, "backups")
    assert "/ 41 %, 22 GB free, full in: —" in line(seen, "disk")
    assert "no failed units; no reboot required; 3 updates, 1 for security" in line(seen, "system")


def test_the_days_until_the_disk_is_full_are_shown_when_they_are_known(seen: dict) -> None:
    seen["info"]["disks"][0]["days_left"] = 12.4
    assert "full in: 12 d" in line(seen, "disk")


FAULTS = {
    "stopped": (
        "services.api.0",
        {"state": "exited", "exit_code": 137, "finished": NOW - 120},
        "Service api: it is exited, ",
    ),
    "missing": ("services", {"api": []}, "Service api: it has no container"),
    "paused": ("services.cache.0", {"state": "paused"}, "Service cache: it is paused"),
    "unhealthy": ("services.cms.0", {"health": "unhealthy"}, "Service cms: it is unhealthy. "),
    "one-shot": ("services.cms-setup.0", {"exit_code": 3}, "Service cms-setup: it ended with exit code 3"),
    "killed": ("services.api.0", {"out_of_memory": True, "restarts": 4}, "limit of 1088M, and was restarted 4 times"),
    "killed, by the kernel's log": ("", {"killed_containers": ["id-of-cms"]}, "Service cms ran out of memory"),
    "restarted": ("services.cms.0", {"restarts": 2, "started": NOW - 60}, "Service cms ended by itself"),
    "sealed": ("vault", {"state": "sealed"}, "Vault is sealed, so no secret can be read, and has to be unsealed: "),
    "empty": ("vault", {"state": "uninitialized"}, "Vault is not initialised"),
    "silent": ("vault", {"state": "", "problem": "Nothing answers"}, "Vault does not work: Nothing answers"),
    "token": ("vault", {"token_seconds": HOUR}, "the services' token ends in 60 min"),
    "no token": ("vault", {"token_problem": "it is missing"}, "Vault: it is missing."),
    "disk": ("disks.0", {"percent": 85}, "The file system of / is 85 % full, 22 GB are free (limit: 85 %)"),
    "maintenance": (
        "",
        {"maintenance": {"by": "me", "reason": "disk"}},
        "Clients get 503, the server is in maintenance",
    ),
    "not ready": (
        "",
        {"ready": answered(ready=False, parts=[{"name": "cache", "ok": False, "detail": "refused"}, *PARTS[2:]])},
        "OpenMates is not ready, cache: refused",
    ),
    "unit": ("", {"failed_units": ["x.service"]}, "The unit x.service has failed"),
    "certificate": ("certificate", {"ends": NOW + 6 * DAY}, "ends in 6 d and was not renewed"),
    "certificate ended": ("certificate", {"ends": NOW - 3 * DAY}, "ended 3 d ago"),
    "no certificate": ("certificate", {"problem": "no answer", "ends": None}, "api.prod1.example.test: no answer"),
    "backup": ("", {"backup": answered(age=30 * HOUR, proof={"age": 60})}, "The last good backup is 30 h old"),
    "reboot": ("reboot", {"required": True, "packages": ["libc6"]}, "A reboot is required by libc6"),
    "drift": (
        "",
        {"drift": {"time": NOW - HOUR, "drift": [{"task": "ssh : Configure sshd", "names": ["/etc/ssh/x"]}]}},
        "Drift: 1 task of site.yml would change it: ssh : Configure sshd. `ansible-playbook drift.yml",
    ),
    "open port": (
        "scan.results.0",
        {"unexpected": [25, 6000]},
        "b at 198.51.100.2, seen from here: ports 25, 6000 are open",
    ),
    "closed port": (
        "scan.results.0",
        {"missing": [443]},
        "port 443 is declared and closed. `ansible-playbook verify.yml",
    ),
    "unreachable": (
        "scan.results.0",
        {"state": "unreachable", "reason": "no declared port accepts"},
        "no declared port",
    ),
    "old scan": (
        "scan.results.0",
        {"seen": NOW - 49 * HOUR},
        "not scanned for 2 d. `sudo journalctl -u openmates-scan`",
    ),
    "engine": ("", {"services_problem": "Docker does not run"}, "Docker does not run. "),
}


def broken(seen: dict, place: str, values: dict) -> dict:
    """The server with some of its facts changed."""
    changed = copy.deepcopy(seen)
    there = changed["info"]
    for name in filter(None, place.split(".")):
        there = there[int(name) if name.isdigit() else name]
    there.update(values)
    return changed


def test_a_drift_check_counts_until_the_server_is_provisioned_again(seen: dict) -> None:
    assert not any("drift" in found for found in table_of(seen))
    none = broken(seen, "", {"drift": {"time": NOW - HOUR, "drift": []}})
    assert not faults_of(none) and line(none, "drift").endswith("none, checked 60 min ago")
    old = broken(seen, "", {"drift": {"time": NOW - 3 * HOUR, "drift": [{"task": "a", "names": []}]}})
    assert not faults_of(old) and not any("drift" in found for found in table_of(old))


def test_the_scans_of_other_servers_have_a_line(seen: dict) -> None:
    assert line(seen, "scan").endswith("1 of 1 other servers as declared, 2 h ago at most; not yet: c")
    assert "0 of 1 other servers" in line(broken(seen, "scan.results.1", {"unexpected": [25]}), "scan")
    alone = seen | {"scanned": []}
    assert not any("other servers" in found for found in table_of(alone)), "what is left of an earlier inventory"
    assert not faults_of(broken(alone, "scan.results.1", {"unexpected": [25]}))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_below_its_line_and_in_the_list(seen: dict, name: str) -> None:
    *change, words = FAULTS[name]
    changed = broken(seen, *change)
    (text,) = texts(changed)
    assert words in text
    table = table_of(changed)
    assert "1 FAULT" in table[0] and max(map(len, table)) <= 100
    (below,) = [number for number, found in enumerate(table) if found.startswith("  ! ")]
    shown = " ".join(found.strip() for found in table[below:] if found.startswith(("  ! ", "    ")))
    assert shown.removeprefix("! ") == " ".join(text.split())
    assert any(word.isupper() and len(word) > 2 for word in table[below - 1].split()), table[below - 1]


def test_the_cause_comes_first(seen: dict) -> None:
    for name in ("reboot", "not ready", "maintenance", "sealed", "disk", "paused"):
        seen = broken(seen, *FAULTS[name][:2])
    kinds = [fault.kind for fault in faults_of(seen)]
    assert kinds == ["disk", "service", "vault", "maintenance", "ready", "reboot"]


def test_services_come_in_the_order_of_their_dependencies(seen: dict) -> None:
    for name in ("grafana", "api", "cms-database"):
        seen = broken(seen, f"services.{name}.0", {"state": "exited", "exit_code": 1})
    assert [fault.line for fault in faults_of(seen)] == ["service cms-database", "service api", "service grafana"]


def test_a_vault_that_ran_out_of_memory_is_the_cause_of_being_sealed(seen: dict) -> None:
    seen = broken(broken(seen, "vault", {"state": "sealed"}), "services.vault.0", {"out_of_memory": True})
    assert [fault.kind for fault in faults_of(seen)] == ["memory", "vault"]


def test_a_sealed_vault_names_who_has_to_unseal_it(seen: dict) -> None:
    seen = broken(seen, "vault", {"state": "sealed"})
    assert "`ansible-playbook site.yml -i prod` does it" in texts(seen)[0]
    assert "`unseal.yml` does it, by those who hold the shares" in texts(seen | {"unsealed_by": "operator"})[0]


def test_an_active_vault_can_be_unhealthy(seen: dict) -> None:
    assert "it is unhealthy" in texts(broken(seen, "services.vault.0", {"health": "unhealthy"}))[0]


def test_a_sealed_vault_is_one_fault(seen: dict) -> None:
    seen = broken(broken(seen, "vault", {"state": "sealed"}), "services.vault.0", {"health": "unhealthy"})
    assert len(texts(seen)) == 1


def test_what_a_deploy_replaces_is_no_fault(seen: dict) -> None:
    new = container("api", health="starting", created=NOW - 20, started=NOW - 20)
    seen["info"]["services"]["api"].insert(0, new)
    seen["info"]["runs"]["running"] = {**SITE, "verb": "deploy", "begun": "2026-11-27T15:22:00Z", "ended": ""}
    assert texts(seen) == []
    assert table_of(seen)[0].endswith("deploy by root@controller has been running for 80 s")
    seen["info"]["services"]["api"] = [new]
    assert texts(seen) == [] and "deploy 15:22" in line(seen, "api ")
    new["started"] -= HOUR
    assert texts(seen) == ["Service api: it is starting. See `sudo docker compose logs api` on the host"]


def test_an_old_restart_is_no_fault(seen: dict) -> None:
    assert texts(broken(seen, "services.api.0", {"restarts": 9})) == []


def test_a_run_that_was_cut_off_made_nothing_later(seen: dict) -> None:
    info = {"time": NOW, "runs": {"ended": [{**SITE, "ended": "", "result": "interrupted"}]}}
    assert runs.run_at(info, NOW) == {}
    run = runs.run_at(info, runs.moment(SITE["begun"]))
    assert runs.name(run, NOW) == "site 13:20" and runs.name(run, NOW + DAY) == "site 11-27"


def test_without_domain_and_repository_their_lines_say_so(seen: dict) -> None:
    seen["info"] |= {"certificate": {}, "backup": {}}
    assert texts(seen) == []
    assert "openmates_domain is not set" in line(seen, "certificate")
    assert "openmates_backup_repository is not set" in line(seen, "backups")


def test_json_has_the_same(seen: dict) -> None:
    found = json.loads(document_of(seen))
    assert found["ok"] and found["faults"] == [] and "\n" not in document_of(seen)
    assert found["services"]["api"]["run"]["verb"] == "site" and found["ready"]["ready"]
    found = json.loads(document_of(broken(seen, *FAULTS["sealed"][:2])))
    assert not found["ok"] and found["faults"][0]["kind"] == "vault"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (-1, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (2 * DAY, "2 d")],
)
def test_a_duration_is_in_its_largest_unit(seconds: float | None, text: str) -> None:
    assert times.duration(seconds) == text

"""The report on a live server, and its problems."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.modules import exposure_info
from ansible_collections.openmates.server.plugins.plugin_utils.verify.problems import problems_of
from ansible_collections.openmates.server.plugins.plugin_utils.verify.report import report_of
from ansible_collections.openmates.server.plugins.plugin_utils.verify.results import host_has_to_be_asked

V4, V6 = "198.51.100.11", "2001:db8:51::11"


def found(*ports: int, **more: object) -> dict:
    """What the probe returns for an address."""
    seen = {
        "reachable": True,
        "reason": "",
        "reliable": True,
        "answered": True,
        "open": list(ports),
        "closed": 0,
        "silent": 65535 - len(ports),
        "errors": {},
        "elapsed": 5.8,
    }
    return seen | more


def answer(address: str = V4, **more: object) -> dict:
    """What the probe returns for a web request."""
    seen = {
        "address": address,
        "url": "https://api.openmates.test/health",
        "ok": True,
        "status": 200,
        "location": "",
        "issuer": "Lab CA",
        "not_after": "2027-02-20T00:00:00Z",
        "days_left": 89,
        "error": "",
    }
    return seen | more


def counted(ipv4: int, ipv6: int) -> dict[str, int]:
    """The firewall's counters, as nft prints them. Of IPv6, where all is well, it saw a thousand times as many."""
    metainfo = {"metainfo": {"version": "1.1.3", "release_name": "Commodore Bullmoose #4", "json_schema_version": 1}}
    counters = [
        {"counter": {"family": "inet", "name": name, "table": "openmates", "handle": 3, "packets": packets, "bytes": 1}}
        for name, packets in (("closed_ipv4", ipv4), ("closed_ipv6", 1000 * ipv6))
    ]
    return exposure_info.counted(json.dumps({"nftables": [metainfo, *counters]}))


def service(**more: object) -> dict:
    base = {"state": "running", "health": "healthy", "exit_code": 0, "image": "a/b:1", "software": "", "stand_in": ""}
    return base | more


PARTS = ("directus_login", "collections", "vault_token", "vault_policy", "transit", "cache", "queue:email")


def asked(**failing: str) -> dict:
    """The result of the command openmates-ready, in which the named parts fail with these details."""
    details = {name.replace("__", ":"): detail for name, detail in failing.items()}
    parts = [{"name": name, "ok": name not in details, "detail": details.get(name, "fine")} for name in PARTS]
    answer = {"ready": not failing, "parts": parts}
    return {"rc": 1 if failing else 0, "stdout": json.dumps(answer), "stderr": "", "msg": ""}


@pytest.fixture
def seen() -> dict:
    """A server without problems."""
    return {
        "host": "prod1",
        "environment": "prod",
        "addresses": [V4, V6],
        "families": ["ipv4", "ipv6"],
        "expected_ports": [22, 80, 443],
        "port_names": {"22": "ssh", "80": "caddy (http)", "443": "caddy (https)"},
        "probe": {"addresses": {V4: found(22, 80, 443), V6: found(22, 80, 443)}, "web": [answer(V4), answer(V6)]},
        "ready": asked(),
        "services": {
            "api": service(),
            "loki": service(stand_in="Loki", software="a small web server"),
            "cms-setup": service(state="exited", health="", one_shot=True),
        },
        "expected_services": ["api", "loki", "cms-setup"],
    }


def test_a_good_server_has_no_problem(seen: dict) -> None:
    assert problems_of(seen) == []
    assert not host_has_to_be_asked(seen)


def test_the_report_shows_everything(seen: dict) -> None:
    text = "\n".join(report_of(seen))
    for words in (
        "prod1 (prod): no problems",
        f"IPv4 {V4}",
        f"IPv6 {V6}",
        "caddy (https)",
        "certificate by Lab CA, 89 days left",
        "OpenMates is ready",
        "queue:email     ok  fine",
        "Services: 3 of 3 without problems, 1 stand-ins",
        "STAND-IN for Loki",
    ):
        assert words in text
    assert all(line == line.rstrip() for line in text.splitlines()), "trailing blanks spoil YAML output"


def test_the_report_names_what_a_server_itself_answers(seen: dict) -> None:
    seen["services"]["vault"] = service(image="hashicorp/vault:9.9", reported="HashiCorp Vault 1.21.0")
    text = "\n".join(report_of(seen))
    assert "HashiCorp Vault 1.21.0 (reported by the server)" in text and "hashicorp/vault:9.9" not in text
    seen["services"]["vault"]["reported"] = ""
    assert "hashicorp/vault:9.9" in "\n".join(report_of(seen))


def change(seen: dict, path: str, value: object) -> dict:
    """A copy with one value changed; the path's parts are separated by slashes."""
    seen = copy.deepcopy(seen)
    *parts, last = path.split("/")
    target = seen
    for part in parts:
        target = target[int(part)] if isinstance(target, list) else target[part]
    target[int(last) if isinstance(target, list) else last] = value
    return seen


NO_ROUTE = "this machine has no IPv6 route to it (Network is unreachable)"


@pytest.mark.parametrize(
    ("path", "value", "problem_words", "report_words"),
    [
        (
            f"probe/addresses/{V6}/open",
            [22, 80, 443, 5432],
            ["Port 5432", V6, "must be closed"],
            "OPEN, MUST BE CLOSED",
        ),
        (f"probe/addresses/{V4}/open", [22, 80], ["Port 443 (caddy (https))", V4], "NOT OPEN"),
        (
            f"probe/addresses/{V6}",
            found(reachable=False, reliable=False, answered=False, reason=NO_ROUTE),
            [V6, "no IPv6 route", "openmates_probe_families: [ipv4]"],
            "NOT PROBED, this machine has no IPv6 route",
        ),
        (
            f"probe/addresses/{V4}",
            found(22, 80, 443, reliable=False, reason="too much"),
            [V4, "is not reliable"],
            "",
        ),
        (f"probe/addresses/{V4}", found(answered=False), ["Nothing answered", V4], "NOT OPEN"),
        (
            f"probe/addresses/{V4}",
            found(reliable=False, intercepted=True, reason="32 of 32 random ports accept connections", silent=0),
            [f"The ports of {V4} could not be seen from here", "32 of 32", "VPN", "another network"],
            "NOT SEEN, 32 of 32",
        ),
        (
            "dropped",
            [counted(7, 9), counted(40, 99)],
            [
                f"The closed ports of {V4} could not be proven from here: 33 of 65532",
                "openmates_upstream_firewall: true",
            ],
            "33 of 65532 attempts at closed ports reached the server",
        ),
        ("probe/web/1", answer(V6, ok=False, error="the certificate is not valid: expired"), [V6, "expired"], "FAILED"),
        ("probe/web/0", answer(V4, days_left=3), ["expires in 3 days"], "3 days left"),
        (
            "ready",
            asked(collections="1 of 2 are missing: users"),
            ["collections: 1 of 2 are missing: users", "cms-setup"],
            "NOT READY: 1 of 7 parts failed",
        ),
        (
            "ready",
            asked(directus_login="rejected at noon; not tried again"),
            ["directus_login: rejected at noon", "openmates_admin_password"],
            "directus_login  FAILED  rejected",
        ),
        ("ready", asked(vault_policy="may not read x"), ["vault_policy: may not", "--tags vault"], "NOT READY"),
        ("ready", asked(vault_token="ends in 5 s"), ["vault_token: ends in 5 s", "--tags vault"], "NOT READY"),
        ("ready", asked(cache="refuses"), ["cache: refuses", "openmates_cache_password"], "NOT READY"),
        ("ready", asked(queue__email="no worker"), ["queue:email: no worker", "openmates_worker_queues"], "NOT READY"),
        ("ready", asked(transit="not asked: why"), ["OpenMates is not ready, transit: not asked: why"], "NOT READY"),
        (
            "ready",
            asked(**{name.replace(":", "__"): "not asked: the api has no container" for name in PARTS}),
            ["OpenMates is not ready: not asked: the api has no container", "docker compose logs api"],
            "7 of 7 parts",
        ),
        ("ready", {"rc": 2, "stdout": "", "msg": "No such file"}, ["No such file", "--tags stack"], "NOT READY"),
        ("ready", {"rc": 0, "stdout": '{"ready": true}'}, ["printed no result"], "NOT READY"),
        ("ready", {"rc": 2, "stdout": '{"parts": []}', "stderr": "only root"}, ["only root"], "NOT READY"),
        (
            "probe/web/0",
            answer(ok=False, status=503, error="status 503 instead of 200"),
            [V4, "status 503", "OpenMates is ready, but Caddy considers", "journalctl -u caddy"],
            "FAILED",
        ),
        ("services/api", service(health="unhealthy"), ["Service api", "unhealthy"], "2 of 3"),
        (
            "services/api",
            service(state="restarting", exit_code=1),
            ["Service api", "restarting", "exit code 1"],
            "PROBLEM",
        ),
        ("services/api", service(state="missing", image=""), ["Service api", "no container"], "missing"),
        (
            "services/cms-setup",
            service(state="exited", exit_code=2, one_shot=True),
            ["cms-setup", "exit code 2"],
            "code 2",
        ),
        ("services/cms-setup", service(health="", one_shot=True), ["cms-setup", "running, not exited"], "running"),
        ("services_problem", "Docker does not answer", ["Docker does not answer"], ""),
        ("expected_services", ["api", "vault"], ["Service vault", "no container"], "3 of 4"),
    ],
)
def test_problems_are_reported(
    seen: dict, path: str, value: object, problem_words: list[str], report_words: str
) -> None:
    bad = change(seen, path, value)
    problems = problems_of(bad)
    assert len(problems) == 1, problems
    for word in problem_words:
        assert word in problems[0]
    text = "\n".join(report_of(bad))
    assert "1 problem, listed below" in text
    assert report_words in text


def test_an_unexpected_port_is_traced_to_process_and_container(seen: dict) -> None:
    bad = change(seen, f"probe/addresses/{V4}/open", [22, 80, 443, 8055])
    assert host_has_to_be_asked(bad)
    bad["listeners"] = [
        {"address": "127.0.0.1", "port": 8055, "program": "harmless", "pid": 7},
        {"address": "0.0.0.0", "port": 8055, "program": "docker-proxy", "pid": 4711},
        {"address": "0.0.0.0", "port": 22, "program": "sshd", "pid": 1},
    ]
    ports = "0.0.0.0:8050-8060->8050-8060/tcp, [::]:8055->8055/tcp"
    bad["containers"] = [json.dumps({"Names": "openmates-cms-1", "Ports": ports}), "not JSON"]
    [problem] = problems_of(bad)
    assert "process docker-proxy (pid 4711) on 0.0.0.0" in problem
    assert "container openmates-cms-1 publishes it on 0.0.0.0, [::]" in problem
    assert "harmless" not in problem


def test_a_closed_port_is_reported_with_its_listener(seen: dict) -> None:
    bad = change(seen, f"probe/addresses/{V6}/open", [22, 80])
    listening = bad | {"listeners": [{"address": "::", "port": 443, "program": "caddy", "pid": 12}]}
    assert "process caddy (pid 12)" in problems_of(listening)[0]
    deaf = bad | {"listeners": [{"address": "::", "port": 22, "program": "sshd", "pid": 1}]}
    assert "nothing listens there" in problems_of(deaf)[0]


def test_a_program_that_only_the_firewall_hides_is_named(seen: dict) -> None:
    seen["listeners"] = [
        {"address": "0.0.0.0", "port": 5432, "program": "postgres", "pid": 4711},
        {"address": "127.0.0.1", "port": 6379, "program": "redis", "pid": 4712},
        {"address": "::1", "port": 6379, "program": "redis", "pid": 4712},
        {"address": "::", "port": 443, "program": "caddy", "pid": 12},
    ]
    [problem] = problems_of(seen)
    assert problem.startswith(
        "Port 5432 is not declared, and only the firewall keeps it closed: process postgres (pid 4711)"
    )
    assert "openmates_other_listeners" in problem and host_has_to_be_asked(seen)
    assert problems_of(seen | {"other_listeners": [5432]}) == []
    assert problems_of(seen | {"internal_listeners": ["172.30.0.1:5432"]}) == [problem], "another address"
    seen["listeners"][0]["address"] = "172.30.0.1"
    assert problems_of(seen | {"internal_listeners": ["172.30.0.1:5432"]}) == []
    seen["probe"]["addresses"][V4] = found(22, 80, 443, 5432)
    [problem] = problems_of(seen)
    assert problem.startswith("Port 5432 is open to the internet"), "once, as the worse of the two"


def test_ports_without_a_listener_are_one_sentence(seen: dict) -> None:
    """As behind a proxy that answers on some ports only."""
    bad = change(seen, f"probe/addresses/{V4}/open", [22, 80, 443, *range(8000, 8300)])
    bad["listeners"] = [{"address": "0.0.0.0", "port": 22, "program": "sshd", "pid": 1}]
    [problem] = problems_of(bad)
    assert problem.startswith("Ports 8000, 8001") and "and 288 more must be closed" in problem and len(problem) < 500
    assert "something in between answers" in problem and "another network" in problem
    report = report_of(bad)
    assert "  and 280 more that are not expected" in report and len(report) < 60


def test_ports_that_a_firewall_in_between_closes_are_one_sentence(seen: dict) -> None:
    """As behind a VPN that lets HTTPS through, and nothing else."""
    seen["probe"]["addresses"] = {V4: found(443), V6: found(443)}
    seen["listeners"] = [{"address": "0.0.0.0", "port": port, "program": "any", "pid": 1} for port in (22, 80, 443)]
    [problem] = problems_of(seen)
    assert problem.startswith("Ports 22 (ssh), 80 (caddy (http)) must be open and are closed at")
    assert "the host listens there" in problem and "VPN" in problem


def test_an_address_of_which_nothing_can_be_seen_is_one_sentence(seen: dict) -> None:
    """IPv6 that leads nowhere: the web's requests fail as well, and its ports."""
    seen["probe"]["addresses"][V6] = found(answered=False)
    seen["probe"]["web"] = [answer(V4), answer(V6, ok=False, status=0, error="timed out")]
    [problem] = problems_of(seen)
    assert "Nothing answered" in problem and "openmates_probe_families: [ipv4]" in problem
    seen["probe"]["addresses"][V4] = found(answered=False)
    seen["probe"]["web"] = []
    assert not any("openmates_probe_families" in problem for problem in problems_of(seen))


def test_what_is_open_only_to_a_proxy_is_not_reported_as_the_servers(seen: dict) -> None:
    for address in (V4, V6):
        seen["probe"]["addresses"][address] = found(*range(1, 65536), intercepted=True, reliable=False, reason="proxy")
    assert len(problems_of(seen)) == 2 and not host_has_to_be_asked(seen)
    assert len(report_of(seen)) < 40


def test_attempts_that_reach_the_server_prove_that_its_ports_are_closed(seen: dict) -> None:
    for before, after in ((counted(7, 9), counted(70_000, 99)), ({}, {}), ({}, counted(1, 1))):
        assert problems_of(seen | {"dropped": [before, after]}) == []
    assert [exposure_info.counted(text) for text in ("", "no JSON", "[]")] == [{}, {}, {}], "there is no such firewall"
    assert problems_of(seen | {"dropped": [counted(900, 99), counted(3, 3)]}) == [], "the firewall was loaded again"
    refused = change(seen, f"probe/addresses/{V4}", found(22, 80, 443, closed=65532, silent=0))
    assert len(problems_of(refused | {"dropped": [counted(7, 9), counted(8, 99)]})) == 1, "not by the server"


def test_a_firewall_in_front_of_the_server_is_reported_but_no_problem(seen: dict) -> None:
    seen |= {"dropped": [counted(7, 9), counted(40, 99)], "upstream_firewall": True}
    assert problems_of(seen) == []
    assert any("a firewall dropped the rest" in line for line in report_of(seen))


def test_the_firewall_has_the_counters() -> None:
    rules = (Path(__file__).parents[2] / "roles/firewall/templates/firewall.nft.j2").read_text()
    for family in ("ipv4", "ipv6"):
        assert f"counter closed_{family} {{ }}" in rules and f"nfproto {family} counter name closed_{family}" in rules


def test_a_family_left_out_is_visible_but_no_problem(seen: dict) -> None:
    seen["families"] = ["ipv4"]
    del seen["probe"]["addresses"][V6]
    assert problems_of(seen) == []
    assert f"{V6}: NOT PROBED, IPv6 is not in openmates_probe_families" in "\n".join(report_of(seen))


def test_ipv6_can_be_required(seen: dict) -> None:
    seen |= {"addresses": [V4], "require_ipv6": True}
    del seen["probe"]["addresses"][V6]
    assert "no IPv6 address" in problems_of(seen)[0]


def test_no_address_is_a_problem(seen: dict) -> None:
    seen |= {"addresses": [], "probe": {"addresses": {}, "web": []}}
    assert "openmates_public_addresses" in problems_of(seen)[0]


def test_a_port_for_some_networks_only_may_be_closed_from_here(seen: dict) -> None:
    seen["probe"]["addresses"] = {V4: found(80, 443), V6: found(22, 80, 443)}
    assert any("Port 22" in problem for problem in problems_of(seen))
    seen["restricted_ports"] = [22]
    assert problems_of(seen) == [] and not host_has_to_be_asked(seen)
    assert any("not from here" in line for line in report_of(seen))


def test_a_service_that_is_not_well_comes_with_its_hint(seen: dict) -> None:
    bad = change(seen, "services/api/health", "unhealthy")
    bad["hints"] = {"api": "If it is sealed: do this", "loki": "not this"}
    [problem] = problems_of(bad)
    assert problem.startswith("Service api: it is unhealthy.") and problem.endswith(". If it is sealed: do this")


def test_parts_that_fail_for_one_reason_are_one_problem(seen: dict) -> None:
    lost = "not asked: there is no valid token for Vault"
    seen["ready"] = asked(vault_token="Vault is sealed", vault_policy=lost, transit=lost)
    seen["hints"] = {"vault": "unseal it"}
    assert problems_of(seen) == [
        "OpenMates is not ready, vault_token: Vault is sealed. unseal it",
        f"OpenMates is not ready, vault_policy, transit: {lost}",
    ]


def test_caddy_is_not_blamed_while_the_api_is_not_ready(seen: dict) -> None:
    seen["probe"]["web"] = [answer(ok=False, status=503, error="status 503 instead of 200")]
    seen["ready"] = asked(cache="refuses")
    assert not any("Caddy" in problem for problem in problems_of(seen))
    seen["ready"] = asked()
    seen["probe"]["web"] = [answer(ok=False, status=502, error="status 502 instead of 200")]
    assert not any("Caddy" in problem for problem in problems_of(seen))


def test_a_server_that_is_not_asked_is_not_reported_as_ready(seen: dict) -> None:
    seen["ready"] = {"skipped": True}
    assert problems_of(seen) == []
    assert "OpenMates is" not in "\n".join(report_of(seen))


def new_server(seen: dict) -> dict:
    """What a dry run sees of a server on which nothing was installed yet."""
    return seen | {
        "dry_run": True,
        "probe": {"addresses": {V4: found(22, 111), V6: found(22, 111)}, "web": [answer(ok=False, error="refused")]},
        "ready": {"rc": 2, "stdout": "", "msg": "No such file"},
        "services": {},
        "services_problem": "Docker is not installed",
    }


def test_a_dry_run_reports_what_a_new_server_lacks_as_not_there_yet(seen: dict) -> None:
    new = new_server(seen)
    assert problems_of(new) == []
    text = "\n".join(report_of(new))
    assert "prod1 (prod): not provisioned yet" in text and "Services: none yet; the run makes 3: api, loki" in text
    assert "not yet" in text and "open, to be closed" in text
    for word in ("PROBLEM", "FAILED", "NOT READY", "NOT OPEN", "MUST NOT BE", "http"):
        assert word not in text.replace("caddy (http", "")


def test_a_dry_run_of_a_new_server_still_names_what_could_not_be_proven(seen: dict) -> None:
    new = new_server(seen)
    new["probe"]["addresses"][V6] = found(reachable=False, reliable=False, answered=False, reason=NO_ROUTE)
    [problem] = problems_of(new)
    assert "no IPv6 route" in problem and "1 problem, listed below" in report_of(new)[0]


def test_a_dry_run_does_not_take_a_broken_engine_for_a_new_server(seen: dict) -> None:
    broken = new_server(seen) | {"services_problem": "Docker does not answer: connection refused"}
    assert any("Docker does not answer" in problem for problem in problems_of(broken))


def test_only_a_dry_run_excuses_what_is_missing(seen: dict) -> None:
    new = new_server(seen) | {"dry_run": False}
    assert any("Docker is not installed" in problem for problem in problems_of(new))
    assert any("Port 443" in problem for problem in problems_of(new))
    assert "NOT READY" in "\n".join(report_of(new))


def test_a_dry_run_reports_a_new_service_as_not_there_yet_and_a_broken_one_as_a_problem(seen: dict) -> None:
    seen |= {"dry_run": True, "expected_services": ["api", "grafana"]}
    assert problems_of(seen) == []
    assert any(line.split()[:2] == ["grafana", "not"] for line in report_of(seen))
    seen["services"]["api"] = service(health="unhealthy")
    [problem] = problems_of(seen)
    assert problem.startswith("Service api: it is unhealthy")


# ---------------------------------------------------------------- maintenance

FLAG = {"owner": "operator", "by": "ada@laptop", "reason": "a new disk", "since": "2026-11-26T20:00:00Z"}


def closed(seen: dict, flag: dict) -> dict:
    """The server in maintenance, asked from an address that is not exempt."""
    ready = asked()
    ready["stdout"] = json.dumps(json.loads(ready["stdout"]) | {"maintenance": flag})
    web = [answer(V4, ok=False, status=503, error="503, not 200"), answer(V6, ok=False, status=503, error="503")]
    return seen | {"ready": ready, "probe": seen["probe"] | {"web": web}}


def test_a_server_in_maintenance_is_one_problem_with_who_since_when_and_why(seen: dict) -> None:
    [problem] = problems_of(closed(seen, FLAG))
    for words in ("503", "2026-11-26T20:00:00Z", "ada@laptop", "a new disk", "maintenance.yml -e state=off"):
        assert words in problem
    assert "IN MAINTENANCE" in report_of(closed(seen, FLAG))[0]
    [left] = problems_of(closed(seen, FLAG | {"owner": "vault_restore"}))
    assert "A run of vault_restore did not succeed: run it again" in left
    [unknown] = problems_of(closed(seen, {}))
    assert "an unknown operator" in unknown


def test_maintenance_hides_no_other_problem(seen: dict) -> None:
    broken = closed(seen, FLAG) | {"maintenance_allowed": True}
    assert problems_of(broken) == [] and "IN MAINTENANCE" in report_of(broken)[0]
    broken["probe"]["web"][0] |= {"status": 500, "error": "500, not 200"}
    assert ["500" in problem for problem in problems_of(broken)] == [True]


def test_a_503_without_maintenance_stays_a_problem(seen: dict) -> None:
    problems = problems_of(closed(seen, None))
    assert len(problems) == 2 and "IN MAINTENANCE" not in report_of(closed(seen, None))[0]


# ---------------------------------------------------------------- what a machine without a login sees


def test_a_scan_without_a_login_does_not_say_what_only_the_host_can_tell() -> None:
    seen = {"host": "a.test", "addresses": [V4], "expected_ports": [22], "probe": {"addresses": {V4: found(22, 6000)}}}
    assert problems_of(seen) == [
        f"Port 6000 must be closed and accepts connections at {V4}. verify.yml, which logs in, names the program that "
        "listens"
    ]
    assert not [line for line in report_of(seen) if line.startswith(("Services", "Alerts", "Logs", "OpenMates"))]


# ---------------------------------------------------------------- what collects the logs


@pytest.mark.parametrize(("collector", "named"), [("promtail", True), ("alloy", False), ("", False)])
def test_the_report_names_promtail_as_unsupported(collector: str, named: bool) -> None:
    seen = {"host": "a.test", "addresses": [V4], "probe": {"addresses": {V4: found(22)}}, "log_collector": collector}
    assert any("Promtail, whose support ended in March 2026" in line for line in report_of(seen)) == named

"""Each dependency of the api is broken separately: openmates-ready names it, and verify uses openmates-ready.

/v1/health answers 200 throughout, so nothing else on the server notices these. What a test breaks it restores, and the
next one begins with everything ready.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator

import pytest
from directus import Directus
from web import ask

from lab import ROOT, STACK, wait_until

PROBE = "/usr/local/sbin/openmates-ready --json"
VAULT_PARTS = {"vault_token", "vault_policy", "transit"}
DIRECTUS_PARTS = {"directus_login", "collections", "fields"}
POLICY = (ROOT / "roles/vault/files/policies/api-encryption.hcl").read_text()
# A Celery client with the cache's address alone, in the api's container.
CELERY = """
import os, sys
from celery import Celery
from urllib.parse import quote
password = quote(os.environ["DRAGONFLY_PASSWORD"], safe="")
app = Celery(broker=f"redis://default:{password}@{os.environ['DRAGONFLY_URL']}/0")
verb, queue = sys.argv[1:]
options = {"exchange": queue, "exchange_type": "direct", "routing_key": queue} if verb == "add" else {}
print(getattr(app.control, verb + "_consumer")(queue, reply=True, timeout=20, limit=1, **options))
"""


def probed(server, arguments: str = "") -> dict[str, tuple[bool, str]]:
    """Every part of the readiness: whether it is ok, and its detail."""
    answer = json.loads(server.host.run(f"{PROBE} {arguments}").stdout)
    parts = {part["name"]: (part["ok"], part["detail"]) for part in answer["parts"]}
    assert answer["ready"] is all(ok for ok, _ in parts.values())
    return parts


def failing(server) -> dict[str, str]:
    """The failing parts, with their details."""
    return {name: detail for name, (ok, detail) in probed(server).items() if not ok}


def failing_alone(server, *names: str) -> dict[str, str]:
    """The details of these parts, once they fail and no other does: on a busy machine, one more may be too late."""
    found: dict[str, str] = {}

    def only_those() -> bool:
        found.clear()
        found.update(failing(server))
        print("failing:", found)
        return found.keys() == set(names)

    wait_until(only_those, f"only {', '.join(names)} fail")
    return found


def queues(server) -> list[str]:
    return [
        name
        for names in json.loads(server.run(f"cat {STACK}/config/ready/ready.json"))["queues"].values()
        for name in names
    ]


@pytest.fixture(scope="module", autouse=True)
def without_repairs(server) -> Iterator[None]:
    """Stops the server's own repairs, which would interfere with the tests."""
    server.run("mkdir -p /run/openmates-heal && touch /run/openmates-heal/hold")
    yield
    server.run("rm -f /run/openmates-heal/hold")


@pytest.fixture(autouse=True)
def ready_before_and_after(server, without_repairs) -> Iterator[None]:
    """The api must be ready, so that a test finds only the part that it broke."""
    wait_until(lambda: not failing(server), "everything is ready", 180)
    yield
    wait_until(lambda: not failing(server), "everything is ready again", 180)


@contextlib.contextmanager
def another_secret(server, name: str, value: str) -> Iterator[None]:
    """Changes one of the api's secret files, which the api reads only at its start."""
    file = f"{STACK}/secrets/{name}"
    # The copy is elsewhere: every file in that folder becomes a variable of the api. Its time is restored as well: the
    # host restarts services whose token is newer than they are.
    copy = "/run/openmates-test-secret"
    server.run(f"install --preserve-timestamps -m 0600 {file} {copy} && printf %s {value} > {file}")
    try:
        yield
    finally:
        server.run(f"cat {copy} > {file} && touch --reference={copy} {file} && rm {copy}")


def sql(server, statement: str) -> str:
    command = f"psql -U directus -d directus -v ON_ERROR_STOP=1 -Atc {shlex.quote(statement)}"
    return server.compose(f"exec -T cms-database {command}")


def forget_schema(server) -> None:
    """Directus caches its schema."""
    Directus(server).status("POST", "/utils/cache/clear?system")


def consumer(server, verb: str, queue: str) -> str:
    """Make the worker start (add) or stop (cancel) consuming a queue."""
    code = shlex.quote(CELERY)
    return server.compose(f"exec -T api /bin/sh /openmates/with-secrets.sh python3 -c {code} {verb} {queue}")


def initialised(server) -> bool:
    return server.host.run("curl -sf -m 5 -o /dev/null http://127.0.0.1:8000/v1/health").rc == 0 or (
        server.host.run("curl -sf -m 5 -o /dev/null http://127.0.0.1:8001/v1/health").rc == 0
    )


def verified(server, *arguments: str) -> str:
    """The report of a failed verify."""
    run = server.playbook("playbooks/verify.yml", "-e", "verify_ready_timeout=5", *arguments)
    assert run.returncode != 0, run.stdout[-3000:]
    return run.stdout


def test_the_command_reports_every_part(server):
    parts = probed(server)
    asked = {*DIRECTUS_PARTS, *VAULT_PARTS, "cache", "health", "initialisation"}
    assert set(parts) == asked | {f"queue:{name}" for name in queues(server)}
    assert len(queues(server)) > 1
    assert server.host.run(PROBE).rc == 0
    assert server.run("script -qec /usr/local/sbin/openmates-ready /dev/null").startswith("ready")
    assert (
        server.run("stat -c %a:%U /var/lib/openmates/ready /var/lib/openmates/ready/state.json") == "700:root\n600:root"
    )
    assert server.host.run("runuser -u nobody -- /usr/local/sbin/openmates-ready").rc == 2


def test_it_costs_little(server):
    """At most a second of a CPU that needs 0.22 s for the reference, and half as much again with Docker's clients."""
    container = server.containers()["api"]
    identity = container["Id"]
    measure = f"docker exec {identity} python3 -c {shlex.quote(MEASURE)} {shlex.quote(','.join(queues(server)))}"
    reference, inside = map(float, server.run(measure).split()[-2:])
    outside = server.run(f"bash -c 'TIMEFORMAT=\"%U %S\"; time {PROBE} >/dev/null' 2>&1").split()
    assert inside < 4.5 * reference, "ready.py alone"
    assert inside + sum(map(float, outside)) < 6.8 * reference, "with the Docker clients on the host"


MEASURE = """
import hashlib, resource, subprocess, sys, time
hashlib.pbkdf2_hmac("sha256", b"", b"", 1_000_000)
print(time.process_time())
command = ["/bin/sh", "/openmates/with-secrets.sh", "python3", "/openmates/ready.py", "--queues", sys.argv[1]]
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""


# ---------------------------------------------------------------- Directus


def test_a_wrong_directus_password_is_tried_once(server):
    with another_secret(server, "api/DATABASE_ADMIN_PASSWORD", "wrong-password-of-a-test"):
        first = failing(server)
        assert set(first) == DIRECTUS_PARTS and "rejects the api's login" in first["directus_login"]
        for _ in range(2):
            again = failing(server)
            assert set(again) == DIRECTUS_PARTS
            assert again["directus_login"].startswith("rejected at ")
            assert "not tried again until the credential changes" in again["directus_login"]
    state = server.run("cat /var/lib/openmates/ready/state.json")
    assert "wrong-password-of-a-test" not in state
    assert not failing(server), "another credential is tried at once"


def test_a_missing_collection(server):
    expected = json.loads(server.compose("exec -T api cat /cms-schema/expected.json"))["collections"]
    tables = sql(server, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'").split()
    table = next(name for name in sorted(expected) if name in tables and not name.startswith("directus_"))
    sql(server, f'ALTER TABLE "{table}" RENAME TO "{table}_away"')
    try:
        forget_schema(server)
        found = failing_alone(server, "collections")
    finally:
        sql(server, f'ALTER TABLE "{table}_away" RENAME TO "{table}"')
        forget_schema(server)
    assert found["collections"].endswith(f"missing: {table}")


def test_a_missing_field(server):
    expected = json.loads(server.compose("exec -T api cat /cms-schema/expected.json"))["collections"]
    query = "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'"
    columns = sql(server, query).split()
    names = sorted(f"{name}.{field}" for name, fields in expected.items() for field in fields if field != "id")
    table, column = next(n for n in names if n in columns and not n.startswith("directus_")).split(".")
    sql(server, f'ALTER TABLE "{table}" RENAME COLUMN "{column}" TO "{column}_away"')
    try:
        forget_schema(server)
        found = failing_alone(server, "fields")
    finally:
        sql(server, f'ALTER TABLE "{table}" RENAME COLUMN "{column}_away" TO "{column}"')
        forget_schema(server)
    assert found["fields"].endswith(f"missing: {table}.{column}")


# ---------------------------------------------------------------- Vault


def test_a_token_that_vault_does_not_know_any_more(server):
    units = "openmates-vault-token.timer openmates-vault-token.service"  # they would replace it meanwhile
    server.run(f"systemctl stop {units}")
    try:
        with another_secret(server, "vault-data/api.token", "expired"):
            found = failing_alone(server, *VAULT_PARTS)
    finally:
        server.run("systemctl start openmates-vault-token.timer")
    assert "expired or revoked" in found["vault_token"]


def test_a_sealed_vault(server):
    server.run("systemctl stop openmates-vault-unseal.timer openmates-vault-unseal.service")
    try:
        server.run("docker restart openmates-vault-1")
        wait_until(lambda: "sealed" in failing(server).get("vault_token", ""), "it is named", 60)
        failing_alone(server, *VAULT_PARTS)
    finally:
        server.run("systemctl start openmates-vault-unseal.timer")


def test_a_policy_without_the_mount_and_the_api_that_started_under_it(server):
    policy = POLICY.replace("sys/mounts/transit", "sys/mounts/elsewhere")
    assert policy != POLICY
    run = server.playbook(
        "site.yml", "--tags", "vault", "-e", json.dumps({"vault_policies": {"api-encryption": policy}})
    )
    assert run.returncode == 0, run.stdout[-3000:]
    try:
        found = failing_alone(server, "vault_policy")
        assert found["vault_policy"] == "the api's token may not read sys/mounts/transit"
        server.compose("restart api")
        wait_until(lambda: initialised(server), "the api answers", 240)
        failing_alone(server, "vault_policy", "initialisation")
    finally:
        run = server.playbook("site.yml", "--tags", "vault")
    assert run.returncode == 0, run.stdout[-3000:]
    found = failing_alone(server, "initialisation")  # it does not initialise again by itself
    assert "Failed during critical service initialization" in found["initialisation"]
    assert ask(server, "GET", "/v1/health").status == 200, "so this says nothing"
    report = verified(server)
    assert "OpenMates is not ready, initialisation" in report and "docker compose restart api" in report
    server.compose("restart api")


# ---------------------------------------------------------------- cache and workers


def test_a_wrong_password_of_the_cache(server):
    with another_secret(server, "api/DRAGONFLY_PASSWORD", "wrong-password-of-a-test"):
        found = failing_alone(server, "cache", *DIRECTUS_PARTS, *(f"queue:{name}" for name in queues(server)))
    assert "refuses the api's password" in found["cache"]
    assert found["directus_login"].startswith("not tried"), "Directus would count a login that it cannot finish"


def test_a_stopped_worker_and_verify_is_red_from_it(server):
    own = json.loads(server.run(f"cat {STACK}/config/ready/ready.json"))["queues"]["task-worker"]
    server.compose("stop task-worker")
    try:
        found = failing_alone(server, *(f"queue:{name}" for name in own))
        report = verified(server)
    finally:
        server.compose("start task-worker")
    assert all(detail == "no worker answers that consumes it; its worker is task-worker" for detail in found.values())
    for words in ("OpenMates is NOT READY", f"queue:{own[0]}", "its worker is task-worker", "Service task-worker"):
        assert words in report


def test_one_queue_without_a_worker(server):
    own = json.loads(server.run(f"cat {STACK}/config/ready/ready.json"))["queues"]["task-worker"]
    assert "ok" in consumer(server, "cancel", own[-1])
    try:
        found = failing_alone(server, f"queue:{own[-1]}")
    finally:
        consumer(server, "add", own[-1])
    assert found == {f"queue:{own[-1]}": "no worker answers that consumes it; its worker is task-worker"}


def test_an_api_that_is_not_there(server):
    server.compose("stop api")
    try:
        asked = server.host.run(PROBE)
        parts = json.loads(asked.stdout)["parts"]
    finally:
        server.compose("start api")
        wait_until(lambda: initialised(server), "the api answers", 240)
    assert asked.rc == 2
    assert {part["ok"] for part in parts} == {False}
    assert {part["name"] for part in parts} >= {"cache", "health", *(f"queue:{name}" for name in queues(server))}
    assert all("the api's container is exited" in part["detail"] for part in parts)


# ---------------------------------------------------------------- Caddy


def test_a_refused_probe_of_caddy_is_distinguished_from_an_api_that_is_down(server):
    """More requests with the address of Caddy's probe than the api allows per client: Caddy considers the api down."""
    curl = "curl -s -m 5 -o /dev/null -H 'X-Forwarded-For: 192.0.2.1'"
    burst = "; ".join(f"{curl} 'http://127.0.0.1:{port}/v1/health?[1-60]'" for port in (8000, 8001))
    loop = shlex.quote(f"while :; do {burst}; sleep 0.2; done")
    server.run(f"systemd-run --quiet --collect --unit=openmates-test-flood sh -c {loop}")
    try:
        wait_until(lambda: ask(server, "GET", "/v1/health").status == 503, "Caddy answers 503 by itself", 120)
        assert not failing(server)
        # Caddy's own probe is let through now and then: when it is the first one in a minute of the limit.
        arguments = ("playbooks/verify.yml", "-e", "verify_ready_timeout=5", "-e", "verify_web_wait=0")
        report = next((run.stdout for run in (server.playbook(*arguments) for _ in range(3)) if run.returncode), "")
    finally:
        server.run("systemctl stop openmates-test-flood.service")
        wait_until(lambda: ask(server, "GET", "/v1/health").status == 200, "Caddy's probe is answered again", 120)
    assert "OpenMates is ready, but Caddy considers this name's upstream down" in report
    assert "journalctl -u caddy" in report

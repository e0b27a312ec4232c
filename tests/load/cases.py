"""The cases of `make deploy-proof`: each returns whether it passed, and what was measured."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable

import without
from killing import MomentMissed, kill_at
from lab_host import HostError
from moments import DEPLOY, Moment
from proof import BASE, NEXT, Played, Proof, announced, seen, tasks_seen, tasks_unharmed, unharmed

HISTORY, LOCK = "/var/log/openmates/history.jsonl", "/var/lib/openmates/change.lock"
LONG_TASK = 100.0  # seconds
CUT_AFTER = 15  # seconds

Outcome = tuple[bool, str]
Case = Callable[[Proof], Outcome]


def compose(proof: Proof) -> Outcome:
    """The comparison: what `docker compose up -d` does with the same new image. It proves nothing, and has to fail."""
    proof.converged = False

    def up() -> None:
        change = f"s|api:{BASE}|api:{NEXT}|"
        proof.host.shell(
            f"cd /opt/openmates && sed -i '{change}' docker-compose.yml && docker compose --ansi=never up -d",
            timeout=900,
        )
        ends = time.monotonic() + 300
        while not proof.host.readiness()[0] and time.monotonic() < ends:
            time.sleep(3)

    result = proof.measure("compose", up)
    return bool(result["failed"]), seen(result)


def deploy(proof: Proof) -> Outcome:
    """A deploy of images that only the registry has. Each task of 0.1 to 20 s is done exactly once meanwhile."""
    version = proof.another()
    proof.only_in_registry(version)
    proof.converged = False
    with proof.load("deploy") as result, proof.tasks() as tasks:
        # What it ends with is judged last: a step that is missing shows in the requests and tasks first.
        played = proof.deploy(version, succeeds=None)
    detail = f"{seen(result)}; {tasks_seen(tasks)}; {played.seconds:.0f} s"
    if played.code:
        return False, f"{detail}; the deploy failed: {reason(played)}"
    left = proof.left_over()
    passed = unharmed(result) and bool(result["websockets"]["closed"]) and tasks_unharmed(tasks) and not left
    passed = passed and proof.version() == version and proof.recorded() == f"{version} ok"
    return passed, detail + (f"; left over: {', '.join(left)}" if left else "")


def reason(played: Played) -> str:
    """Why a run failed, in short."""
    return played.output.rpartition("[ERROR]: ")[2][:300]


def rollback(proof: Proof) -> Outcome:
    if proof.version() == BASE:
        proof.deploy(proof.another())
    before = proof.version()
    proof.converged = False
    result = proof.measure("rollback", lambda: proof.play("rollback"))
    passed = unharmed(result) and bool(result["websockets"]["closed"]) and not proof.left_over()
    return passed and proof.version() != before, seen(result)


def broken(version: str) -> Case:
    """A deploy of a version that cannot be used."""

    def case(proof: Proof) -> Outcome:
        before = proof.host.containers("api")[0]["Id"]
        result = proof.measure(version, lambda: proof.deploy(version, succeeds=False))
        # The old container never stopped, so no WebSocket was closed either.
        kept = [container["Id"] for container in proof.host.containers("api", running=False)] == [before]
        return unharmed(result) and not result["websockets"]["closed"] and kept, seen(result)

    return case


def token(proof: Proof) -> Outcome:
    new = f"openmates_internal_api_token={os.urandom(24).hex()}"
    proof.converged = False
    result = proof.measure("token", lambda: proof.play("site", "-e", new, "--tags", "stack,vault,directus"))
    return unharmed(result) and bool(result["websockets"]["closed"]), seen(result)


def cache_password(proof: Proof) -> Outcome:
    """A new password of the cache interrupts, for no longer than the run has announced before it began."""
    new = f"openmates_cache_password={os.urandom(24).hex()}"
    proof.converged = False
    watched = ("cache", "worker", "directus")
    with proof.load("cache-password", watched) as result:
        played = proof.play("site", "-e", new, "--tags", "stack,vault,directus")
    promised = max(announced(played.output).values(), default=0)
    away = result["longest_away"]
    longest = max(result["outage_seconds"], *away.values())
    told = ", ".join(f"{name} for {seconds:g} s" for name, seconds in away.items())
    return 0 < longest <= promised, f"announced {promised} s; away: {told}; {seen(result)}"


def cut(proof: Proof) -> Outcome:
    """A task that takes longer than the limit is cut: the run reports it, and the broker still has it."""
    # One that a worker has begun, in a process of its own that does not wait for it.
    script = (
        "import os, uuid; from backend.core.api.app.tasks.celery_config import app; task = str(uuid.uuid4());"
        f" app.send_task('sample.sleep', args=[{LONG_TASK}], task_id=task, queue='health_check'); print(task)"
    )
    proof.converged = False
    container = proof.host.containers("task-worker")[0]["Id"]
    in_worker = f"docker exec {container} /bin/sh /openmates/with-secrets.sh python3 -c"
    task = proof.host.run(f'{in_worker} "{script}"').split()[-1]
    time.sleep(10)
    played = proof.play("site", "-e", f"openmates_task_drain_seconds={CUT_AFTER}", "--tags", "stack")
    named = task in played.output and "sample.sleep" in played.output
    kept = proof.host.run(
        "docker exec $(docker ps -q --filter label=com.docker.compose.service=cache) sh -c"
        f" 'REDISCLI_AUTH=$(cat /run/secrets/DRAGONFLY_PASSWORD) redis-cli hvals unacked' | grep -c {task} || true"
    )
    left = proof.left_over()
    detail = f"a task of {LONG_TASK:.0f} s with a limit of {CUT_AFTER} s: {'reported' if named else 'not reported'} by"
    detail += f" name and id, {'kept' if kept != '0' else 'not kept'} by the broker for another delivery"
    return named and kept != "0" and not left, detail


def killed(name: str, moment: Moment) -> Case:
    def case(proof: Proof) -> Outcome:
        """Ansible is killed at a moment of a deploy: the site serves, and the next deploy converges."""
        version = proof.another()
        proof.converged = False
        problems = []

        def act() -> None:
            command = proof.command("deploy", "-e", f"version={version}", "-e", "openmates_steady_seconds=5")
            kill_at(moment, command, on_host, proof.tree, proof.environment)
            if not freed(proof):
                problems.append("the lock was not free after 15 s")
            last = json.loads(proof.host.run(f"tail -n 1 {HISTORY}"))
            if (last["verb"], last["result"]) != ("deploy", "interrupted"):
                problems.append("the history does not show it")
            proof.deploy(version, "-e", "openmates_steady_seconds=5")

        def on_host(command: str) -> bool:
            return proof.host.shell(command, check=False).returncode == 0

        result = proof.measure(f"killed-{name}", act)
        problems += proof.left_over()
        problems += [] if proof.version() == version else [f"the api runs {proof.version()}"]
        problems += [] if proof.recorded() == f"{version} ok" else [f"the last release is {proof.recorded()}"]
        summary = "lock free, history shows it, the next deploy converged"
        return unharmed(result) and not problems, f"{', '.join(problems) or summary}; {seen(result)}"

    return case


def freed(proof: Proof, seconds: float = 15) -> bool:
    """Whether the server's lock becomes free: a holder's note is in it."""
    ends = time.monotonic() + seconds
    while note := proof.host.run(f"cat {LOCK}"):
        if time.monotonic() > ends:
            return not note
        time.sleep(0.5)
    return True


def lacking(step: str, case: Case, symptom: Callable[[str], bool]) -> Case:
    """A case with a project that lacks a step: it has to fail, with the symptom."""

    def inverted(proof: Proof) -> Outcome:
        tree = without.copy(step, proof.folder / f"without-{step}")
        passed, detail = False, ""
        proof.converged = False
        try:
            passed, detail = case(dataclasses.replace(proof, tree=tree))
        except (HostError, MomentMissed) as error:
            detail = str(error)
        return not passed and symptom(detail), f"without it the case {'passed' if passed else 'failed'}: {detail}"

    return inverted


def fails_when_ready_and_taken(proof: Proof) -> Outcome:
    """As the case of the same image, whatever the deploy ends with: without the check it may succeed."""
    result = proof.measure("without-readiness", lambda: proof.deploy("v0.14.0-fails", succeeds=None))
    return unharmed(result), seen(result)


#: In this order each one begins with what the one before has left, unless the server has to be converged.
CASES: dict[str, Case] = {
    "token": token,
    "deploy": deploy,
    "rollback": rollback,
    "image-exits": broken("v0.14.0-exit"),
    "never-ready": broken("v0.14.0-never"),
    "fails-when-ready": broken("v0.14.0-fails"),
    "compose": compose,
    "cache-password": cache_password,
    "cut": cut,
    "without-drain": lacking("drain", deploy, lambda detail: "with None" in detail or "lost:" in detail),
    "without-pull": lacking("pull", deploy, lambda detail: "the deploy failed" in detail),
    "without-readiness": lacking(
        "readiness", fails_when_ready_and_taken, lambda detail: not detail.startswith("0 of ")
    ),
} | {f"killed-{name}": killed(name, moment) for name, moment in DEPLOY.items()}

#: Cases that need the secrets and the release of the inventory, because they run site.yml or change the Compose file.
FROM_INVENTORY = {"token", "compose", "cache-password", "cut"}
#: Cases after which secrets or services are such that the next one cannot begin with what is left.
LEAVES_OTHERS = {"compose", "cache-password", "without-readiness"}

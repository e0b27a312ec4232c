"""Vault's life on a server: a short token period, restarts, an operator's unsealing, a restore, and ten canaries.

The first tests run while a token that lives for half a minute is watched, so they must not restart anything.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import threading
import time
from pathlib import Path

import pytest

from lab import ROOT, STACK, NoAnswer, recap, wait_until

LAB_HOST = "openmates-lab-{}"
#: Seconds that the services' token lives, and for how long it is watched.
LIFE, WATCHED = 30, 150
SHORT = ["-e", f"vault_token_period={LIFE}s", "-e", '{"vault_token_consumers": []}']
#: OpenMates replaces a token with less than an hour left, so openmates-ready calls such a short one not ready.
UNPROVEN = ["-e", "verify_ready_command="]
TELLING = ["-vvv", "--diff", "-e", "ansible_inject_invocation=true"]  # the most verbose output
BACK = 90  # seconds until the api must be ready again
#: Text of the api's checks for a slow Vault, which a busy machine may cause for that many seconds.
SLOW, SLOW_FOR = ("no answer", "answered only after", "stale"), 30


def vault_works(server) -> bool:
    """Whether all of the api's checks of Vault are ok, regardless of others."""
    checks = server.readiness()["checks"]
    return all(check["ok"] for name, check in checks.items() if name.startswith("vault_"))


class Watch(threading.Thread):
    """Checks the api's use of Vault every second until it is stopped, and records failures."""

    def __init__(self, server) -> None:
        super().__init__(daemon=True)
        self.server, self.wrong, self.looks, self.slow_since = server, [], 0, {}
        self.began, self.done = time.monotonic(), threading.Event()

    def run(self) -> None:
        while not self.done.wait(1):
            try:
                checks = self.server.readiness()["checks"]
            except NoAnswer as problem:
                self.note("the api", False, f"no answer: {problem}")
                continue
            self.note("the api", True, "")
            self.looks += 1
            for name, check in checks.items():
                if name.startswith("vault_"):
                    self.note(name, check["ok"], str(check["detail"]))

    def note(self, name: str, well: bool, detail: str) -> None:
        if well:
            self.slow_since.pop(name, None)
            return
        now = time.monotonic()
        slow = any(words in detail for words in SLOW)
        if not slow or now - self.slow_since.setdefault(name, now) >= SLOW_FOR:
            self.wrong.append((round(now - self.began), name, detail))


@pytest.fixture(scope="module")
def short_lived(server):
    """Sets the lifetime of the services' token to half a minute, and watches the api use it. Restored at the end."""
    run = server.playbook("site.yml", "--tags", "vault", *SHORT)
    assert run.returncode == 0, run.stdout[-3000:]
    wait_until(lambda: vault_works(server), "the api has the new token", BACK)
    watch = Watch(server)
    watch.start()
    yield watch
    watch.done.set()
    run = server.playbook("site.yml", "--tags", "vault")
    assert run.returncode == 0, run.stdout[-3000:]
    server.wait_until_ready(BACK)


# ---------------------------------------------------------------- canaries


class Places(dict):
    """Texts by the place where they were found; a failing test prints only the places."""

    def __repr__(self) -> str:
        return f"<{', '.join(self)}>"


def hits(canaries: list[str], places: Places) -> list[str]:
    """The places of canaries, with their names."""
    return [
        f"{place}: canary {number}"
        for place, text in places.items()
        for number, canary in enumerate(canaries)
        if canary in text
    ]


def controllers_temp_folders() -> str:
    found = subprocess.run(
        ["find", str(Path.home() / ".ansible"), str(ROOT / ".ansible"), "-type", "f", "-path", "*tmp*"],
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    texts = []
    for path in filter(None, found):
        with contextlib.suppress(FileNotFoundError):  # another run's, which has just ended
            texts.append(Path(path).read_text(errors="replace"))
    return "\n".join(texts)


#: Leaves out binary files.
PLAIN = r"tr -cd '\11\12\40-\176'"


def look_everywhere(server, output: str, samples: str) -> Places:
    """Every place that could contain a secret."""
    ids = "$(docker ps --all --quiet)"
    config = f"find {STACK} /etc /usr/local -xdev -type f -not -path '{STACK}/secrets/*' -size -2M -exec cat {{}} +"
    temp = "find /root/.ansible /tmp /var/tmp /home -xdev -type f -size -5M -exec cat {} + 2>/dev/null"
    return Places(
        {
            "the run's output": output,
            "the controller's temp folders": controllers_temp_folders(),
            "processes' arguments and environments": samples,
            "the server's temp folders": server.run(f"({temp}) | {PLAIN}"),
            "docker inspect": server.run(f"docker inspect {ids}"),
            "docker logs": server.run(f"for id in {ids}; do docker logs --since 15m $id 2>&1; done | {PLAIN}"),
            "the journal": server.run("journalctl --no-pager --since=-15m"),
            "the rendered files": server.run(f"({config}) | {PLAIN}"),
        }
    )


#: Arguments and environment of every process, several times a second, until the file is removed.
SAMPLE = """touch /run/sampling; while [ -e /run/sampling ]; do
ps -eo args; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; sleep 0.2; done | sort -u"""


def test_ten_canaries_are_nowhere_but_in_vault_and_a_planted_one_is_found(server, short_lived, tmp_path):
    canaries = [secrets.token_hex(16) for _ in range(10)]
    flock = f"providers/{secrets.token_hex(4)}-canary"  # another one in each run of this test
    seeds = {f"{flock}-{number}": {"api_key": canary} for number, canary in enumerate(canaries)}
    seeds[f"{flock}-9"] = {"enforce": {"api_key": canaries[9]}}
    file = tmp_path / "canaries.json"
    file.write_text(json.dumps({"openmates_vault_seeds": seeds}))
    console = ["docker", "exec", LAB_HOST.format(server.name), "sh", "-c", SAMPLE]
    sampler = subprocess.Popen(console, stdout=subprocess.PIPE, text=True)
    samples: list[str] = []
    reader = threading.Thread(target=lambda: samples.append(sampler.stdout.read()))
    reader.start()
    try:
        run = server.playbook("site.yml", *TELLING, "-e", f"@{file}", *SHORT, *UNPROVEN)
        planted = subprocess.Popen(
            ["docker", "exec", console[2], "timeout", "10", "tail", "-f", "/dev/null", canaries[0]]
        )
        planted.wait()
    finally:
        server.run("rm -f /run/sampling")
        reader.join(180)
        sampler.wait(180)
    assert run.returncode == 0, run.stdout[-3000:]
    assert f"+seed kv/{flock}-0: written" in run.stdout + run.stderr
    assert f"+seed kv/{flock}-9: written" in run.stdout + run.stderr

    places = look_everywhere(server, run.stdout + run.stderr, samples[0])
    assert len(places["processes' arguments and environments"]) > 1000
    assert hits(canaries, places) == ["processes' arguments and environments: canary 0"], "only the planted one"

    server.run(f"logger {canaries[2]} && journalctl --sync")
    server.run(f"echo {canaries[1]} > /var/tmp/canary && echo {canaries[3]} > {STACK}/canary")
    try:
        found = hits(canaries, look_everywhere(server, "", ""))
    finally:
        server.run(f"rm /var/tmp/canary {STACK}/canary")
    assert found == ["the server's temp folders: canary 1", "the journal: canary 2", "the rendered files: canary 3"]


# ---------------------------------------------------------------- the token's time


def test_a_snapshot_is_taken_with_a_temporary_token(server, short_lived, tmp_path):
    run = server.playbook("playbooks/vault_snapshot.yml", "-e", f"openmates_vault_snapshots={tmp_path}")
    assert run.returncode == 0, run.stdout[-3000:]
    (snapshot,) = tmp_path.glob(f"{server.name}-*.snap")
    assert snapshot.stat().st_size > 10_000
    assert not server.host.file("/root/openmates-vault.snap").exists


def test_a_token_serves_for_five_times_its_life(server, short_lived):
    left = WATCHED - (time.monotonic() - short_lived.began)
    short_lived.done.wait(max(left, 0))
    assert short_lived.is_alive()
    short_lived.done.set()
    short_lived.join(30)
    assert short_lived.looks > WATCHED / 10
    assert short_lived.wrong == []


def test_a_stopped_timer_is_noticed_and_made_up_for(server, short_lived):
    server.run("systemctl stop openmates-vault-token.timer")
    try:
        wait_until(lambda: not vault_works(server), "the token ends", 120)
    finally:
        server.run("systemctl start openmates-vault-token.timer")
    server.wait_until_ready(BACK)


def test_another_period_gives_another_token_and_consumers_are_restarted_in_order(server, short_lived):
    before = {name: container["State"]["StartedAt"] for name, container in server.containers().items()}
    run = server.playbook("site.yml", "--tags", "vault")
    assert run.returncode == 0, run.stdout[-3000:]
    after = {name: container["State"]["StartedAt"] for name, container in server.containers().items()}
    consumers = ["api", "task-worker", "task-scheduler"]
    assert {name for name in after if after[name] != before[name]} == set(consumers)
    assert sorted(consumers, key=lambda name: after[name]) == consumers
    again = server.playbook("site.yml", "--tags", "vault")
    assert recap(again.stdout)["changed"] == 0, again.stdout[-3000:]


# ---------------------------------------------------------------- restarts


def restart_docker(server) -> None:
    server.run("systemctl restart docker")


def reboot(server) -> None:
    subprocess.run(["docker", "restart", LAB_HOST.format(server.name)], check=True, capture_output=True)


@pytest.mark.parametrize("outage", [restart_docker, reboot])
def test_after_a_restart_the_api_is_ready_without_an_operator(server, outage):
    outage(server)
    began = time.monotonic()
    server.wait_until_ready(BACK)
    print(f"ready after {time.monotonic() - began:.0f} s")


def test_an_operators_vault_stays_sealed_until_a_playbook_unseals_it(server):
    operator = ["-e", "openmates_vault_unseal=operator"]
    run = server.playbook("site.yml", "--tags", "vault", *operator)
    assert run.returncode == 0, run.stdout[-3000:]
    kept = server.run("ls /etc/credstore.encrypted").split()
    assert "openmates-vault-api" in kept and "openmates-vault-shares" not in kept
    assert server.run("systemctl list-timers --all | grep -c vault-unseal || true") == "0"
    server.run("docker restart openmates-vault-1")
    wait_until(lambda: not server.readiness()["ready"], "the sealed Vault is noticed", 60)
    code = server.host.run("systemctl start openmates-vault-token.service").rc
    assert code != 0
    said = "systemctl status openmates-vault-token.service || true"
    wait_until(lambda: "has to run unseal.yml" in server.run(said), "the unit says who must act", 20)
    verify = server.playbook("playbooks/verify.yml", *operator, "-e", "verify_ready_timeout=5")
    assert verify.returncode != 0 and "Vault is sealed" in verify.stdout and "playbooks/unseal.yml" in verify.stdout
    opened = server.playbook("playbooks/unseal.yml", *operator)
    assert opened.returncode == 0, opened.stdout[-3000:]
    server.wait_until_ready(BACK)
    back = server.playbook("site.yml", "--tags", "vault")
    assert back.returncode == 0, back.stdout[-3000:]


def test_a_snapshot_comes_back_and_tokens_of_its_time_do_not(server, tmp_path):
    taken = server.playbook("playbooks/vault_snapshot.yml", "-e", f"openmates_vault_snapshots={tmp_path}")
    assert taken.returncode == 0, taken.stdout[-3000:]
    (snapshot,) = tmp_path.glob("*.snap")
    old = server.run(f"cat {STACK}/secrets/vault-data/api.token")
    restore = ["playbooks/vault_restore.yml", "-e", f"vault_snapshot_file={snapshot}"]
    refused = server.playbook(*restore)
    assert refused.returncode != 0 and "vault_restore_replace=true" in refused.stdout
    maintenance = "test ! -e /var/lib/openmates-maintenance/flag.json"
    server.run(maintenance)
    server.wait_until_ready(BACK)
    run = server.playbook(*restore, "-e", "vault_restore_replace=true")
    assert run.returncode == 0, run.stdout[-3000:]
    assert "Maintenance is off. A restore by" in " ".join(run.stdout.split())
    server.run(maintenance)
    assert server.host.run("openmates-ready").rc == 0, "clients come back to an api that is ready"
    assert server.run(f"cat {STACK}/secrets/vault-data/api.token") != old
    server.wait_until_ready(BACK)

"""One run at a time changes a host: the lock ends with the process of the run, and the history has each run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.openmates.server.plugins.action.change_lock import LOADER, START, refusal
from ansible_collections.openmates.server.plugins.plugin_utils.change import holder, lifelines
from ansible_collections.openmates.server.plugins.plugin_utils.change.history import table
from ansible_collections.openmates.server.plugins.plugin_utils.change.outcome import MOST_NAMES, Outcomes
from ansible_collections.openmates.server.plugins.plugin_utils.origin import project_version

ROOT = Path(__file__).parents[2]
LOCK = "openmates.server.change_lock"
#: The verbs that change no server. Each other playbook takes the lock.
READ_ONLY = {
    "alert_test.yml",
    "verify.yml",
    "status.yml",
    "drift.yml",
    "frontend.yml",
    "logs.yml",
    "tunnel.yml",
    "history.yml",
    "new.yml",
    "scan.yml",
    "secrets.yml",
    "backups.yml",
}
#: Starts what waits for the lock to be free by itself, and changes nothing that a run changes.
WAITS = {"backup.yml"}
#: Ends with bootstrap.yml, which takes it: before, there is no server.
CREATES = {"create_server.yml"}


def until(condition: Callable[[], object], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met"
        time.sleep(0.05)


# ---------------------------------------------------------------- the process on the host


class Holders:
    """Processes on a host, each as the action plugin starts it."""

    def __init__(self, folder: Path) -> None:
        self.lock, self.history = folder / "state/lock", folder / "log/history.jsonl"
        self.started: list[subprocess.Popen] = []

    def start(self, verb: str, wait: float = 0, identity: str = "", **environment: str) -> subprocess.Popen:
        program = Path(holder.__file__).read_bytes()
        run = {"verb": verb, "options": [], "who": f"{verb}@laptop", "project": "1"}
        run |= {"id": identity} if identity else {}
        request = {"run": run, "wait": wait, "lock": str(self.lock), "history": str(self.history)}
        process = subprocess.Popen(
            [sys.executable, "-c", LOADER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "SSH_CONNECTION": "", **environment},
        )
        self.started.append(process)
        header = f"a password that sudo did not ask for\n{START} {len(program)}\n".encode()
        process.stdin.write(header + program + json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        return process

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.history.read_text().splitlines()] if self.history.exists() else []


def event(process: subprocess.Popen) -> dict:
    return json.loads(process.stdout.readline())


def end(process: subprocess.Popen, **outcome: object) -> None:
    """End the run, with an outcome or, without one, as a killed run ends."""
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(outcome).encode() + b"\n" if outcome else b"")
        process.stdin.close()
    process.wait(20)


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Holders]:
    all_of_them = Holders(tmp_path)
    yield all_of_them
    for process in all_of_them.started:
        process.kill()
        process.wait(20)
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                stream.close()


def test_a_second_run_is_refused_with_who_has_the_lock(holders: Holders) -> None:
    first = holders.start("site", SSH_CONNECTION="192.0.2.9 5 192.0.2.1 22")
    assert event(first) == {"event": "locked", "left": {}}
    second = holders.start("rotate")
    refused = event(second)
    assert refused["event"] == "refused" and second.wait(20) == 1
    told = refusal("prod1", refused["holder"], 0)
    for words in (
        "prod1",
        "site by site@laptop, from 192.0.2.9, since 20",
        "Nothing was changed",
        "openmates_lock_wait",
    ):
        assert words in told
    end(first, result="ok", changed=["Write a file"])
    assert event(first) == {"event": "recorded", "problem": ""}
    [line] = holders.lines()
    assert (line["verb"], line["result"], line["changed"], line["from"]) == (
        "site",
        "ok",
        ["Write a file"],
        "192.0.2.9",
    )
    assert line["begun"] <= line["ended"]
    assert event(holders.start("rotate"))["event"] == "locked"


def test_the_end_of_the_lifeline_frees_the_lock_and_is_recorded(holders: Holders) -> None:
    first = holders.start("site")
    event(first)
    waiting = holders.start("rotate", wait=20)
    assert event(waiting)["event"] == "waiting"
    end(first)
    assert event(waiting) == {"event": "locked", "left": {}}
    assert [line["result"] for line in holders.lines()] == ["interrupted"]


def test_a_run_that_is_killed_while_it_waits_never_gets_the_lock(holders: Holders) -> None:
    first = holders.start("site")
    event(first)
    waiting = holders.start("rotate", wait=60)
    event(waiting)
    end(waiting)
    assert waiting.returncode == 1 and waiting.stdout.read() == b""
    end(first, result="ok")
    assert [line["verb"] for line in holders.lines()] == ["site"]


def test_waiting_has_an_end(holders: Holders) -> None:
    event(holders.start("site"))
    waiting = holders.start("rotate", wait=0.3)
    assert [event(waiting)["event"], event(waiting)["event"]] == ["waiting", "refused"]


def test_a_shutdown_of_the_host_is_recorded(holders: Holders) -> None:
    first = holders.start("site")
    event(first)
    first.send_signal(signal.SIGTERM)
    first.wait(20)
    assert [line["result"] for line in holders.lines()] == ["interrupted"]


def test_after_a_power_cut_the_next_run_completes_the_history(holders: Holders) -> None:
    first = holders.start("site")
    event(first)
    first.kill()
    first.wait(20)
    assert holders.lines() == []
    holders.history.parent.mkdir()
    holders.history.write_text('{"verb": "half a li')
    second = holders.start("rotate")
    assert event(second)["left"]["verb"] == "site"
    end(second, result="ok")
    assert [json.loads(line)["result"] for line in holders.history.read_text().splitlines()[1:]] == [
        "interrupted",
        "ok",
    ]


def reboot(process: subprocess.Popen) -> None:
    """The run announces a reboot, and the host shuts down."""
    event(process)
    process.stdin.write(b'{"reboot": true}\n')
    process.stdin.flush()
    assert event(process) == {"event": "noted"}
    process.send_signal(signal.SIGTERM)
    process.wait(20)


def test_a_run_that_reboots_the_host_goes_on_and_is_one_line_of_the_history(holders: Holders) -> None:
    reboot(holders.start("upgrade", identity="a"))
    assert holders.lines() == []
    begun = json.loads(holders.lock.read_text())["begun"]
    again = holders.start("reboot", identity="a")
    assert event(again) == {"event": "locked", "left": {}}
    end(again, result="ok", changed=["Reboot"])
    [line] = holders.lines()
    assert (line["verb"], line["result"], line["begun"]) == ("upgrade", "ok", begun)
    assert holders.lock.read_text() == ""


def test_a_run_that_does_not_come_back_after_its_reboot_is_recorded_as_interrupted(holders: Holders) -> None:
    reboot(holders.start("upgrade", identity="a"))
    assert event(holders.start("site", identity="b"))["left"]["verb"] == "upgrade"
    assert [line["result"] for line in holders.lines()] == ["interrupted"]


def test_a_reboot_that_did_not_come_ends_with_the_run(holders: Holders) -> None:
    first = holders.start("upgrade", identity="a")
    event(first)
    first.stdin.write(b'{"reboot": true}\n')
    end(first, result="failed", at="Reboot the server")
    assert [line["result"] for line in holders.lines()] == ["failed"]


def test_files_are_for_root_alone_and_the_history_can_be_rotated(holders: Holders) -> None:
    first = holders.start("site")
    event(first)
    end(first, result="ok")
    holders.history.rename(holders.history.with_suffix(".1"))
    second = holders.start("rotate")
    event(second)
    end(second, result="ok")
    assert [line["verb"] for line in holders.lines()] == ["rotate"]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (holders.lock, holders.history, holders.history.parent)]
    assert modes == [0o600, 0o640, 0o750]


def test_a_history_that_cannot_be_written_is_reported_and_completed_later(holders: Holders) -> None:
    first = holders.start("site")
    event(first)
    holders.history.parent.write_text("a file in place of the directory")
    end(first, result="ok")
    assert "log" in event(first)["problem"]
    holders.history.parent.unlink()
    assert event(holders.start("rotate"))["left"]["verb"] == "site"


# ---------------------------------------------------------------- the process of the run

RUN = """
- name: Change the host
  hosts: all
  gather_facts: false
  tasks:
    - name: Take the lock
      openmates.server.change_lock: {{wait: "{{{{ wait | default(0) }}}}", lock: "{lock}", history: "{history}"}}
    - name: Take it again, as an imported playbook does
      openmates.server.change_lock: {{lock: "{lock}", history: "{history}"}}
    - name: Change something
      ansible.builtin.raw: echo begun; while test -e {busy}; do sleep 0.1; done
      changed_when: true
      vars: {{secret: "{{{{ token }}}}"}}
    - name: Announce a reboot
      openmates.server.change_lock: {{reboot: true, lock: "{lock}", history: "{history}"}}
      when: reboots is defined
    - name: Take the lock after the reboot
      openmates.server.change_lock: {{wait: 20, lock: "{lock}", history: "{history}"}}
      when: reboots is defined
    - name: Fail on request
      ansible.builtin.fail: {{msg: "{{{{ token }}}}"}}
      when: fails is defined
"""
#: In place of ssh: runs the command, which is its last argument, on this machine.
SSH = '#!/bin/bash\nprintf "%s\\n" "${@: 1:$#-1}" > "$(dirname "$0")/arguments"\nexec /bin/sh -c "${!#}"\n'


class Site:
    """An operator's playbook that imports one beside this project's callback plugins."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.busy = folder, folder / "busy"
        self.started: list[subprocess.Popen] = []
        self.lock, self.history = folder / "state/lock", folder / "log/history.jsonl"
        playbooks = folder / "playbooks"
        playbooks.mkdir()
        (playbooks / "callback_plugins").symlink_to(ROOT / "playbooks/callback_plugins")
        (playbooks / "change.yml").write_text(RUN.format(lock=self.lock, history=self.history, busy=self.busy))
        (folder / "site.yml").write_text("- import_playbook: playbooks/change.yml\n")
        (folder / "ansible.cfg").touch()
        (folder / "ssh").write_text(SSH)
        (folder / "ssh").chmod(0o755)

    def start(self, *arguments: str) -> subprocess.Popen:
        settings = {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_SSH_EXECUTABLE": str(self.folder / "ssh"),
        }
        settings |= {
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "1",
        }
        command = [sys.executable, "-m", "ansible", "playbook", str(self.folder / "site.yml"), "-i", "prod1,"]
        process = subprocess.Popen(
            [*command, "-e", "token=a-secret-value", *arguments],
            env={**os.environ, **settings},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        output = process.communicate(timeout=120)[0]
        return process.returncode, output

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.history.read_text().splitlines()] if self.history.exists() else []


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.busy.unlink(missing_ok=True)
    for process in made.started:
        process.kill()
        process.wait(20)
        process.stdout.close()


def test_a_killed_run_frees_the_lock_while_a_living_one_keeps_it(site: Site) -> None:
    site.busy.touch()
    first = site.start("-e", "ansible_connection=local")
    until(lambda: site.lock.exists() and site.lock.read_text())
    code, output = site.run("-e", "ansible_connection=local", "--tags", "all")
    assert code != 0 and "still being changed: change by" in output
    waiting = site.start("-e", "ansible_connection=local", "-e", "wait=60")
    # The task's worker, and what it has started, live on. The lock is that of the killed process.
    first.kill()
    until(lambda: [line["result"] for line in site.lines()] == ["interrupted"])
    site.busy.unlink()
    assert waiting.communicate(timeout=120)[0] and waiting.returncode == 0
    assert [(line["verb"], line["result"]) for line in site.lines()] == [("change", "interrupted"), ("change", "ok")]
    assert site.lines()[1]["changed"] == ["Change something"]


def test_a_failed_run_is_recorded_as_failed_without_a_value(site: Site) -> None:
    """Over ssh, whose arguments have no password either."""
    password = ("-e", "ansible_password=secret-word", "-e", "ansible_ssh_password_mechanism=disable")
    code, output = site.run("-e", "fails=1", "-e", "ansible_connection=ssh", "--tags", "all,x", *password)
    assert code == 2 and "could not be taken" not in output, output
    [line] = site.lines()
    assert (line["result"], line["at"], line["options"]) == ("failed", "Fail on request", ["--tags x"])
    assert "@" in line["who"] and line["project"].startswith(project_version().split()[0])
    assert "secret" not in site.history.read_text()
    assert site.lock.read_text() == ""


def test_after_a_reboot_the_lock_is_taken_again_without_a_warning(site: Site) -> None:
    """Of a host that comes back before the connection to it has ended."""
    code, output = site.run("-e", "reboots=1", "-e", "ansible_connection=local")
    assert code == 0 and "WARNING" not in output, output
    [line] = site.lines()
    assert (line["result"], line["changed"]) == ("ok", ["Change something"])
    assert site.lock.read_text() == ""


def test_a_dry_run_takes_no_lock(site: Site) -> None:
    assert site.run("--check", "-e", "ansible_connection=local")[0] == 0
    assert not site.lock.exists() and site.lines() == []


def test_without_the_callback_plugin_nothing_is_changed(site: Site) -> None:
    (site.folder / "playbooks/callback_plugins").unlink()
    code, output = site.run("-e", "ansible_connection=local")
    assert (
        code != 0
        and "openmates_changes, which keeps the lock, is not loaded" in " ".join(output.split())
        and site.lines() == []
    )


def test_a_lifeline_that_broke_is_noticed() -> None:
    lines = lifelines.Lifelines()
    lines.prepare("a")
    theirs = lines.asked["a"][1].dup()
    lines._give_away()
    lines.settle("a", True)
    assert lines.lost() == []
    theirs.close()
    assert lines.lost() == ["a"] and lines.lost() == []


@pytest.mark.parametrize(
    "verb", sorted({path.name for path in (ROOT / "playbooks").glob("*.yml")} - READ_ONLY - CREATES - WAITS)
)
def test_every_verb_that_changes_a_server_takes_the_lock_before_anything_else(verb: str) -> None:
    plays = yaml.safe_load((ROOT / "playbooks" / verb).read_text())
    tasks = [task for play in plays for task in play.get("tasks", ())]
    [place] = [number for number, task in enumerate(tasks) if LOCK in task]
    may_come_before = ("check_arguments", "import_role", "assert", "set_fact")
    before = [task for task in tasks[:place] if not any(name.endswith(may_come_before) for name in task)]
    assert before == []
    roles = {
        task["ansible.builtin.import_role"]["name"] for task in tasks[:place] if "ansible.builtin.import_role" in task
    }
    early = {
        "bootstrap.yml": {"preflight", "bootstrap"},
        "vault_restore.yml": {"vault"},
        "rollback.yml": {"preflight"},
        "remove.yml": {"remove"},
        "restore.yml": {"preflight"},
        "import.yml": {"preflight"},
        "move.yml": {"preflight"},
    }  # before Python, or a connection
    assert roles <= {"settings", "login"} | early.get(verb, set())


# ---------------------------------------------------------------- outcome and table


def test_an_outcome_has_names_only_and_not_too_many() -> None:
    outcomes = Outcomes()
    for number in range(MOST_NAMES + 2):
        outcomes.changed("a", f"task {number}")
        outcomes.changed("a", "task 0")
    outcomes.failed("a", "the last one")
    assert outcomes.of("a", {"failures": 0})["result"] == "ok"
    assert outcomes.of("a", {"failures": 0})["changed"][-1] == "and 2 more"
    assert outcomes.of("a", {"failures": 1})["at"] == "the last one"
    assert outcomes.of("b", {"unreachable": 1}) == {"result": "unreachable", "changed": [], "at": ""}


def test_the_table_shows_every_run() -> None:
    run = {"begun": "2026-11-26T20:00:00Z", "ended": "2026-11-26T20:01:05Z", "who": "ada@laptop", "from": "192.0.2.9"}
    run |= {"verb": "site", "options": ["--tags stack"], "project": "0.1.0 abc"}
    lines = [
        json.dumps(run | {"result": "ok", "changed": ["A", "B"]}),
        json.dumps(run | {"result": "failed", "changed": [], "at": "Start services"}),
        json.dumps(run | {"result": "interrupted", "ended": ""}),
        '{"verb": "half',
    ]
    shown = table(lines, json.dumps(run))
    assert len(shown) == 6
    assert "1 min 5 s" in shown[1] and "site --tags stack" in shown[1] and shown[1].endswith("ok, 2 changed: A; B")
    assert shown[2].endswith("failed at: Start services, nothing changed")
    assert shown[3].endswith("interrupted") and "not readable" in shown[4] and shown[5].endswith("not ended")
    assert table([]) == ["begun  took  who  from  what  version  result"]

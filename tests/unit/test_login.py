"""The controller's part: which user a server accepts, and how a guarded change is confirmed or reverted."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.openmates.server.plugins.action import guarded_files, login
from ansible_collections.openmates.server.plugins.plugin_utils.login import Login, attempt, command_line, last_words

CONNECTION = yaml.safe_load((Path(__file__).parents[2] / "playbooks/group_vars/all/connection.yml").read_text())
IN = Login(True, False, "")
REFUSED = Login(False, True, "Permission denied (publickey)", "admin@a: Permission denied (publickey).")
SILENT = Login(False, False, "Connection timed out")
CLOSED_PORT = "ssh: connect to host 198.51.100.11 port 22: Connection refused"
CLOSED = Login(False, False, CLOSED_PORT, CLOSED_PORT)


class Connection(SimpleNamespace):
    """The parts of a connection that the plugins use."""

    transport = "ssh"
    _shell = SimpleNamespace(tmpdir="/nowhere")
    become = None

    def get_option(self, name: str) -> object:
        options = {"ssh_common_args": "", "ssh_extra_args": None, "private_key_file": ""}
        return {"host": "198.51.100.11", "port": 22, "remote_user": self.user, **options, **vars(self)}[name]


def action(plugin: type, arguments: dict, user: str = "root") -> object:
    task = SimpleNamespace(args=arguments, async_val=0, check_mode=False, diff=False)
    return plugin.ActionModule(task, Connection(user=user), None, None, None, None)


# ---------------------------------------------------------------- one attempt


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("Failed to connect to the host via ssh: debug1: x\nroot@a: Permission denied (publickey).", True),
        ("Received disconnect from a port 22:2: Too many authentication failures", True),
        ("ssh: connect to host a port 22: Connection timed out", False),
        ("Host key verification failed.", False),
    ],
)
def test_an_attempt_distinguishes_a_refusal_from_silence(said: str, refused: bool) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AnsibleConnectionFailure(said)

    found = attempt(SimpleNamespace(exec_command=fail), "true")
    assert (found.worked, found.refused) == (False, refused)
    assert "debug1" not in found.message and not found.message.endswith(".")


def test_a_command_that_fails_is_no_login() -> None:
    def sudo(*_: object, **__: object) -> tuple[int, bytes, bytes]:
        return 1, b"", b"sudo: a password is required\n"

    found = attempt(SimpleNamespace(exec_command=sudo), "sudo -n true")
    assert (found.worked, found.refused, found.logged_in) == (False, False, True)
    assert found.message == "sudo: a password is required"
    assert last_words("") == ""


def test_what_is_printed_in_place_of_the_command_is_kept() -> None:
    """What cloud images put into root's authorized_keys prints it on standard output and ends with 142."""
    text = b'Please login as the user "debian" rather than the user "root".\n\n'
    found = attempt(SimpleNamespace(exec_command=lambda *_, **__: (142, text, b"")), "true")
    assert (found.worked, found.logged_in) == (False, True) and 'the user "debian"' in found.message
    assert attempt(SimpleNamespace(exec_command=lambda *_, **__: (0, text, b"")), "true").worked
    assert attempt(SimpleNamespace(exec_command=lambda *_, **__: (1, b"", b"")), "true").message == "exit code 1"


# ---------------------------------------------------------------- which user


def who(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Login]) -> tuple[dict, list[str]]:
    tried: list[str] = []
    monkeypatch.setattr(login, "connection_as", lambda _connection, _context, user, **_: user)
    monkeypatch.setattr(login, "attempt", lambda user, command: tried.append(f"{user} {command}") or answers[user])
    plugin = action(login, {"users": ["admin", "root", "admin"]})
    arguments = {**plugin._task.args, "timeout": 10, "bastion": ""}
    monkeypatch.setattr(plugin, "validate_argument_spec", lambda _spec: (None, arguments))
    return plugin.run(task_vars={"inventory_hostname": "prod1"}), tried


def test_the_first_user_who_gets_in_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert who(monkeypatch, {"admin": IN})[0]["user"] == "admin"
    result, tried = who(monkeypatch, {"admin": REFUSED, "root": IN})
    assert (result["user"], tried, result["changed"]) == ("root", ["admin sudo -n true", "root true"], False)


def test_the_tasks_that_follow_connect_with_the_arguments_that_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    option = Connection.get_option
    monkeypatch.setattr(
        Connection, "get_option", lambda self, name: "-o Tag=it" if name == "ssh_extra_args" else option(self, name)
    )
    found = who(monkeypatch, {"admin": IN})[0]
    variables = {name: trust_as_template(text) for name, text in CONNECTION.items()}
    templar = Templar(DataLoader(), variables | {"login_found": found, "openmates_ssh_bastion": "jump@b"})
    assert templar.template(variables["ansible_ssh_extra_args"]) == "-o Tag=it"
    first = Templar(DataLoader(), variables | {"openmates_ssh_bastion": "jump@b", "openmates_project_directory": "/p"})
    assert "ProxyCommand=ssh -W [%h]:%p" in first.template(variables["ansible_ssh_extra_args"])


@pytest.mark.parametrize("transport", ["local", "community.docker.docker"])
def test_a_server_that_is_not_reached_by_ssh_is_refused(monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    """As on the server itself: everything would seem to work, until the change that SSH guards."""
    monkeypatch.setattr(Connection, "transport", transport)
    result, tried = who(monkeypatch, {"admin": IN})
    assert result["failed"] and tried == []
    assert "prod1 is not reached by SSH" in result["msg"] and "remove ansible_connection" in result["msg"]


def test_a_silent_server_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    result, tried = who(monkeypatch, {"admin": SILENT})
    assert tried == ["admin sudo -n true"] and result["failed"]
    for words in (
        "prod1 (198.51.100.11, port 22) cannot be reached",
        "as admin: Connection timed out",
        "Check that the server is up",
    ):
        assert words in result["msg"]


def test_behind_a_bastion_the_second_attempt_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first shares its connection with later ones, and ssh then discards what the bastion's ssh prints."""
    ended = "kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535"
    silent, refused = Login(False, False, ended, ended), f"jump@b: Permission denied (publickey).\n{ended}"
    for answers, words in (([silent, IN], ""), ([silent, Login(False, True, refused, refused)], "its bastion jump@b")):
        fresh: list[bool] = []
        monkeypatch.setattr(
            login, "connection_as", lambda *_, ssh_args="", seen=fresh, **__: seen.append(bool(ssh_args))
        )
        monkeypatch.setattr(login, "attempt", lambda *_, left=list(answers): left.pop(0))
        plugin = action(login, {"users": ["admin", "root"]})
        arguments = {**plugin._task.args, "timeout": 10, "bastion": "jump@b"}
        monkeypatch.setattr(plugin, "validate_argument_spec", lambda _spec, given=arguments: (None, given))
        result = plugin.run(task_vars={"inventory_hostname": "prod1"})
        assert fresh == [False, True], "no other user is tried: the bastion refuses each"
        assert words in result["msg"] if words else result["user"] == "admin"


def test_a_server_that_refuses_all_users_is_reported_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = who(monkeypatch, {"admin": REFUSED, "root": REFUSED})
    for words in ("accepts none of this machine's keys", "as admin:", "as root:", "ansible_ssh_private_key_file"):
        assert words in result["msg"]


def test_a_closed_port_has_its_own_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Check that sshd listens on this port" in who(monkeypatch, {"admin": CLOSED})[0]["msg"]


def test_the_user_that_a_cloud_image_accepts_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = 'Please login as the user "debian" rather than the user "root"'
    result, tried = who(monkeypatch, {"admin": REFUSED, "root": Login(False, False, said, said, True)})
    assert tried == ["admin sudo -n true", "root true"] and "lets root in only to say" in result["msg"]
    assert result["msg"].endswith("Set openmates_ssh_initial_user: debian.")


EXPIRED = "WARNING: Your password has expired.\nPassword change required but no TTY available."


def test_an_expired_password_comes_with_the_command_that_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Hetzner's, of a server that was made without a key. Ansible has no terminal to change it at."""
    answers = {"admin": REFUSED, "root": Login(False, False, "no TTY available", EXPIRED, True)}
    result, _ = who(monkeypatch, answers)
    assert "lets root in only to change the password, which has expired" in result["msg"]
    assert "Log in with `ssh root@198.51.100.11`" in result["msg"] and "`passwd root`" in result["msg"]


def test_the_command_that_logs_in_is_the_connections_own() -> None:
    connection = Connection(
        user="x",
        ssh_common_args="-o 'UserKnownHostsFile=\"/a b/known_hosts\"'",
        ssh_extra_args="-o 'ProxyCommand=ssh -W [%h]:%p jump'",
        private_key_file="/a b/key",
        port=2222,
    )
    assert shlex.split(command_line(connection, "root")) == [
        *("ssh", "-o", 'UserKnownHostsFile="/a b/known_hosts"', "-o", "ProxyCommand=ssh -W [%h]:%p jump"),
        *("-i", "/a b/key", "-p", "2222", "root@198.51.100.11"),
    ]


@pytest.mark.parametrize("name", ["ansible_user", "ansible_ssh_user"])
def test_a_user_of_the_inventory_that_is_not_the_one_found_is_refused(name: str) -> None:
    tasks = yaml.safe_load((Path(__file__).parents[2] / "roles/login/tasks/main.yml").read_text())
    [check] = [task for task in tasks if "ansible.builtin.fail" in task]
    for user in ("debian", "root"):
        given = {"ansible_user": "root", name: user, "login_found": {"user": "root"}, "inventory_hostname": "prod1"}
        templar = Templar(DataLoader(), given)
        setting = templar.template(trust_as_template(check["vars"]["setting"]))
        templar = Templar(DataLoader(), {**given, "setting": setting})
        assert templar.evaluate_conditional(trust_as_template(check["when"])) == (user == "debian")
        message = templar.template(trust_as_template(check["ansible.builtin.fail"]["msg"]))
        assert f"the inventory sets {name} to {user}" in message


def test_a_changed_host_key_has_its_own_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = (
        "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nOffending ED25519 key in /k:1\nHost key verification failed."
    )
    result, _ = who(monkeypatch, {"admin": Login(False, False, "Host key verification failed", changed)})
    assert "ssh-keygen -f /k -R 198.51.100.11" in result["msg"]


def test_a_user_who_gets_in_but_cannot_become_root_says_more_than_one_who_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sudo = "sudo: a password is required"
    result, tried = who(monkeypatch, {"admin": Login(False, False, sudo, sudo, True), "root": REFUSED})
    assert tried == ["admin sudo -n true", "root true"]
    assert "lets admin in, but sudo asks for a password" in result["msg"] and "--ask-become-pass" in result["msg"]


# ---------------------------------------------------------------- the proof of a change

Change = Callable[..., tuple[dict, list[str]]]


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Change:
    """Run the action with the host's answers by state (an exception: the connection broke) and logins in turn."""

    def run(host: dict[str, object], logins: list[Login]) -> tuple[dict, list[str]]:
        plugin = action(guarded_files, {"name": "ssh", "login_user": "admin", "remedy": "Correct it."})
        seen: list[str] = []
        monkeypatch.setattr(
            guarded_files, "connection_as", lambda _connection, _context, user, **_: Connection(user=user)
        )
        for pause in ("PAUSE_SECONDS", "CLOSED_PAUSE_SECONDS"):
            monkeypatch.setattr(guarded_files, pause, 0)
        monkeypatch.setattr(guarded_files, "PATIENCE_SECONDS", -60)

        def log_in(connection: Connection, command: str) -> Login:
            seen.append(f"{connection.user} {command}")
            return logins.pop(0)

        def module(arguments: dict) -> dict:
            state = arguments.get("state", "present")
            seen.append(f"{plugin._connection.user} {state}")
            answer = host[state].pop(0) if isinstance(host[state], list) else host[state]
            if isinstance(answer, Exception):
                raise answer
            return dict(answer)

        monkeypatch.setattr(guarded_files, "attempt", log_in)
        monkeypatch.setattr(plugin, "_module", module)
        return plugin.run(task_vars={}), seen

    return run


ARMED = {"changed": True, "armed": True, "written": ["/a"]}
BROKEN = AnsibleConnectionFailure("the connection broke")


def test_what_changes_nothing_needs_no_proof(change: Change) -> None:
    result, seen = change({"present": {"changed": False, "armed": False}}, [])
    assert not result["changed"] and seen == ["root present"]


def test_a_confirmed_change_is_disarmed_by_the_user_who_logged_in(change: Change) -> None:
    result, seen = change({"present": ARMED, "proven": {"changed": True}}, [IN])
    assert result == {**ARMED, "armed": False}
    assert seen == ["root present", "admin sudo -n true", "admin proven"]


def test_a_change_without_proof_is_taken_back_at_once(change: Change) -> None:
    result, seen = change({"present": ARMED, "restored": {"changed": True}}, [REFUSED, IN])
    assert result["failed"] and seen[-2:] == ["root restored", "root true"]
    for words in (
        "admin could not log in",
        "Permission denied",
        "rolled back at once",
        "root can log in",
        "Correct it.",
    ):
        assert words in result["msg"]


def test_a_port_that_is_closed_for_a_moment_is_tried_again_and_nothing_else_is(change: Change) -> None:
    result, seen = change({"present": ARMED, "proven": {"changed": True}}, [CLOSED, CLOSED, IN])
    assert not result.get("failed") and seen[1:] == ["admin sudo -n true"] * 3 + ["admin proven"]
    result, seen = change({"present": [BROKEN, ARMED], "proven": {"changed": True}}, [CLOSED, IN, CLOSED, IN])
    assert not result.get("failed") and seen[-1] == "admin proven"
    for other in (REFUSED, SILENT):
        result, _ = change({"present": ARMED, "restored": {"changed": True}}, [CLOSED, other, IN])
        assert result["failed"] and other.message in result["msg"]


def test_a_port_that_stays_closed_is_taken_back(change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_files, "LOGIN_SECONDS", -1)
    result, _ = change({"present": ARMED, "restored": {"changed": True}}, [CLOSED, IN])
    assert result["failed"] and "Connection refused" in result["msg"] and "rolled back at once" in result["msg"]


def test_without_a_connection_the_hosts_own_rollback_is_waited_for(change: Change) -> None:
    result, _ = change({"present": BROKEN, "restored": BROKEN}, [SILENT, SILENT, SILENT, IN])
    assert result["failed"] and "rolled back by the host's timer, and admin can log in as before" in result["msg"]


def test_a_host_that_stays_silent_is_given_up(change: Change) -> None:
    result, _ = change({"present": ARMED, "restored": BROKEN}, [SILENT] * 3)
    assert result["failed"] and "console" in result["msg"] and "journalctl" in result["msg"]


def test_a_change_that_broke_only_its_own_connection_is_finished_over_a_new_one(change: Change) -> None:
    result, seen = change({"present": [BROKEN, ARMED], "proven": {"changed": True}}, [IN, IN])
    assert not result.get("failed")
    assert seen == ["root present", "admin sudo -n true", "admin present", "admin sudo -n true", "admin proven"]


def test_a_proof_that_came_too_late_fails(change: Change) -> None:
    result, _ = change({"present": ARMED, "proven": {"failed": True, "msg": "too late"}}, [IN])
    assert result["failed"]

"""A host key is pinned only after it was confirmed, and never in place of another one."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail, AnsibleActionSkip, AnsiblePromptNoninteractive
from ansible_collections.openmates.server.plugins.action import host_key
from ansible_collections.openmates.server.plugins.plugin_utils import host_keys

ADDRESS = "198.51.100.13"


def a_key(folder: Path) -> tuple[str, str]:
    """A new key and its fingerprint, as ssh-keygen shows it."""
    file = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", f"{file}.pub"], check=True, capture_output=True, text=True).stdout
    return Path(f"{file}.pub").read_text().split()[1], shown.split()[1]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A server that shows a key to an `ssh` of this test, which takes the options that the genuine one gets."""
    key, fingerprint = a_key(tmp_path)
    fake, log = tmp_path / "bin" / "ssh", tmp_path / "calls"
    fake.parent.mkdir()
    fake.write_text(
        "#!/bin/sh\n"
        f'printf "%s\\n" "$*" >> {log}\n'
        f'if [ "$1" = -G ]; then echo "userknownhostsfile {tmp_path}/mine {tmp_path}/mine2"; exit; fi\n'
        'for word; do case "$word" in UserKnownHostsFile=/*) file=${word#*=}; break;; '
        "esac; done\n"
        f'[ -e {tmp_path}/silent ] && {{ echo "ssh: connect to host a port 22: Connection refused" >&2; exit 255; }}\n'
        f'echo "{ADDRESS} ssh-ed25519 $(cat {tmp_path}/shown)" > "$file"\n'
        'echo "Permission denied" >&2; exit 255\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    (tmp_path / "shown").write_text(key)
    return SimpleNamespace(
        key=key, fingerprint=fingerprint, folder=tmp_path, calls=log, file=tmp_path / "project/known_hosts"
    )


Pin = Callable[..., dict]


@pytest.fixture
def pin(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Pin:
    """Run the action with the operator's answer; None: there is no terminal."""

    def run(answer: str | None = None, transport: str = "ssh", check_mode: bool = False, **options: object) -> dict:
        connection = SimpleNamespace(
            transport=transport,
            _shell=SimpleNamespace(tmpdir="/nowhere"),
            get_option=lambda name: {
                "host": ADDRESS,
                "port": 22,
                "ssh_common_args": f"-o UserKnownHostsFile={shlex.quote('/elsewhere/a b')}",
                "ssh_extra_args": "-o 'ProxyCommand=ssh -W [%h]:%p jump'",
            }[name],
        )
        task = SimpleNamespace(args={}, async_val=0, check_mode=check_mode, diff=False)
        plugin = host_key.ActionModule(task, connection, None, None, None, None)
        given = {
            "file": str(server.file),
            "fingerprints": [],
            "bastion": "",
            "key_of": "server",
            "timeout": 10,
            **options,
        }
        monkeypatch.setattr(plugin, "validate_argument_spec", lambda _spec: (None, given))

        def prompt(_self: object, question: str) -> bytes:
            assert f"ED25519 {server.fingerprint}\n" in question
            if answer is None:
                raise AnsiblePromptNoninteractive("stdin is not interactive")
            return answer.encode()

        monkeypatch.setattr(host_key.Display, "prompt_until", prompt)
        return plugin.run(task_vars={"inventory_hostname": "prod1"})

    return run


def test_a_confirmed_key_is_pinned_once(server, pin):
    assert pin("yes") == {"changed": True, "pinned": [{"name": ADDRESS, "fingerprint": server.fingerprint}]}
    assert server.file.read_text() == f"{ADDRESS} ssh-ed25519 {server.key}\n"
    assert pin() == {"changed": False, "pinned": []}, "a known key needs no answer"


@pytest.mark.parametrize("answer", ["", "no", "what?"])
def test_anything_but_yes_pins_nothing(server, pin, answer):
    with pytest.raises(AnsibleActionFail, match="not confirmed"):
        pin(answer)
    assert not server.file.exists()


def test_without_a_terminal_the_message_says_how_to_confirm(server, pin):
    with pytest.raises(AnsibleActionFail, match=re.escape(f"-e bootstrap_fingerprints={server.fingerprint}.")):
        pin()
    assert not server.file.exists()


def test_a_fingerprint_of_the_console_needs_no_question(server, pin):
    assert pin(fingerprints=["SHA256:another", server.fingerprint])["changed"]


def test_another_fingerprint_than_that_of_the_console_is_refused_without_a_question(server, pin):
    with pytest.raises(AnsibleActionFail, match="none of bootstrap_fingerprints"):
        pin("yes", fingerprints=["SHA256:another"])
    assert not server.file.exists()


@pytest.mark.parametrize("holder", ["mine2", "project/known_hosts"])
def test_a_changed_key_is_refused_wherever_the_former_one_is_known(server, pin, holder, tmp_path):
    (tmp_path / "other").mkdir()
    known = server.folder / holder
    known.parent.mkdir(exist_ok=True)
    known.write_text(f"{ADDRESS} ssh-ed25519 {a_key(tmp_path / 'other')[0]}\n")
    before = known.read_text()
    with pytest.raises(AnsibleActionFail, match="knows another one") as failure:
        pin("yes", fingerprints=["accept"])
    assert f"ssh-keygen -f {known} -R {ADDRESS}" in str(failure.value)
    assert known.read_text() == before


def test_a_key_that_the_operator_knows_already_is_not_pinned_again(server, pin):
    (server.folder / "mine").write_text(f"{ADDRESS} ssh-ed25519 {server.key}\n")
    assert not pin()["changed"] and not server.file.exists()


def test_lines_of_the_file_stay(server, pin):
    server.file.parent.mkdir()
    server.file.write_text("other ssh-ed25519 AAAA")
    pin("y")
    assert server.file.read_text().splitlines() == ["other ssh-ed25519 AAAA", f"{ADDRESS} ssh-ed25519 {server.key}"]


def test_the_inventorys_connection_is_used_and_the_bastion_is_asked_directly(server, pin):
    for key_of in ("bastion", "server"):
        pin(fingerprints=["accept"], bastion="me@192.0.2.7:2222", key_of=key_of)
    calls = [call for call in server.calls.read_text().splitlines() if not call.startswith("-G")]
    assert [("ProxyCommand" in call, call.split()[-2]) for call in calls] == [(False, "192.0.2.7"), (True, ADDRESS)]
    for call in calls:
        # ssh takes the first value of an option, so the temporary file counts, not that of the inventory.
        assert call.index("UserKnownHostsFile=/tmp") < call.index("UserKnownHostsFile=/elsewhere/a b")


def test_a_server_that_does_not_answer_is_named_for_what_it_is(server, pin):
    (server.folder / "silent").touch()
    with pytest.raises(AnsibleActionFail, match="no SSH server on that port"):
        pin("yes")


def test_nothing_is_pinned_in_check_mode_or_without_ssh(server, pin):
    with pytest.raises(AnsibleActionSkip):
        pin("yes", check_mode=True)
    assert not pin("yes", transport="local")["changed"]
    assert host_keys.known([], ADDRESS, ADDRESS, server.file) == {}

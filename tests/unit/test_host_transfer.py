"""Files go from one host to another through the controller's memory."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rendering import ROOT

MIB = 1 << 20


@pytest.fixture
def run(tmp_path: Path):
    """A function that runs the task with these arguments, from the host `there` to `here`."""

    # Takes away what Ansible puts before the command, and fails without it.
    (tmp_path / "sudo").write_text('#!/bin/sh\nwhile [ "$1" != /bin/sh ]; do shift || exit 9; done\nexec "$@"\n')
    (tmp_path / "sudo").chmod(0o755)

    def play(become: bool, sudo: bool = False, **arguments: object) -> subprocess.CompletedProcess:
        task = {"openmates.server.host_transfer": arguments, "become": become}
        playbook = tmp_path / "play.yml"
        playbook.write_text(json.dumps([{"hosts": "here", "gather_facts": False, "tasks": [task]}]))
        host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        host["ansible_become_exe"] = str(tmp_path / ("sudo" if sudo else "missing"))
        host["ansible_become_user"] = getpass.getuser()
        same_user = {"ANSIBLE_BECOME_ALLOW_SAME_USER": "1"} if sudo else {}
        hosts = {"here": host, "there": host}
        (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        (tmp_path / "ansible.cfg").write_text(
            f"[defaults]\ncollections_path={ROOT}/collections\nlocal_tmp={tmp_path}/local\nremote_tmp={tmp_path}/remote\n"
        )
        settings = {"ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **same_user}
        command = [Path(sys.executable).parent / "ansible-playbook", "-vvv", "-i", tmp_path / "hosts.json", playbook]
        return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)

    return play


@pytest.mark.parametrize(("become", "sudo"), [(False, False), (True, True), (True, False)])
def test_bytes_arrive_as_they_are_and_are_in_no_output(run, tmp_path: Path, become: bool, sudo: bool) -> None:
    whole = os.urandom(17 * MIB + 5) + b"canary-at-the-end\r\n\x00"
    (tmp_path / "with a space").write_bytes(whole)
    (tmp_path / "empty").touch()
    (tmp_path / "dest").write_bytes(b"an earlier file, which is replaced" * MIB)
    files = [
        {"src": str(tmp_path / "with a space"), "dest": str(tmp_path / "dest"), "bytes": len(whole)},
        {"src": str(tmp_path / "empty"), "dest": str(tmp_path / "made"), "bytes": 0},
    ]
    done = run(become, sudo, source_host="there", files=files)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "dest").read_bytes() == whole
    assert (tmp_path / "made").read_bytes() == b""
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
    assert "canary" not in done.stdout + done.stderr
    assert len(done.stdout) < 100_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source_host": "nowhere"}, "The inventory has no host nowhere"),
        ({"bytes": 100}, "it is not as long as it was"),
        ({"src": "/missing"}, "cannot be read on there: dd: failed to open"),
        ({"dest": "/missing/file"}, "/missing/file cannot be written"),
    ],
)
def test_what_goes_wrong_is_named(run, tmp_path: Path, arguments: dict, words: str) -> None:
    (tmp_path / "short").write_text("short")
    file = {"src": str(tmp_path / "short"), "dest": str(tmp_path / "dest"), "bytes": 5}
    file |= {name: value for name, value in arguments.items() if name in file}
    done = run(False, source_host=arguments.get("source_host", "there"), files=[file])
    assert done.returncode == 2
    assert words in done.stdout, done.stdout[-3000:]

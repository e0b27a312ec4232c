"""The callback openmates.server.report: a program can read what a playbook reports from standard output."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLAY = """\
- name: Report
  hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Do something else
      ansible.builtin.set_fact: {found: true}
    - name: Show it
      ansible.builtin.debug:
        msg: "{{ '{' ~ '\\"ok\\": false}' }}"
    - name: Check it
      ansible.builtin.assert: {that: "{{ item == 1 }}", fail_msg: "it has faults:\\n- {{ item }}"}
      loop: [1, 2]
"""


def test_only_the_report_is_on_standard_output_and_errors_are_on_standard_error(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_STDOUT_CALLBACK": "openmates.server.report",
        "ANSIBLE_FORCE_COLOR": "0",
    }
    command = ["ansible-playbook", "-i", "localhost,", str(tmp_path / "play.yml")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout) == {"ok": False}
    assert "Check it: it has faults:\n- 2\n" in done.stderr and "- 1" not in done.stderr

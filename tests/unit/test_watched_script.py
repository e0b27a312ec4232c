"""watched_script: a role's script runs in the background, its progress is shown, and its result is a script's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail, AnsibleActionSkip
from ansible_collections.openmates.server.plugins.action import watched_script as plugin


class Action(plugin.ActionModule):
    """The plugin on this machine: what it would run on the host runs here."""

    def __init__(self, folder: Path, check_mode: bool = False, **arguments: object) -> None:
        self.folder = folder
        self._task = SimpleNamespace(check_mode=check_mode, args={"chdir": str(folder), "src": "job.sh", **arguments})
        self._connection = SimpleNamespace(_shell=SimpleNamespace(join_path=lambda *parts: "/".join(parts)))
        (folder / "tmp").mkdir(exist_ok=True)

    def validate_argument_spec(self, spec: dict) -> tuple[None, dict]:
        return None, {name: self._task.args.get(name, option.get("default")) for name, option in spec.items()}

    def _make_tmp_path(self, *_: object) -> str:
        return str(self.folder / "tmp")

    def _remove_tmp_path(self, path: str) -> None:
        self.removed = path

    def _find_needle(self, _: str, name: str) -> str:
        return str(self.folder / name)

    def _transfer_file(self, source: str, target: str) -> None:
        Path(target).write_text(Path(source).read_text())

    def _fixup_perms2(self, *_: object) -> None: ...

    def _low_level_execute_command(self, command: str) -> dict:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=False)
        return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(plugin, "Display", lambda: SimpleNamespace(display=lines.append))
    monkeypatch.setattr(plugin.ActionBase, "run", lambda *_: {})
    monkeypatch.setattr(plugin, "SHOW_EVERY", 0.5)
    return lines


def run(folder: Path, script: str, **more: object) -> dict:
    (folder / "job.sh").write_text(script)
    action = Action(folder, executable="sh", **more)
    result = action.run(None, {"inventory_hostname": "prod1"})
    assert action.removed == str(folder / "tmp")
    return result


def test_the_result_is_the_scripts(tmp_path: Path, shown: list[str]) -> None:
    script = 'pwd; echo "$1|$2"; echo "progress: half" >&2; echo trouble >&2; exit 3'
    result = run(tmp_path, script, arguments=["a b", "c'd"])
    assert (result["rc"], result["stdout_lines"]) == (3, [str(tmp_path), "a b|c'd"])
    assert result["stderr"] == "trouble"
    assert shown == []


def test_progress_is_shown_with_the_host_and_the_time(tmp_path: Path, shown: list[str]) -> None:
    assert run(tmp_path, "echo 'progress: 2 of 3 layers' >&2; sleep 2")["rc"] == 0
    assert shown and shown[0].startswith("[prod1] after ") and shown[0].endswith(" s: 2 of 3 layers")


def test_a_script_without_progress_is_named(tmp_path: Path, shown: list[str]) -> None:
    run(tmp_path, "sleep 2")
    assert shown and shown[0].endswith("job.sh runs")


def test_a_script_whose_shell_was_killed_fails_and_is_not_waited_for(tmp_path: Path, shown: list[str]) -> None:
    with pytest.raises(AnsibleActionFail, match=r"job\.sh was killed on the host"):
        run(tmp_path, "kill -KILL $PPID; sleep 1")


def test_a_directory_that_is_missing_is_named(tmp_path: Path, shown: list[str]) -> None:
    with pytest.raises(AnsibleActionFail, match="/nowhere"):
        run(tmp_path, "true", chdir="/nowhere")


def test_check_mode_runs_nothing(tmp_path: Path, shown: list[str]) -> None:
    with pytest.raises(AnsibleActionSkip):
        Action(tmp_path, check_mode=True).run(None, {})

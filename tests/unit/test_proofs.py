"""lab/proofs.py: one row per case, a case is done only with the same inputs, and nothing names this machine."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[2] / "lab/proofs.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lab_proofs", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


proofs = _load()


@pytest.fixture
def project(tmp_path: Path) -> proofs.Proofs:
    """A project with one commit, in which `work` is what matters."""

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "work").mkdir()
    (tmp_path / "work/a").write_text("1")
    (tmp_path / "other").write_text("1")
    (tmp_path / ".gitignore").write_text("/.lab/\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "x")
    return proofs.Proofs(tmp_path)


def rows(project) -> list[str]:
    return [line for line in project.table.read_text().splitlines() if line.startswith("| ") and " case " not in line]


def test_a_case_keeps_one_row_with_its_last_result(project) -> None:
    project.record("faults: b", "passed", "first", seconds=65)
    project.record("faults: a", "passed")
    project.record("faults: b", "failed", "a|b\nnot ready", seconds=3700)
    assert len(rows(project)) == 2
    assert "| faults: b | failed | " in rows(project)[1]
    assert "1 h 01 min | a/b not ready |" in rows(project)[1]


def test_the_row_has_commit_and_machine_but_no_host_name(project) -> None:
    project.record("x", "passed")
    commit = project._git("rev-parse", "--short=10", "HEAD").strip()
    assert f"| {commit} |" in rows(project)[0]
    (project.root / "work/a").write_text("2")
    project.record("x", "passed")
    assert f"| {commit}+changes |" in rows(project)[0]
    text = project.table.read_text()
    assert platform.machine() in text and platform.node() not in text and str(project.root) not in text


def test_the_record_itself_is_no_change(project) -> None:
    project.record("x", "passed")
    project._git("add", "docs")
    project.record("y", "passed")
    assert "+changes" not in rows(project)[1]


def test_done_only_with_the_same_inputs(project) -> None:
    before = project.digest(["work"])
    project.record("x", "passed", digest=before)
    (project.root / "other").write_text("2")
    assert project.done("x", project.digest(["work"]))
    assert not project.done("y", before)
    assert not project.done("x", project.digest(["work"], ["another image"]))
    (project.root / "work/new").write_text("untracked files count")
    assert not project.done("x", project.digest(["work"]))


def test_a_failure_is_never_done_and_undoes_a_success(project) -> None:
    digest = project.digest(["work"])
    project.record("x", "passed", digest=digest)
    project.record("x", "failed", digest=digest)
    assert not project.done("x", digest)


def test_a_row_that_came_with_a_checkout_skips_nothing(project) -> None:
    digest = project.digest(["work"])
    project.record("x", "passed", digest=digest)
    project.state.unlink()
    assert not project.done("x", digest)


@pytest.mark.parametrize(("case", "result"), [("x", "green"), ("a|b", "passed"), ("a\nb", "passed"), ("", "passed")])
def test_what_would_break_the_table_is_refused(project, case: str, result: str) -> None:
    with pytest.raises(ValueError):
        project.record(case, result)


def test_run_records_what_the_command_did_and_does_not_repeat_a_success(project, monkeypatch) -> None:
    monkeypatch.setattr(proofs, "Proofs", lambda: project)
    count = project.root / ".lab/count"
    count.parent.mkdir()
    command = ["run", "x", "--inputs", "work", "--", "sh", "-c", f"echo >> {count}; exit $(($(wc -l < {count}) < 2))"]
    assert proofs.main(command) == 1
    assert "| failed |" in rows(project)[0]
    assert proofs.main(command) == 0
    assert "| passed |" in rows(project)[0]
    assert proofs.main(command) == 0
    assert len(count.read_text().splitlines()) == 2


@pytest.mark.parametrize("wrong", [["record", "x"], ["done", "x", "passed"], ["run", "x"], ["done", "x", "--", "true"]])
def test_the_command_line_refuses_what_makes_no_sense(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        proofs.main(wrong)


@pytest.mark.parametrize(("seconds", "text"), [(41.4, "41 s"), (425, "7 min 05 s"), (7400, "2 h 03 min")])
def test_durations(seconds: float, text: str) -> None:
    assert proofs.duration(seconds) == text

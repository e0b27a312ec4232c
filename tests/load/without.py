"""Copies of the project that lack one step of a deploy, to show that the proofs notice it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINKS = (".lab", ".vault-password", ".venv", "inventories/vault-keys")  # what git ignores and a run needs

ROLLOUT = "roles/stack/files/rollout.py"
PULLS = (
    """\
    - name: Pull the images before anything is changed
      ansible.builtin.import_role: {name: stack, tasks_from: pull}
      vars: {stack_images: "{{ release_declared }}"}
""",
    """\
  when: not ansible_check_mode and stack_to_pull | length > 0
""",
)
#: By the step that is left out: a file, what is in it exactly once, and what takes its place.
STEPS: dict[str, list[tuple[str, str, str]]] = {
    "drain": [
        (ROLLOUT, "        gone = self.host.stop(old, old.stop_seconds)\n", "        gone = True\n"),
        (ROLLOUT, "        cut = self.drain(service, old, limit or old.stop_seconds)\n", "        cut = [{}]\n"),
    ],
    "readiness": [
        (ROLLOUT, "ready_after = self.wait_until_steady(service, new, excused)", "ready_after = 0.0"),
        (ROLLOUT, "                self.watch(new, SETTLE)\n", "                time.sleep(SETTLE)\n"),
    ],
    "pull": [
        ("playbooks/deploy.yml", PULLS[0], ""),
        ("roles/stack/tasks/changes.yml", PULLS[1], "  when: false\n"),
    ],
}


def left_out(step: str, text: str, file: str) -> str:
    """A file's text without the step. Raises LookupError if the file has changed, so that this no longer fits."""
    for name, old, new in STEPS[step]:
        if name == file:
            if text.count(old) != 1:
                raise LookupError(f"{file} has {text.count(old)} times what {step} is to be taken out of: {old!r}")
            text = text.replace(old, new)
    return text


def copy(step: str, destination: Path) -> Path:
    """A copy of the project without one step."""
    shutil.rmtree(destination, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).is_file():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, destination / name, follow_symlinks=False)
    for name in LINKS:
        if (ROOT / name).exists():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            (destination / name).unlink(missing_ok=True)
            (destination / name).symlink_to((ROOT / name).resolve())
    for file in {file for file, _, _ in STEPS[step]}:
        path = destination / file
        path.write_text(left_out(step, path.read_text(), file))
    return destination

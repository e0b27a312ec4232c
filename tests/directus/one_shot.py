"""cms-setup.mjs as the stack runs it, in its own container."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from real import ROOT, Stack

SCRIPTS = ROOT / "files/compose/config/cms-setup"


class Setup:
    """The one-shot, with a schema file of its own."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.folder.chmod(0o755)
        for script in SCRIPTS.glob("*.mjs"):
            self.write(script.name, script.read_text())
        self.schema(None)

    def write(self, name: str, text: str) -> None:
        """A file that the container's user may read, whatever the umask is."""
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o644)

    def schema(self, snapshot: object, force: bool = False) -> None:
        self.write("setup.json", json.dumps({"schema": snapshot, "force": force}))

    @property
    def options(self) -> tuple[str, ...]:
        return ("--volume", f"{self.folder}:/openmates:ro")

    def run(self, **environment: str) -> subprocess.CompletedProcess:
        return self.stack.once("node", "/openmates/cms-setup.mjs", options=self.options, **environment)

    def works(self, **environment: str) -> str:
        done = self.run(**environment)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def fails(self, **environment: str) -> str:
        done = self.run(**environment)
        assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
        assert "cms-setup: failed: " in done.stderr
        return done.stderr.split("cms-setup: failed: ")[1]

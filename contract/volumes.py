"""State: what OpenMates keeps in volumes or writes to its file system, and whether our containers keep it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from contract.findings import BREAKS, Finding
from contract.project import COMPOSE, Project
from contract.python_code import Module, dotted
from contract.upstream import Upstream

_MAY_WRITE = re.compile(
    r"makedirs\(|\.(?:mkdir|touch|write_text|write_bytes)\(|FileHandler\(|\bopen\([^()]*(?:\([^()]*\)[^()]*)*['\"][wax]"
)
_ELSEWHERE = ("/tmp", "/dev/", "/*")  # noqa: S108 - writable, or not known; nothing is made there
_WRITERS = ("write_text", "write_bytes", "mkdir", "touch")


def writes(modules: Iterable[Module]) -> dict[str, str]:
    """Absolute folders that the code writes to, each with the first place."""
    found: dict[str, str] = {}
    for module in modules:
        if not _MAY_WRITE.search(module.text):
            continue
        for call in module.calls:
            path = _written(module, call)
            if path and path.startswith("/") and not path.startswith(_ELSEWHERE):
                found.setdefault(re.sub(r"/[^/]*[.*][^/]*$", "", path).rstrip("/") or path, module.place(call))
    return found


def _written(module: Module, call: ast.Call) -> str | None:
    name = dotted(call.func)
    last = name.rsplit(".", 1)[-1]
    first = call.args[0] if call.args else next((word.value for word in call.keywords if word.arg == "filename"), None)
    if name == "open" and len(call.args) > 1 and re.match("[wax]", module.pattern(call.args[1]) or ""):
        return module.pattern(first)
    if name == "os.makedirs" or last.endswith("FileHandler"):
        return module.pattern(first)
    if last in _WRITERS and isinstance(call.func, ast.Attribute):
        return module.pattern(call.func.value)
    return None


def compare(upstream: Upstream, project: Project) -> Iterator[Finding]:
    reported: set[tuple[str, str]] = set()
    for name, service in upstream.services.items():
        ours = project.services(project.cms_setup_kind).get(name)
        for target, source in service.volumes.items() if ours else ():
            if source.startswith((".", "/", "~", "$")) or not source:
                continue  # a file of the checkout or of the host: no state
            mount = ours.mount_of(target)
            if mount in ours.volumes:
                continue
            reported.add((name, target))
            how = "a tmpfs, which the end of the container empties" if mount else "not mounted"
            yield Finding(
                BREAKS, f"volumes/{name}{target}",
                f"{name}: {target} is {how}; OpenMates keeps it in the volume {source}",
                f"{service.file} ({name})", f"{COMPOSE}: {name}.volumes",
            )  # fmt: skip
    api = project.known_services["api"]  # the workers have the same code; which parts they run is not known
    for folder, place in sorted(writes(upstream.code("api")).items()):
        if api.read_only and not api.mount_of(folder) and ("api", folder) not in reported:
            yield Finding(
                BREAKS, f"volumes/api{folder}", f"api: the code writes to {folder}, which is read-only here",
                place, f"{COMPOSE}: api.volumes",
            )  # fmt: skip

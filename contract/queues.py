"""Celery: the queues that OpenMates' code sends tasks to, and those that our workers consume."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from contract.compose import Service, filled
from contract.findings import BREAKS, INFO, NEW, Finding
from contract.project import COMPOSE, Project
from contract.python_code import Module
from contract.upstream import Upstream

_OPTION = re.compile(r"(?:--queues[= ]|-Q ?)([\w,]+)")


def queues(modules: Iterable[Module]) -> dict[str, str]:
    """Queue names with the first place that has them: the table of task modules, `queue=` and task routes."""
    found: dict[str, str] = {}
    for module in modules:
        if not re.search(r"""['"]queue['"]|\bqueue=|['"]module['"]""", module.text):
            continue
        for node in module.nodes:
            if isinstance(node, ast.Dict):
                items = {module.pattern(key): value for key, value in zip(node.keys, node.values, strict=True) if key}
                if set(items) == {"name", "module"} or set(items) == {"queue"}:
                    _add(found, module, node, items.get("name", items.get("queue")))
            elif isinstance(node, ast.keyword) and node.arg == "queue":
                _add(found, module, node.value, node.value)
    return found


def _add(found: dict[str, str], module: Module, node: ast.AST, value: ast.AST | None) -> None:
    name = module.pattern(value)
    if name and re.fullmatch(r"[\w-]+", name):
        found.setdefault(name, module.place(node))


def consumed(service: Service) -> set[str] | None:
    """Queues of a worker; None if it takes all that its code knows, and empty if it is no worker."""
    if not re.search(r"\bworker\b", service.command) or "celery" not in service.command:
        return set()
    declared = _OPTION.search(filled(service.command))
    text = declared[1] if declared else service.environment.get("CELERY_QUEUES", "")
    return {name.strip() for name in filled(text).split(",") if name.strip()} or None


def compare(upstream: Upstream, project: Project) -> Iterator[Finding]:
    known = queues(upstream.code("api"))
    theirs = {name: consumed(service) or set() for name, service in upstream.services.items()}
    ours = [consumed(service) for service in project.known_services.values()]
    everything = None in ours
    served = set().union(*(names for names in ours if names))
    here = f"{COMPOSE}: task-worker; openmates_worker_queues, or an entry of openmates_apps with kind worker"
    for name, place in sorted(known.items()):
        worker = next((service for service, names in theirs.items() if name in names), "")
        if everything or name in served:
            continue
        if worker:
            yield Finding(
                BREAKS, f"queues/{name}", f"no worker consumes the queue {name}: its tasks wait for ever",
                f"{place}; OpenMates' worker for it is {worker}", here,
            )  # fmt: skip
        else:
            problem = f"no worker consumes the queue {name}, here or in OpenMates' Compose files"
            yield Finding(NEW, f"queues/{name}", problem, place, here)
    for name in sorted(served - set(known)):
        yield Finding(BREAKS, f"queues/{name}/unknown", f"a worker consumes {name}, which no code has", "", here)
    if everything:
        yield Finding(INFO, "queues/all", f"one worker consumes every queue: {', '.join(sorted(known))}", "", here)

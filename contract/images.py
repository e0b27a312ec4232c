"""Images: which one each service has, as which user it starts, what its command names, and how long it may stop."""

from __future__ import annotations

import re
from collections.abc import Iterator

from contract import compose
from contract.findings import BREAKS, INFO, NEW, Finding
from contract.project import COMPOSE, Project
from contract.upstream import DOCKERFILES, Upstream

_IMAGES = "roles/settings/defaults/main/services.yml: openmates_services"


def compare(upstream: Upstream, project: Project) -> Iterator[Finding]:
    ours = project.known_services
    for name, service in sorted(upstream.services.items()):
        evidence = f"{service.file} ({name})"
        if name not in ours:
            level = INFO if "celery" in service.command else NEW  # a worker's queues are looked at by themselves
            problem = f"{name} is a service of OpenMates' that this stack does not have"
            yield Finding(level, f"services/{name}", problem, evidence, COMPOSE)
            continue
        yield from _image(upstream, service, ours[name], evidence)
        if service.stop_seconds > ours[name].stop_seconds:
            yield Finding(
                BREAKS, f"services/{name}/stop",
                f"{name} has {ours[name].stop_seconds:g} s to stop; OpenMates gives it {service.stop_seconds:g} s",
                evidence, f"{COMPOSE}: {name}.stop_grace_period",
            )  # fmt: skip
    yield from _users(upstream, project)
    yield from _modules(upstream, ours)


def _image(upstream: Upstream, theirs: compose.Service, ours: compose.Service, evidence: str) -> Iterator[Finding]:
    wanted, used = compose.repository(theirs.image), compose.repository(ours.image)
    if not wanted:
        return
    if wanted != used:
        yield Finding(
            BREAKS, f"images/{ours.name}",
            f"{ours.name} runs {used}, where OpenMates runs {wanted}{_contents(upstream, wanted)}",
            evidence, f"{_IMAGES}['{ours.name}'].image",
        )  # fmt: skip
    elif wanted.startswith("openmates-"):
        return
    elif compose.tag(theirs.image).split(".")[0] != compose.tag(ours.image).split(".")[0]:
        yield Finding(
            INFO, f"images/{ours.name}/version",
            f"{ours.name}: {used} {compose.tag(ours.image)} here, {compose.tag(theirs.image) or 'latest'} at OpenMates",
            evidence, f"{_IMAGES}['{ours.name}'].image",
        )  # fmt: skip


def _contents(upstream: Upstream, image: str) -> str:
    """What an image of OpenMates' own adds, where that can be told."""
    folder = DOCKERFILES.get(image, "").rsplit("/", 1)[0]
    pattern = re.compile(re.escape(f"{folder}/extensions/") + r"([^/]+)/")
    extensions = sorted({match[1] for path in upstream.tree.paths if (match := pattern.match(path))})
    return f" (with the extensions {', '.join(extensions)})" if folder and extensions else ""


def _users(upstream: Upstream, project: Project) -> Iterator[Finding]:
    for name, ours in sorted(project.services(project.cms_setup_kind).items()):
        text = upstream.dockerfile(ours.image)
        if not text or ours.user or not ours.without_capabilities:
            continue
        users = re.findall(r"^USER\s+(\S+)", text, re.MULTILINE)
        if not users or users[-1] in ("root", "0"):
            yield Finding(
                BREAKS, f"images/{name}/user",
                f"{name}: its image runs as root, which without capabilities cannot read another user's secrets; "
                "no user is set",
                DOCKERFILES[compose.repository(ours.image)], f"{COMPOSE}: {name}.user",
            )  # fmt: skip


def _modules(upstream: Upstream, ours: dict[str, compose.Service]) -> Iterator[Finding]:
    """Python modules that our commands name."""
    for name, service in ours.items():
        for module in sorted(set(re.findall(r"\b(backend(?:\.\w+)+)", service.command))):
            path = module.replace(".", "/")
            if f"{path}.py" not in upstream.tree and f"{path}/__init__.py" not in upstream.tree:
                yield Finding(
                    BREAKS, f"services/{name}/command", f"{name} starts {module}, which OpenMates does not have",
                    f"{path}.py", f"{COMPOSE}: {name}.command",
                )  # fmt: skip

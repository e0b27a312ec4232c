"""Directus: the settings that OpenMates relies on, and the collections that its cms-setup makes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from contract.compose import filled, load
from contract.findings import BREAKS, INFO, Finding
from contract.project import COMPOSE, Project
from contract.upstream import DOCKERFILES, Upstream

SCHEMAS = "backend/core/directus/schemas/"
_WRAPPER = "config/bin/cms-setup.py"
_READER = "config/bin/cms_schema.py"


def compare(upstream: Upstream, project: Project) -> Iterator[Finding]:
    theirs = upstream.services.get("cms")
    ours = project.environment("cms", project.cms_setup_kind)
    for name, value in sorted(theirs.environment.items()) if theirs else ():
        if name not in ours:
            yield Finding(
                BREAKS, f"directus/{name}", f"cms: {name} is not set, where OpenMates has {value}",
                f"{theirs.file} (cms)", f"{COMPOSE}: x-cms.environment",
            )  # fmt: skip
        elif "$" not in value and ours[name] not in (value, "(secret)"):
            yield Finding(
                INFO, f"directus/{name}/value", f"cms: {name} is {ours[name]} here, {value} at OpenMates",
                f"{theirs.file} (cms)", f"{COMPOSE}: x-cms.environment",
            )  # fmt: skip
    yield from _schema(upstream)
    yield from _wrapper(upstream, project)


def _schema(upstream: Upstream) -> Iterator[Finding]:
    files = list(upstream.tree.under(SCHEMAS, suffix=".yml")) + list(upstream.tree.under(SCHEMAS, suffix=".yaml"))
    collections, fields = set(), 0
    for path in files:
        try:
            document = load(upstream.tree.load(path))
        except yaml.YAMLError as error:
            problem = str(error).splitlines()[0]
            yield Finding(BREAKS, f"directus/{path}", f"cms-setup cannot read its schema file: {problem}", path, "")
            continue
        for name, content in document.items() if isinstance(document, dict) else ():
            collections.add(name)
            fields += len((content or {}).get("fields") or ()) if isinstance(content, dict) else 0
    text = f"{len(files)} schema files with {len(collections)} collections and {fields} fields"
    yield Finding(INFO, "directus/schemas", text, SCHEMAS, "applied by OpenMates' cms-setup image")


def _wrapper(upstream: Upstream, project: Project) -> Iterator[Finding]:
    """Files of OpenMates' cms-setup image that we name have to be in it."""
    dockerfile = upstream.tree.load(DOCKERFILES["openmates-cms-setup"]) if _has_dockerfile(upstream) else ""
    service = project.services(project.cms_setup_kind).get("cms-setup")
    named = set(re.findall(r"\b[\w-]+\.py\b", filled(service.command) if service else ""))
    named |= set(re.findall(r"\bsetup_[\w-]+\.py\b", project.file(_WRAPPER, project.cms_setup_kind)))
    present = {path.rsplit("/", 1)[-1] for path in upstream.tree.under("backend/core/directus/setup/")}
    ours = {path.rsplit("/", 1)[-1] for path in ("config/bin/cms-setup.py",) if project.file(path)}
    for name in sorted(named - present - ours):
        yield Finding(
            BREAKS, f"images/cms-setup/{name}", f"cms-setup runs {name}, which OpenMates' image does not have",
            "backend/core/directus/setup/", f"{COMPOSE}: cms-setup.command",
        )  # fmt: skip
    folders = set(re.findall(r"/usr/src/app/[\w/-]+(?=[\"'\s)/])", project.file(_READER, project.cms_setup_kind)))
    for folder in sorted(folders):
        if dockerfile and folder not in dockerfile:
            yield Finding(
                BREAKS, f"images/cms-setup{folder}", f"cms-setup reads {folder}, which OpenMates' image does not have",
                DOCKERFILES["openmates-cms-setup"], f"files/compose/{_READER}",
            )  # fmt: skip


def _has_dockerfile(upstream: Upstream) -> bool:
    return DOCKERFILES["openmates-cms-setup"] in upstream.tree

"""Environment variables: what OpenMates' code reads, what its Compose files and .env.example set, and what we set.

A variable that its code reads and we do not set breaks something when
- its Compose file sets it for that service, to other than the code's own default,
- .env.example has it and the code has no default,
- the default is OpenMates' own site, a host that this stack does not have, or a secret that is written in the source,
- the default switches something on, or differs between places of the code,
- the code reads it in a way that fails without it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from contract.compose import optional
from contract.findings import BREAKS, INFO, NEW, Finding
from contract.project import COMPOSE, Project
from contract.python_code import Module, dotted
from contract.render import FRONTENDS
from contract.upstream import BACKEND, Upstream

_GETTERS = {"os.getenv", "getenv", "os.environ.get", "environ.get"}
_NAME = re.compile(r"[A-Z][A-Z0-9_]{2,}")
_OWN_SITE = re.compile(r"openmates\.org")
_CREDENTIAL = re.compile(r"(SECRET|PASSWORD|TOKEN|_KEY)$")
_MADE_UP = re.compile(r"^(generate|random|token|uuid|new)_?|_(generate|random)", re.IGNORECASE)
_ON = ("true", "1", "yes", "on")
_NUMBER = re.compile(r"_(COUNT|MAX|MIN|INTERVAL|SECONDS)$")  # of which 1 is not a switch
_PROVIDER_KEY = "SECRET__"


@dataclass
class Variable:
    """All reads of one name by one part of the code."""

    name: str
    places: list[str] = field(default_factory=list)
    defaults: set[str] = field(default_factory=set)  # what it is without the variable, as far as that is a text
    without_default: str = ""  # the first place that has none
    must: str = ""  # the first place that fails without it
    own_site: bool = False
    splits: bool = False
    made_up: str = ""  # the function that makes a value where there is none
    alternatives: set[str] = field(default_factory=set)  # variables any of which is enough, where all of it is `a or b`
    alone: bool = False  # read somewhere with a default that matters, and without alternatives


def reads(modules: Iterable[Module]) -> dict[str, Variable]:
    found: dict[str, Variable] = {}
    assigned: set[str] = set()
    for module in modules:
        if re.search(r"environ|getenv|[eE]nv\w*\(", module.text):
            _of_module(module, found, assigned)
    for name in assigned & set(found):
        found[name].must = ""
    return found


def _of_module(module: Module, found: dict[str, Variable], assigned: set[str]) -> None:
    chains = {}  # of a read in `a or b or "c"`: that chain
    for node in module.nodes:
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            chains |= {id(call): node for call in _getter_calls(node)}
    fallback = {}  # of a read in a function: whether that function may return OpenMates' own site
    for function in module.functions if _OWN_SITE.search(module.text) else ():
        returned = [module.pattern(node.value) or "" for node in ast.walk(function) if isinstance(node, ast.Return)]
        if any(_OWN_SITE.search(text) for text in returned):
            fallback |= dict.fromkeys(map(id, ast.walk(function)), True)
    for node in module.nodes:
        if isinstance(node, ast.Subscript) and dotted(node.value) in ("os.environ", "environ"):
            name = module.pattern(node.slice)
            if name and isinstance(node.ctx, ast.Load):
                variable = _variable(found, name, module.place(node))
                variable.must = variable.must or module.place(node)
            elif name:
                assigned.add(name)
        elif isinstance(node, ast.Call) and node.args:
            getter = dotted(node.func) in _GETTERS
            helper = not getter and "env" in dotted(node.func).split(".")[-1].lower()
            name = module.pattern(node.args[0]) if getter or helper else None
            if name and _NAME.fullmatch(name):
                variable = _variable(found, name, module.place(node))
                rest = _of_chain(variable, module, node, chains.get(id(node)))
                default = node.args[1] if len(node.args) > 1 else rest
                _add(variable, module, node, default, id(node) in fallback, helper, chains)
    if ".split(" in module.text:
        _mark_lists(module, found)


def _variable(found: dict[str, Variable], name: str, place: str) -> Variable:
    variable = found.setdefault(name, Variable(name))
    variable.places.append(place)
    return variable


def _of_chain(variable: Variable, module: Module, node: ast.Call, chain: ast.BoolOp | None) -> ast.AST | None:
    """What `os.getenv(NAME) or ...` ends with, if that is not another read."""
    if chain is None:
        return None
    names = {module.pattern(call.args[0]) for call in _getter_calls(chain)}
    variable.alternatives |= {name for name in names if name} - {variable.name}
    last = chain.values[-1]
    if isinstance(last, ast.Call) and _MADE_UP.search(dotted(last.func).rsplit(".", 1)[-1]):
        variable.made_up = f"{dotted(last.func)}() at {module.place(node)}"
    return None if last is node or any(call is node for call in _getter_calls(last)) else last


def _add(
    variable: Variable, module: Module, node: ast.Call, default: ast.AST | None, own: bool, helper: bool, chained: dict
) -> None:
    texts = [module.pattern(part) for part in (ast.walk(default) if default is not None else ())]
    text = module.pattern(default)
    if text:
        variable.defaults.add(text)
    elif not helper and (default is None or (isinstance(default, ast.Constant) and default.value is None)):
        variable.without_default = variable.without_default or module.place(node)
    if text and id(node) not in chained:
        variable.alone = True
    empty = not text and not [known for known in texts if known]
    if any(_OWN_SITE.search(known) for known in texts if known) or (own and empty):
        variable.own_site = True


def _mark_lists(module: Module, found: dict[str, Variable]) -> None:
    """Variables whose text is split at commas: directly, or through the name that it is assigned to."""
    holders: dict[str, set[str]] = {}
    for node in module.nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            names = {module.pattern(call.args[0]) for call in _getter_calls(node.value)}
            holders.setdefault(node.targets[0].id, set()).update(name for name in names if name)
    for call in module.calls:
        if not (isinstance(call.func, ast.Attribute) and call.func.attr == "split" and call.args):
            continue
        if module.pattern(call.args[0]) == ",":
            names = {module.pattern(inner.args[0]) for inner in _getter_calls(call.func.value)}
            if isinstance(call.func.value, ast.Name):
                names |= holders.get(call.func.value.id, set())
            for name in names & set(found):
                found[name].splits = True


def _getter_calls(node: ast.AST) -> list[ast.Call]:
    calls = [part for part in ast.walk(node) if isinstance(part, ast.Call)]
    return [call for call in calls if call.args and dotted(call.func) in _GETTERS]


def compare(upstream: Upstream, project: Project) -> Iterator[Finding]:
    yield from _of_part(upstream, project, "api", BACKEND, ("prod", "dev"))
    yield from _of_part(upstream, project, "cms-setup", ("cms-setup",), (project.cms_setup_kind,))
    keys = sorted(name for name in upstream.example if name.startswith(_PROVIDER_KEY))
    if keys:
        yield Finding(
            INFO, "environment/provider-keys", f"{len(keys)} provider keys in .env.example go into Vault, not here",
            "SECRET__<PROVIDER>__<KEY> in .env.example", "secrets.yml of the inventory: openmates_vault_seeds",
        )  # fmt: skip
    unread = [module for part in ("api", "cms-setup") for module in upstream.code(part) if module.unread]
    for module in unread:
        yield Finding(
            NEW, f"environment/unread/{module.path}",
            f"{module.path} cannot be read as Python, so nothing is known of it: {module.unread}",
            module.path, "contract/python_code.py",
        )  # fmt: skip


def _of_part(
    upstream: Upstream, project: Project, part: str, services: tuple[str, ...], kinds: tuple[str, ...]
) -> Iterator[Finding]:
    variables = reads(upstream.code(part))
    ours = {name: [project.environment(name, kind) for kind in kinds] for name in services}
    for name, variable in sorted(variables.items()):
        lacking = [service for service in services if not any(name in values for values in ours[service])]
        declared = {service: upstream.services[service] for service in lacking if service in upstream.services}
        lacking = [service for service in lacking if not _in_image(upstream, project, service, name)]
        if not lacking:
            yield from _of_list(variable, part, ours[services[0]])
            continue
        others = () if variable.alone else variable.alternatives
        enough = [any(other in values for values in ours[services[0]]) for other in others]
        reason, evidence, subjects = _why_needed(upstream, project, variable, declared, lacking)
        if reason and not any(enough) and not name.startswith(_PROVIDER_KEY):
            yield Finding(
                BREAKS, f"environment/{part}/{name}",
                f"{', '.join(subjects)}: {' or '.join([name, *sorted(others)])} is not set: {reason}",
                evidence, _here(part, name),
            )  # fmt: skip
        elif not name.startswith(_PROVIDER_KEY) and len(lacking) == len(services):
            where = ".env.example" if name in upstream.example else "the code alone"
            yield Finding(
                INFO, f"environment/{part}/{name}", name, variable.places[0],
                group=f"optional variables of {part}, named in {where}",
            )  # fmt: skip
    yield from _not_read(upstream, project, part, services, variables, ours)


def _why_needed(
    upstream: Upstream, project: Project, variable: Variable, declared: dict, lacking: list[str]
) -> tuple[str, str, list[str]]:
    """The reason, the evidence and the services that it holds for; an empty reason if nothing breaks."""
    name, first = variable.name, variable.places[0]
    if variable.must:
        return "the code fails without it", variable.must, lacking
    setting = {service: entry for service, entry in declared.items() if name in entry.environment}
    differing = {
        service: entry
        for service, entry in setting.items()
        if entry.environment[name]
        and not optional(entry.environment[name])
        and entry.environment[name] not in variable.defaults
    }
    if differing:
        service, entry = next(iter(differing.items()))
        return "OpenMates' Compose file sets it", f"{entry.file} ({service}), read at {first}", list(differing)
    if variable.made_up:
        return f"without it the code makes one up: {variable.made_up}", first, lacking
    if variable.own_site:
        return f"its default is OpenMates' own site ({_sample(variable)})", first, lacking
    needed = variable.without_default and not variable.defaults
    spared = any(optional(service.environment[name]) for service in setting.values())
    if upstream.example.get(name) and needed and not spared:
        return ".env.example has it, and the code has no default", variable.without_default, lacking
    if _CREDENTIAL.search(name) and any(re.match("[^/]*[A-Za-z]", text) for text in variable.defaults):
        return "without it the code uses a secret that is written in its source", first, lacking
    missing = sorted(set(upstream.services) - set(project.known_services))
    for text in sorted(variable.defaults):
        host = re.match(r"\w+://([\w.-]+)", text)
        if host and host[1] in missing:
            return f"its default is a service that this stack does not have ({text})", first, lacking
    if any(text.lower() in _ON for text in variable.defaults) and not _NUMBER.search(name):
        return f"its default switches something on ({_sample(variable)})", first, lacking
    words = {text.lower() for text in variable.defaults if re.fullmatch(r"[A-Za-z]+", text)}
    if len(words) > 1:
        return f"its default differs between places of the code ({', '.join(sorted(words))})", first, lacking
    return "", "", []


def _sample(variable: Variable) -> str:
    return next((text for text in sorted(variable.defaults) if text), "through the function's fallback")


def _in_image(upstream: Upstream, project: Project, service: str, name: str) -> bool:
    ours = project.services(project.cms_setup_kind).get(service)
    return ours is not None and name in upstream.image_environment(ours.image)


def _of_list(variable: Variable, part: str, environments: list[dict[str, str]]) -> Iterator[Finding]:
    """A list that has some of the frontends in it has to have them all."""
    for values in environments:
        value = values.get(variable.name, "")
        absent = [frontend for frontend in FRONTENDS if frontend not in value]
        if variable.splits and absent and len(absent) < len(FRONTENDS):
            yield Finding(
                BREAKS, f"environment/{part}/{variable.name}/list",
                f"{part}: {variable.name} is a list of origins, and not every frontend is in it",
                variable.places[0], _here(part, variable.name),
            )  # fmt: skip
            return


def _not_read(
    upstream: Upstream,
    project: Project,
    part: str,
    services: tuple[str, ...],
    variables: dict[str, Variable],
    ours: dict,
) -> Iterator[Finding]:
    own = {"HOME", "PATH", "PYTHONPATH"}
    for name in sorted({name for service in services for values in ours[service] for name in values} - own):
        if name not in variables and not name.endswith("_FILE") and name not in project.programs:
            note = ", though OpenMates' Compose file has it too" if _declared(upstream, services, name) else ""
            yield Finding(
                INFO, f"environment/{part}/{name}/unread", f"{part}: {name} is set here, and no code reads it{note}",
                "", _here(part, name),
            )  # fmt: skip


def _declared(upstream: Upstream, services: tuple[str, ...], name: str) -> bool:
    return any(name in upstream.services[service].environment for service in services if service in upstream.services)


def _here(part: str, name: str) -> str:
    if name and _CREDENTIAL.search(name):
        return f"roles/settings/defaults/main/services.yml: openmates_services['{part}'].secrets"
    return f"{COMPOSE}: {'x-backend' if part == 'api' else part}.environment"

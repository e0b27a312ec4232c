"""Routes: the health path that we probe, and what must not be reachable from the internet."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from contract.findings import BREAKS, INFO, Finding
from contract.project import COMPOSE, Project
from contract.python_code import Module, dotted
from contract.upstream import Upstream

_METHODS = {"get", "post", "put", "patch", "delete", "head", "api_route", "route"}
# What OpenMates guards with one shared token, or not at all.
_NOT_PUBLIC = re.compile(r"^/(internal|metrics)(/|$)")
_APPLICATION = "backend/core/api/"  # Apps have applications of their own, which nothing routes to
_CADDYFILE = "roles/caddy/templates/Caddyfile.j2"


@dataclass(frozen=True)
class Route:
    path: str
    place: str
    redirect: str = ""  # where it leads to
    limit: str = ""  # how often one client may ask


def routes(modules: Iterable[Module]) -> dict[str, Route]:
    found: dict[str, Route] = {}
    # An application's own routes first: a router's prefix may come from where it is included, and is not known here.
    for module in sorted(modules, key=lambda module: "FastAPI(" not in module.text):
        if not re.search(r"APIRouter|FastAPI|\.mount\(|@app\.", module.text):
            continue
        prefixes = {}
        for node in module.nodes:
            made = node.value if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else None
            if made and dotted(made.func).endswith("APIRouter"):
                prefix = next((module.pattern(word.value) for word in made.keywords if word.arg == "prefix"), "")
                prefixes |= {target.id: prefix or "" for target in node.targets if isinstance(target, ast.Name)}
        for call in module.calls:
            path = module.pattern(call.args[0]) if dotted(call.func).endswith(".mount") and call.args else None
            if path and path.startswith("/"):
                found.setdefault(path, Route(path, module.place(call)))
        for function in module.functions:
            for route in _of_function(module, function, prefixes):
                found.setdefault(route.path, route)
    return found


def _of_function(module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef, prefixes: dict) -> Iterator[Route]:
    paths, limit = [], ""
    for decorator in function.decorator_list:
        if not (isinstance(decorator, ast.Call) and decorator.args):
            continue
        name, text = dotted(decorator.func), module.pattern(decorator.args[0])
        owner, _, verb = name.rpartition(".")
        if verb == "limit":
            limit = text or ""
        elif verb in _METHODS and text is not None:
            paths.append(prefixes.get(owner, "") + text)
    redirect = ""
    only_redirects = paths and len(function.body) <= 2 and "RedirectResponse" in module.text
    for call in [node for node in ast.walk(function) if isinstance(node, ast.Call)] if only_redirects else ():
        if dotted(call.func).endswith("RedirectResponse"):
            values = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "url")]
            redirect = next((module.pattern(value) or "elsewhere" for value in values), "elsewhere")
    for path in paths:
        yield Route(path, module.place(function), redirect, limit)


def probes(project: Project) -> dict[str, tuple[str, str]]:
    """Who asks the api whether it is well: the path, and where that is set here."""
    found = {}
    for path in re.findall(r"^\s*health_uri\s+(\S+)", project.caddyfile, re.MULTILINE)[:1]:
        found["Caddy"] = path, "playbooks/group_vars/all/roles.yml: caddy_api_site.health_path"
    for path in re.findall(r"\b8000\s*(/[\w/.-]*)", project.known_services["api"].healthcheck):
        found["the container's health check"] = path, f"{COMPOSE}: api.healthcheck"
    return found


def compare(upstream: Upstream, project: Project) -> Iterator[Finding]:
    known = routes(module for module in upstream.code("api") if module.path.startswith(_APPLICATION))
    caddy = project.caddyfile
    for prober, (path, here) in probes(project).items():
        route = known.get(path)
        if route is None:
            yield Finding(BREAKS, f"routes{path}", f"{prober} asks for {path}, which the api does not have", "", here)
        elif route.redirect:
            problem = f"{prober} asks for {path}, which only leads to {route.redirect}"
            yield Finding(BREAKS, f"routes{path}", problem, route.place, here)
            route = known.get(route.redirect)
        apart = re.search(r"health_headers\s*\{[^}]*X-Forwarded-For", caddy)
        if route and route.limit and prober == "Caddy" and not apart:
            yield Finding(
                BREAKS, f"routes{route.path}/limit",
                f"{route.path} is limited to {route.limit} per client address, and Caddy's probe shares the gateway's: "
                "once that is used up, Caddy takes the api for dead and every visitor gets 503",
                route.place, f"{_CADDYFILE}: health_headers",
            )  # fmt: skip
    yield from _hidden(known, caddy)
    health = sorted(path for path in known if re.fullmatch(r"(/v\d+)?/(health|ready|readiness|livez|readyz)", path))
    yield Finding(INFO, "routes/health", f"health routes: {', '.join(health) or 'none'}", "", "openmates_health_path")


def _hidden(known: dict[str, Route], caddy: str) -> Iterator[Finding]:
    hidden = {path for line in re.findall(r"^\s*@hidden path (.*)$", caddy, re.MULTILINE) for path in line.split()}
    roots: dict[str, Route] = {}
    for path, route in sorted(known.items()):
        match = _NOT_PUBLIC.match(path)
        if match:
            roots.setdefault(f"/{match[1]}", route)
    for root, route in roots.items():
        if root not in hidden or f"{root}/*" not in hidden:
            yield Finding(
                BREAKS, f"routes{root}", f"{root} can be reached from the internet",
                route.place, "playbooks/group_vars/all/roles.yml: caddy_api_site.hidden_paths",
            )  # fmt: skip

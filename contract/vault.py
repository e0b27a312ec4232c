"""Vault: what OpenMates' code asks of it, what OpenMates' own policies allow, and what ours allow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from contract.findings import BREAKS, INFO, Finding
from contract.project import POLICIES, Project
from contract.python_code import Module, dotted
from contract.upstream import Upstream

Rules = dict[str, set[str]]  # capabilities by path pattern
_RULE = re.compile(r'path\s+"([^"]+)"\s*\{\s*capabilities\s*=\s*\[([^\]]*)\]', re.DOTALL)
_PATH = re.compile(r"(?:^|/v1/)((?:sys/(?!health|seal-status|init)|kv/|transit/|auth/token/)[\w*+/.-]+)$")
_BY_METHOD = {
    "get": {"read"},
    "list": {"list"},
    "delete": {"delete"},
    "post": {"create", "update"},
    "put": {"create", "update"},
}
SETUP = "backend/core/vault/setup/"


def rules(text: str) -> Rules:
    """Path patterns with their capabilities, of HCL or of any text that holds HCL."""
    found: Rules = {}
    for path, capabilities in _RULE.findall(re.sub(r"(?m)(^|\s)(#|//).*$", "", text)):
        found.setdefault(path, set()).update(re.findall(r'"(\w+)"', capabilities))
    return found


def allowed(path: str, policies: Rules) -> set[str]:
    """Capabilities on a path: those of the most specific pattern that matches, as Vault decides it."""

    def matches(pattern: str) -> bool:
        text = re.escape(pattern).replace(r"\+", "[^/]+")
        return bool(re.fullmatch(text.removesuffix(r"\*") + (".*" if pattern.endswith("*") else ""), path))

    def specific(pattern: str) -> tuple:
        return (not pattern.endswith("*"), -pattern.count("+"), len(pattern))

    best = max(filter(matches, policies), key=specific, default=None)
    return policies[best] if best else set()


def needs(modules: Iterable[Module]) -> dict[tuple[str, str], str]:
    """(path, capability) with the first place that asks for it. Parts of a path that are not known are `*`."""
    found: dict[tuple[str, str], str] = {}
    for module in modules:
        if not re.search("kv/|transit|sys/|auth/token", module.text):
            continue
        for call in module.calls:
            verb = dotted(call.func).split(".")[-1].lower()
            texts = [module.pattern(value) for value in [*call.args, *(keyword.value for keyword in call.keywords)]]
            method = next((text for text in texts[:1] if text and text.lower() in _BY_METHOD), verb)
            for text in texts:
                match = _PATH.search(text or "")
                for capability in _capabilities(method.lower(), match[1]) if match else ():
                    found.setdefault((match[1], capability), module.place(call))
    return found


def _capabilities(method: str, path: str) -> set[str]:
    if path.endswith("lookup-self"):
        return {"read"}
    if path.endswith(("-self", "/rotate")) or re.match(r"transit/(encrypt|decrypt|hmac|sign|verify|rewrap)/", path):
        return {"update"}
    if method in _BY_METHOD:
        return _BY_METHOD[method]
    return {"create", "update"} if re.match(r"(store|write|put|set|save)_", method) else {"read"}


def compare(upstream: Upstream, project: Project) -> Iterator[Finding]:
    ours = rules("\n".join(project.policies.values()))
    theirs = rules("\n".join(upstream.tree.load(path) for path in upstream.tree.under(SETUP, suffix=".py")))
    asked = needs(upstream.code("api"))
    lacking: dict[tuple[str, str], dict[str, str]] = {}
    for (path, capability), place in asked.items():
        if capability not in allowed(path.replace("*", "any"), ours):
            lacking.setdefault((path, "read" if capability in ("read", "list") else "write"), {})[capability] = place
    for (path, kind), capabilities in sorted(lacking.items()):
        yield Finding(
            BREAKS, f"vault/{path}/{kind}", f"the api's token may not {', '.join(sorted(capabilities))} {path}",
            next(iter(capabilities.values())), f"{POLICIES}/{_policy_for(path, project)}",
        )  # fmt: skip
    for path, capabilities in sorted(theirs.items()):
        reported = {name for (lacked, _), names in lacking.items() if lacked == path for name in names}
        missing = capabilities - allowed(path.replace("*", "any"), ours) - reported
        if missing:
            yield Finding(
                INFO, f"vault/{path}/wider",
                f"OpenMates' policy also allows {', '.join(sorted(missing))} on {path}; no code asks for it",
                SETUP, f"{POLICIES}/{_policy_for(path, project)}",
            )  # fmt: skip


def _policy_for(path: str, project: Project) -> str:
    kind = "encryption" if re.match(r"transit/|sys/mounts/transit", path) else "service"
    files = [name.rsplit("/", 1)[-1] for name in project.policies]
    return next((name for name in files if kind in name), files[0] if files else "")

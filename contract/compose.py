"""A Compose file's services as plain data, the same for OpenMates' files and for ours."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import yaml

_INTERPOLATION = re.compile(r"\$\{(\w+)(?::?([-?+])([^{}]*))?\}")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Fast where it can be. Knows Compose's own tags (!reset, !override) only so far as not to fail on them."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


@dataclass
class Service:
    name: str
    file: str
    image: str = ""
    user: str = ""
    command: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    env_file: bool = False
    volumes: dict[str, str] = field(default_factory=dict)  # source by target
    tmpfs: list[str] = field(default_factory=list)
    stop_seconds: float = 10  # Docker's own
    without_capabilities: bool = False
    read_only: bool = False
    healthcheck: str = ""

    def mount_of(self, path: str) -> str:
        """The target of the mount that holds a path, the innermost one; empty if the image itself does."""
        targets = [*self.volumes, *self.tmpfs]
        holding = [target for target in targets if path == target or path.startswith(target.rstrip("/") + "/")]
        return max(holding, key=len, default="")


def load(text: str) -> dict:
    return yaml.load(text, _Loader) or {}  # noqa: S506 - _Loader is a SafeLoader


def services(text: str, file: str) -> dict[str, Service]:
    document = load(text)
    return {name: _service(name, file, data or {}) for name, data in (document.get("services") or {}).items()}


def _service(name: str, file: str, data: dict) -> Service:
    volumes = {}
    for volume in data.get("volumes") or []:
        if isinstance(volume, dict):
            volumes[volume.get("target", "")] = volume.get("source", "")
        else:
            parts = str(volume).split(":")
            volumes[parts[1] if len(parts) > 1 else parts[0]] = parts[0] if len(parts) > 1 else ""
    tmpfs = data.get("tmpfs") or []
    return Service(
        name=name,
        file=file,
        image=data.get("image", ""),
        user=str(data.get("user", "")),
        command=_words(data.get("command")),
        environment=_environment(data.get("environment")),
        env_file=bool(data.get("env_file")),
        volumes=volumes,
        tmpfs=[str(entry).split(":")[0] for entry in ([tmpfs] if isinstance(tmpfs, str) else tmpfs)],
        stop_seconds=seconds(str(data.get("stop_grace_period", "10s"))),
        without_capabilities="ALL" in (data.get("cap_drop") or []),
        read_only=bool(data.get("read_only")),
        healthcheck=_words((data.get("healthcheck") or {}).get("test")),
    )


def _words(value: object) -> str:
    return " ".join(str(part) for part in value) if isinstance(value, list) else str(value or "")


def _environment(value: object) -> dict[str, str]:
    if isinstance(value, list):
        pairs = [str(entry).partition("=") for entry in value]
        return {name: content if separator else f"${{{name}}}" for name, separator, content in pairs}
    return {name: "" if content is None else _scalar(content) for name, content in (value or {}).items()}


def _scalar(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def seconds(text: str) -> float:
    """Compose's durations: 15s, 1m30s, 500ms."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|[smh])", text)) or 0.0


def filled(text: str) -> str:
    """With every variable's default in its place, and nothing where there is none."""
    return _INTERPOLATION.sub(lambda match: match[3] if match[2] == "-" and match[3] else "", text)


def optional(value: str) -> bool:
    """Whether a deployment can do without it: a variable that has a default in the Compose file."""
    match = _INTERPOLATION.fullmatch(value)
    return match is not None and match[2] == "-"


def repository(image: str) -> str:
    """`directus` of `registry/directus/directus:11.5`: what the image is, wherever it comes from."""
    return re.sub(r"(@|:[^/]*$).*", "", filled(image)).rsplit("/", 1)[-1]


def tag(image: str) -> str:
    return filled(image).split("@")[0].rpartition(":")[2] if ":" in filled(image).rsplit("/", 1)[-1] else ""

# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text files of metrics, which Prometheus' node exporter and monitoring read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

try:
    from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically
except ImportError:  # on the host it is beside this package
    from atomic import write_atomically


def text(prefix: str, samples: Mapping[str, tuple[float | None, str]]) -> str:
    """The samples, each with its value and its meaning; those without a value are left out."""
    lines, described = [], set()
    for name, (value, meaning) in samples.items():
        if value is not None:
            metric = f"{prefix}_{name.partition('{')[0]}"
            if metric not in described:  # once, however many labels it has
                lines += [f"# HELP {metric} {meaning}", f"# TYPE {metric} gauge"]
                described.add(metric)
            lines.append(f"{prefix}_{name} {int(value) if float(value).is_integer() else value}")
    return "".join(f"{line}\n" for line in lines)


def write(directory: Path, prefix: str, samples: Mapping[str, tuple[float | None, str]], name: str = "") -> None:
    """Replace the file of that name, by default the prefix, as a whole. Raises OSError."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(directory / f"{name or prefix}.prom", text(prefix, samples).encode(), 0o644)

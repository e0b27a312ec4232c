# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text files of metrics, which Prometheus' node exporter and monitoring read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

try:
    from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically
except ImportError:  # on the host it is beside this file
    from atomic import write_atomically

#: Names, with their labels if they have any, each with its value and its meaning. One without a value is left out.
Samples = Mapping[str, tuple[float | None, str]]


def text(prefix: str, samples: Samples) -> str:
    """The samples as Prometheus reads them. A name that ends in _total is a counter, any other a gauge."""
    lines, described = [], set()
    for name, (value, meaning) in samples.items():
        if value is not None:
            metric = f"{prefix}_{name.partition('{')[0]}"
            if metric not in described:  # once, however many labels it has
                kind = "counter" if metric.endswith("_total") else "gauge"
                lines += [f"# HELP {metric} {meaning}", f"# TYPE {metric} {kind}"]
                described.add(metric)
            lines.append(f"{prefix}_{name} {int(value) if float(value).is_integer() else value}")
    return "".join(f"{line}\n" for line in lines)


def labelled(metric: str, /, **labels: object) -> str:
    """The name of a sample with labels, whose values may be any text."""
    pairs = (f'{label}="{_escaped(str(value))}"' for label, value in labels.items())
    return f"{metric}{{{','.join(pairs)}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def write(directory: Path, prefix: str, samples: Samples, name: str = "") -> None:
    """Replace the file of that name, by default the prefix, as a whole. Raises OSError."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(directory / f"{name or prefix}.prom", text(prefix, samples).encode(), 0o644)

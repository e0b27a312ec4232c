# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secret files of the services."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping


def secret_files(services: Mapping[str, Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """Each secret of each service as ``{path, content, owner}``, for the user that the service runs as.

    Raises ``KeyError`` for a service whose secrets could not be evaluated.
    """
    return [
        {"path": f"{name}/{secret}", "content": content, "owner": service["user"].partition(":")[0]}
        for name, service in services.items()
        for secret, content in service["secrets"].items()
    ]

# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secret files of the services."""

from __future__ import annotations

import base64
import json
import typing as t
from collections.abc import Mapping

#: Below the directory of secrets, where no service is called so; roles/stack/files/pull.py reads it.
LOGINS = ".docker/config.json"
#: The name of Docker Hub in a configuration of Docker.
DOCKER_HUB = "https://index.docker.io/v1/"
_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")


def secret_files(services: Mapping[str, Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """Each secret of each service as ``{path, content, owner}``, for the user that the service runs as.

    Raises ``KeyError`` for a service whose secrets could not be evaluated.
    """
    return [
        {"path": f"{name}/{secret}", "content": content, "owner": service["user"].partition(":")[0]}
        for name, service in services.items()
        for secret, content in service["secrets"].items()
    ]


def registry_login_files(logins: Mapping[str, Mapping[str, str]]) -> list[dict[str, t.Any]]:
    """The file of Docker's that holds logins of registries, for root alone; none without logins."""
    auths = {
        DOCKER_HUB if registry in _HUB_NAMES else registry: {
            "auth": base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
        }
        for registry, login in sorted(logins.items())
    }
    return [{"path": LOGINS, "content": json.dumps({"auths": auths}) + "\n", "owner": "0"}] if auths else []

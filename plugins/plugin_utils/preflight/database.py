# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database: whether its image can read the data that the server has."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.openmates.server.plugins.module_utils.postgres_data import UNKNOWN
from ansible_collections.openmates.server.plugins.plugin_utils.preflight.run import Preflight
from ansible_collections.openmates.server.plugins.plugin_utils.services.catalogue import field

SERVICE = "cms-database"
#: The images of later versions keep the data at another path than the one that the Compose file mounts.
LAST_MAJOR = 17
THE_WAY = "docs/directus.md, *Another version of PostgreSQL*, shows how to dump the database and restore it"


def major(reference: str) -> str:
    """The major version of an image of PostgreSQL by its tag, empty if the tag does not tell."""
    found = re.search(r"(?:^|/)postgres:v?(\d+)(?![\w])", reference.partition("@")[0])
    return found[1] if found else ""


def check_database_version(run: Preflight) -> Iterator[str]:
    """By the tag; where it does not tell, the role directus asks the image before any container is replaced."""
    reference = str(run.services.get(SERVICE, {}).get("image", ""))
    name, image, data = field(SERVICE, "image"), major(reference), str(run.host.get("database_version", ""))
    if image and int(image) > LAST_MAJOR:
        yield run.problem(
            name,
            f"{reference} is PostgreSQL {image}, whose image keeps its data at another path",
            f"Use a version of PostgreSQL {LAST_MAJOR}",
        )
    elif data == UNKNOWN:
        yield run.host_problem(
            "the volume of the database, openmates-postgres-data, holds files that are not a database of PostgreSQL",
            "`sudo ls $(sudo docker volume inspect --format '{{.Mountpoint}}' openmates-postgres-data)` lists them:"
            " move them elsewhere, or restore a backup into the volume",
        )
    elif image and data and image != data:
        yield run.problem(
            name,
            f"{reference} is PostgreSQL {image}, and the data on this server is of PostgreSQL {data}, which no other"
            " major version can read",
            f"Set it to a version of PostgreSQL {data}. To change the version, {THE_WAY}",
        )


CHECKS = (check_database_version,)

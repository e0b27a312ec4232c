# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that derive something from the services; the documentation of each is beside this file."""

from __future__ import annotations

from ansible_collections.openmates.server.plugins.plugin_utils.services import (
    compose_values,
    images,
    memory,
    ports,
    secrets,
)


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        return {
            "compose_value": compose_values.compose_value,
            "directus_value": compose_values.directus_value,
            "go_memory_limit": memory.go_memory_limit,
            "image": images.at_registry,
            "port_names": ports.port_names,
            "registry_login_files": secrets.registry_login_files,
            "registry_hosts": images.registry_hosts,
            "secret_files": secrets.secret_files,
            "upstreams": ports.upstreams,
        }

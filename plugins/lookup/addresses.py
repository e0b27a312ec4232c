# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The IP addresses of names, as this machine resolves them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: addresses
short_description: The IPv4 and IPv6 addresses that names lead to
version_added: 0.1.0
author: The openmates.server contributors
description:
  - Resolves each name on the controller, as its programs do, and returns all addresses, IPv4 first, each once. An
    address is returned as it is. It fails for a name that leads nowhere.
  - A lookup of our own because C(community.general.dig) needs a Python package that Ansible does not bring.
options:
  _terms:
    description: Names and addresses.
    required: true
"""

EXAMPLES = r"""
- name: Show where a name leads
  ansible.builtin.debug:
    msg: "{{ query('openmates.server.addresses', 'api.example.com') }}"
"""

RETURN = r"""
_raw:
  description: The addresses.
  type: list
  elements: str
"""

import socket

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """Asks the system's resolver."""

    def run(self, terms, variables=None, **kwargs):
        found = []
        for name in terms:
            try:
                answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                raise AnsibleError(f"{name} leads nowhere: {error}. Correct the name, or its DNS records") from None
            found += sorted({(family == socket.AF_INET6, where[0]) for family, _, _, _, where in answers})
        return list(dict.fromkeys(address for _, address in found))

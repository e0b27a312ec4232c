# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the directus_* modules' documentation has in common; module_utils/directus.py has the same as argument spec."""

from __future__ import annotations


class ModuleDocFragment:
    """The connection."""

    DOCUMENTATION = r"""
options:
  url:
    description: Base URL of Directus, as the host reaches it.
    type: str
    required: true
  email:
    description: Email address of the administrator.
    type: str
    required: true
  password:
    description: The administrator's password.
    type: str
    required: true
  deadline:
    description: Seconds to wait for Directus to answer.
    type: int
    default: 60
"""

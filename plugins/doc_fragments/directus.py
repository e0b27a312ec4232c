# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that the directus_* modules share; module_utils/directus/api.py has their argument spec."""

from __future__ import annotations


class ModuleDocFragment:
    """The connection."""

    DOCUMENTATION = r"""
options:
  url:
    description: Base URL of Directus on the host.
    type: str
    required: true
  email:
    description: Email address of an account with an administrator's rights and without a second factor.
    type: str
    required: true
  password:
    description: The password of that account.
    type: str
    required: true
  deadline:
    description: Seconds to wait for Directus to answer.
    type: int
    default: 60
"""

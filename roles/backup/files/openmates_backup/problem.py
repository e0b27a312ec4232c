# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why something was not done."""

from __future__ import annotations


class Problem(Exception):
    """One or two sentences for an operator: what is wrong, where it is set, what to do. Without any secret."""


class NotReady(Problem):
    """What is needed may still be starting, as after a boot."""

# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work on both servers of playbooks/import.yml: see docs/move.md."""

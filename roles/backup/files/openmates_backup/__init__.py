# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backs up what holds the server's state, as one snapshot of restic: see docs/backup.md. Standard library only."""

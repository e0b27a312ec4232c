#!/usr/bin/env python3
"""Writes the generated pages: docs/settings.md, docs/hardening.md, the variables in the roles' READMEs and the table of
faults in docs/outages.md.

Run it after a change of a role's defaults, argument specs or meta/hardening.yml. A unit test fails if a page is stale.
"""

from __future__ import annotations

from pathlib import Path

from generator.outputs import write

if __name__ == "__main__":
    names = write(Path(__file__).resolve().parents[1])
    print(f"Written: {', '.join(names)}" if names else "All generated pages are up to date.")

#!/usr/bin/env python3
"""Builds the website of all documentation: docs/website.py MKDOCS FOLDER. `make docs` calls it.

A link that leads nowhere, and anything that a page would load from another host, is an error.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from generator import search
from generator.website import loaded_from_elsewhere, stage


def main(mkdocs: Path, folder: Path) -> int:
    stage(Path(__file__).resolve().parents[1], folder)
    # Without --quiet, which hides warnings from --strict.
    command = [mkdocs, "build", "--strict", "--clean", "--config-file", folder / "mkdocs.yml"]
    if code := subprocess.run(command).returncode:
        return code
    site = folder / "site"
    search.extend(site / "search/search_index.json")
    if found := loaded_from_elsewhere(site):
        print("Loaded from another host:", *found, sep="\n", file=sys.stderr)
        return 1
    print(f"Written: {site}/index.html")
    print(f"With search: python3 -m http.server --bind 127.0.0.1 --directory {site}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} MKDOCS FOLDER")
    sys.exit(main(*map(Path, sys.argv[1:])))

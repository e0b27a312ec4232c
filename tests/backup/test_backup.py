"""A backup of a real database, cache and Vault, stored by the genuine restic."""

from __future__ import annotations

import hashlib
import json

from conftest import Backup


def test_one_backup(backup: Backup) -> None:
    result = backup.make()
    print(json.dumps(result, indent=1))
    opened = backup.restic()
    manifest = json.loads(opened.dump("latest", str(backup.config.staging / "manifest.json")))
    print(json.dumps(manifest, indent=1))
    print(backup.metrics())
    print(opened.call("ls", "latest")[1])

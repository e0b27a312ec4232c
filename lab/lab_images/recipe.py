"""What an image depends on, as a hash: it is made again only when that changes."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import ssl
from collections.abc import Iterable
from pathlib import Path

from lab_images import LAB, LabError
from lab_images.catalogue import Image

#: What a checkout or a run leaves behind and no image depends on.
IGNORED = {"__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".DS_Store"}
#: Where Debian keeps what it trusts, as one file; Python's own default there is a folder.
_SYSTEM = "/etc/ssl/certs/ca-certificates.crt"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def authorities(bundle: Path | None = None, public: Path = Path("/usr/share/ca-certificates")) -> dict[str, str]:
    """The controller's own certificate authorities, PEM by fingerprint.

    bundle: default SSL_CERT_FILE, else the system's.
    public: folder with what Debian ships, and so the base image has already; those are left out.
    """
    path = bundle or Path(os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or _SYSTEM)
    if not path.is_file():
        return {}

    def fingerprints(text: str) -> dict[str, str]:
        return {
            hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()[:16]: pem + "\n"
            for pem in _CERTIFICATE.findall(text)
        }

    known = {key for file in public.rglob("*.crt") for key in fingerprints(file.read_text(errors="replace"))}
    found = fingerprints(path.read_text(encoding="utf-8", errors="replace"))
    return {key: found[key] for key in sorted(found) if key not in known}


def _hash_folder(digest: hashlib._Hash, folder: Path) -> None:
    if not folder.is_dir():
        raise LabError(f"{folder} is missing")
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        if file.is_file() and not IGNORED.intersection(parts) and file.suffix != ".pyc":
            mode = file.stat().st_mode & 0o111
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{'/'.join(parts)}\0{mode}\0{content}\n".encode())


def recipe_hash(
    row: Image, rows: dict[str, Image], extra: Iterable[str], lab: Path = LAB, machine: str = platform.machine()
) -> str:
    """Twelve hex digits that change whenever the image would: recipe, context, row, parent, processor, authorities.

    extra: what counts for images without a parent besides their recipe, such as the fingerprints of authorities.
    machine: the processor that the image is for, as uname names it.
    """
    digest = hashlib.sha256(f"{row}\n".encode())
    _hash_folder(digest, lab / "images" / row.recipe)
    if row.context:
        _hash_folder(digest, lab / row.context)
    if row.parent:
        digest.update(recipe_hash(rows[row.parent], rows, extra, lab, machine).encode())
    else:
        digest.update("\n".join([machine, *extra]).encode())
    return digest.hexdigest()[:12]

"""What the lab's registry holds."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request

from lab_images import LabError


def registry_path(image: str) -> str:
    """Path and tag under which a private registry keeps a catalogue image: its name without a registry host."""
    first, slash, rest = image.partition("/")
    if not slash:
        return f"library/{image}"
    return rest if "." in first or ":" in first or first == "localhost" else image


def in_registry(registry: str, path: str) -> str | None:
    """Id of the image that the registry holds under path (name:tag), or None. Raises LabError if it does not answer."""
    name, _, tag = path.rpartition(":")
    # The lab registry's certificate is for its name, not for the loopback address; Docker trusts loopback just so.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    request = urllib.request.Request(f"https://{registry}/v2/{name}/manifests/{tag}", headers={"Accept": accept})
    try:
        with opener.open(request, timeout=10) as answer:
            return json.load(answer).get("config", {}).get("digest")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise LabError(f"the registry on {registry} answers {error.code} for {path}") from None
    except (urllib.error.URLError, OSError) as error:
        raise LabError(f"no registry answers on {registry}: {error}") from None

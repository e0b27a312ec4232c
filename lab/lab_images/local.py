"""The images of a lab host's inventory: a developer's own are offered, and what was rebuilt is pulled again."""

from __future__ import annotations

from lab_images import LabError
from lab_images.catalogue import Image
from lab_images.engine import docker, image_id
from lab_images.registry import in_registry, registry_path

PUSH_TIMEOUT = 900


def push(reference: str, identity: str, registry: str, below: str = "") -> bool:
    """Put the local image into the registry under its own path; False if the registry holds it already.

    below: a folder of the registry, for the images of another processor, whose paths and tags are the same.
    """
    path = f"{below}/{registry_path(reference)}" if below else registry_path(reference)
    if in_registry(registry, path) == identity:
        return False
    target = f"{registry}/{path}"
    docker("tag", identity, target)
    result = docker("push", "--quiet", target, timeout=PUSH_TIMEOUT)
    docker("rmi", "--no-prune", target)
    if result.returncode:
        raise LabError(f"push of {reference} to {target} failed: {result.stderr.strip()}")
    return True


def offer(references: list[str], rows: dict[str, Image], registry: str) -> dict[str, str]:
    """Push every image that the local engine has and no row names, and return the ids of all images by reference.

    Raises LabError for an image that neither the local engine nor the registry has.
    """
    ours = {row.image for row in rows.values()}
    found: dict[str, str] = {}
    for reference in sorted(set(references)):
        identity = None if reference in ours else image_id(reference)
        if identity:
            if push(reference, identity, registry):
                print(f"{reference}: pushed from the local Docker engine", flush=True)
        else:
            identity = in_registry(registry, registry_path(reference))
        if not identity:
            raise LabError(
                f"{reference}: neither the local Docker engine nor the lab's registry has it. Build it "
                f"(docker build --tag {reference} ...), or correct the image in the inventory or after -e"
            )
        found[reference] = identity
    return found


def refresh(host: str, images: dict[str, str], registry_name: str) -> list[str]:
    """Pull again what the lab host already has of these images under another id; return the references.

    host: the lab host's container. A host without a running engine pulls the current images anyway.
    """
    pulled = []
    for reference, identity in images.items():
        target = f"{registry_name}/{registry_path(reference)}"
        has = docker("exec", host, "docker", "image", "inspect", "--format", "{{.Id}}", target)
        if has.returncode == 0 and has.stdout.strip() != identity:
            result = docker("exec", host, "docker", "pull", "--quiet", target, timeout=PUSH_TIMEOUT)
            if result.returncode:
                raise LabError(f"{host}: pull of {target} failed: {result.stderr.strip()}")
            pulled.append(reference)
    return pulled

"""The Docker engine, by way of its client."""

from __future__ import annotations

import os
import subprocess


def docker(*arguments: str, timeout: float = 600, **options) -> subprocess.CompletedProcess:
    """Run the Docker client. timeout: seconds. Raises TimeoutExpired; the exit code is the caller's to judge."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    options = {"capture_output": True, "text": True, **options}
    return subprocess.run(["docker", *arguments], timeout=timeout, env=environment, check=False, **options)


def image_id(reference: str) -> str | None:
    """The local image's id (sha256:...), or None."""
    result = docker("image", "inspect", "--format", "{{.Id}}", reference)
    return result.stdout.strip() if result.returncode == 0 else None

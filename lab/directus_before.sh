#!/bin/sh
# Builds the earlier Directus that the upgrade is proven from, on the present one's image. Quick when it is there.
set -eu
recipe="$(cd "$(dirname "$0")" && pwd)/images/directus-before"
tag="openmates-lab/directus-before:latest"
parent="$(docker image inspect --format '{{.Id}}' openmates-lab/directus:latest)"
digest="$(cat "$recipe"/* | sha256sum | cut -c1-12)-$(echo "$parent" | cut -c8-19)"
built="$(docker image inspect --format '{{index .Config.Labels "org.openmates.lab.recipe"}}' "$tag" 2>/dev/null || true)"
if [ "$built" = "$digest" ]; then exit 0; fi
echo "building $tag"
DOCKER_BUILDKIT=0 docker build --quiet --tag "$tag" --label "org.openmates.lab.recipe=$digest" \
  --build-arg PARENT=openmates-lab/directus:latest --build-arg PYTHON=openmates-lab/python:latest "$recipe"

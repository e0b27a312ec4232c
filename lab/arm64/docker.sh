#!/bin/sh
# Makes the disk for an ARM machine's Docker data, with the images that it would pull. site.yml pulls what has changed since.
#
# Usage: docker.sh DIRECTORY CAPABILITIES IMAGE...
# DIRECTORY has ca.crt and gets docker.raw. CAPABILITIES: those of a lab host, with commas between them.
set -eu
state=$1
capabilities=$2
shift 2
here="$(cd "$(dirname "$0")" && pwd)"
data="$state/docker"
rm -rf "$data" "$state/docker.raw"
mkdir -m 0710 "$data"
DOCKER_BUILDKIT=0 docker build --quiet --network host --build-arg PARENT=openmates-lab/host:latest \
  --tag openmates-lab/arm64-docker:latest "$here/docker"
# shellcheck disable=SC2046 # a list of words is wanted
docker run --rm --cap-drop all $(echo "$capabilities" | tr , '\n' | sed 's/^/--cap-add=/') \
  --security-opt seccomp=unconfined --security-opt apparmor=unconfined --cgroupns private --network openmates-lab \
  --tmpfs /run:exec,mode=755 --volume "$data:/var/lib/docker" \
  --volume "$state/ca.crt:/usr/local/share/ca-certificates/openmates-lab.crt:ro" openmates-lab/arm64-docker:latest "$@"
rm -rf "$data/containers" "$data/network" "$data/engine-id"
mke2fs -q -t ext4 -L docker -d "$data" "$state/docker.part" 40G
rm -rf "$data"
mv "$state/docker.part" "$state/docker.raw"

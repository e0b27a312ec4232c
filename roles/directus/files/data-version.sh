#!/bin/sh
# Fails if the image that a database is about to get cannot read the data in its volume. Nothing is changed; the image is
# pulled if the host lacks it.
#   data-version.sh PROJECT SERVICE VOLUME DATA
# DATA: where the Compose file mounts the volume.
# The reason is on standard output: Ansible's `script` has the standard error of a terminal there too.
set -eu
exec 2>&1
project=$1 service=$2 volume=$3 data=$4

command -v docker > /dev/null && [ -e "$project/docker-compose.yml" ] || exit 0
docker volume inspect "$volume" > /dev/null 2>&1 || exit 0

cd "$project"
image=$(docker compose --ansi=never config --images "$service")
[ ! -e secrets/.docker/config.json ] || export DOCKER_CONFIG="$PWD/secrets/.docker" # as for all pulls
# An image that cannot be pulled is reported, with all others, before services are started.
docker image inspect "$image" > /dev/null 2>&1 || docker pull --quiet "$image" > /dev/null 2>&1 || exit 0

# shellcheck disable=SC2016 # for the shell in the container
found=$(docker run --rm --network none --read-only --user 0:0 --cap-drop ALL --cap-add DAC_READ_SEARCH \
  --volume "$volume:/volume:ro" --entrypoint sh "$image" -c \
  'echo "$(postgres --version | sed "s/.*PostgreSQL) \([0-9]*\).*/\1/") $PGDATA $(cat /volume/PG_VERSION 2> /dev/null)"') || {
  echo "$image, the image of $service, is no image of PostgreSQL. See openmates_services.$service.image."
  exit 1
}
# shellcheck disable=SC2086 # three words, the last of which may be missing
set -- $found
if [ "$2" != "$data" ]; then
  echo "$image, the image of $service, keeps its data in $2 instead of $data, where it would not be kept. Set" \
    "openmates_services.$service.image to a version of PostgreSQL ${3:-17}. Nothing was replaced."
  exit 1
elif [ -n "${3-}" ] && [ "$1" != "$3" ]; then
  echo "$image, the image of $service, is PostgreSQL $1, and the data in the volume $volume is of PostgreSQL $3, which no" \
    "other major version can read. Set openmates_services.$service.image to a version of PostgreSQL $3. To change the" \
    "version, docs/directus.md shows how to dump the database and restore it. Nothing was replaced."
  exit 1
fi

#!/bin/sh
# Dumps Directus's database before a change, with the pg_dump of its own container, and prints the dump's path; nothing
# where there is no data yet. An incomplete dump is not kept. Older dumps are removed only after a new one is complete.
#   backup.sh PROJECT SERVICE VOLUME DIRECTORY KEEP NAME [SERVICE-TO-STOP ...]
# NAME is a part of the file's name, the time if it is empty. Services that are stopped stay stopped.
set -eu
umask 077
project=$1 service=$2 volume=$3 directory=$4 keep=$5 name=${6:-$(date -u +%Y%m%dT%H%M%SZ)}
shift 6

command -v docker > /dev/null && [ -e "$project/docker-compose.yml" ] || exit 0
docker volume inspect "$volume" > /dev/null 2>&1 || exit 0

dump="$directory/directus-$name.dump"
trap 'code=$?; rm -f "$dump.part"; [ $code = 0 ] || echo "The database was not backed up, so it is not changed." >&2' EXIT
cd "$project"
# What Compose says is shown only if it fails: on a terminal, as Ansible's `script` has one, it would be taken for a path.
quietly() {
  said=$("$@" 2>&1) || { echo "$said"; return 1; } >&2
}
inside() {
  program=$1
  shift
  docker compose --ansi=never exec --no-TTY "$service" "$program" -U directus -d directus "$@" < /dev/null
}
# The existing container, even if the Compose files changed; no other service depends on it yet.
quietly docker compose --ansi=never up --detach --no-deps --no-recreate --wait "$service"
tables=$(inside psql -Atqc "select count(*) from information_schema.tables where table_schema = 'public'")
[ "$tables" != 0 ] || exit 0
[ $# = 0 ] || quietly docker compose --ansi=never stop "$@"

mkdir -p "$directory"
chmod 700 "$directory"
inside pg_dump --format=custom > "$dump.part"
sync "$dump.part"
mv "$dump.part" "$dump"
sync "$directory"
# A dump of a failed attempt has no time in its name and is overwritten by the next attempt.
ls "$directory"/*-[0-9]*Z.dump 2> /dev/null | head -n "-$((keep > 0 ? keep : 1))" | while read -r old; do rm "$old"; done
echo "$dump"

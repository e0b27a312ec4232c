#!/bin/bash
# Sets the database up so that a kill at any moment of it does no harm, and becomes the image's own entrypoint.
#
# initdb writes PG_VERSION among its first files, and the image's entrypoint takes that file for a finished database: a
# container killed in its first seconds would leave a volume that no later start completes. So the set-up happens in a
# directory of its own inside the volume, and moves into place when it is complete, PG_VERSION last. From then on this
# script changes nothing: a directory with PG_VERSION that holds anything a user made is left as it is.
set -euo pipefail

data=$PGDATA
draft=$data/.first-start
aside=$data/.incomplete
shopt -s nullglob dotglob

log() { echo "cms-database: $*" >&2; }

# Whether a server was ever asked to store something: PostgreSQL numbers what it makes itself below 16384, and everything
# later from there on. A database, a table, an index or a table space that a user made has such a number.
holds_user_data() {
  local path name
  # A directory that cannot be read proves nothing, least of all that it is empty.
  [ ! -e "$data/base" ] || { [ -r "$data/base" ] && [ -x "$data/base" ]; } || return 0
  for path in "$data"/base/* "$data"/base/*/* "$data"/pg_tblspc/*; do
    name=${path##*/}
    name=${name%%[._]*}
    [[ $name =~ ^[0-9]+$ ]] && [ "$name" -ge 16384 ] && return 0
  done
  return 1
}

# A database without the one that Directus uses, and without anything else of a user: an image's set-up that was cut off
# before this script existed. It is kept aside, not removed.
if [ -s "$data/PG_VERSION" ] && ! holds_user_data; then
  if [ -e "$aside" ]; then
    log "the set-up in $data was cut off, and so was an earlier one, which $aside still holds." \
      "Look into both, remove $aside and start the container again."
    exit 1
  fi
  log "the set-up in $data was cut off before it made a database: moving what it left to $aside and starting anew"
  mkdir -m 0700 "$aside.moving" 2>/dev/null || true
  # PG_VERSION first: a kill in between leaves a directory without it, which the next start goes on to empty.
  mv "$data/PG_VERSION" "$aside.moving/"
fi
if [ -d "$aside.moving" ]; then
  for path in "$data"/*; do
    [ "$path" = "$aside.moving" ] || mv "$path" "$aside.moving/"
  done
  mv "$aside.moving" "$aside"
fi

if [ ! -s "$data/PG_VERSION" ]; then
  if [ ! -e "$draft/complete" ]; then
    for path in "$data"/*; do
      case $path in "$draft" | "$aside" | "$data/lost+found") continue ;; esac
      log "$data holds ${path##*/}, but no database. Empty the volume, or restore a backup into it."
      exit 1
    done
    rm -rf "$draft"
    mkdir -m 0700 "$draft"
    PGDATA=$draft/data docker-ensure-initdb.sh postgres
    sync
    touch "$draft/complete"
    sync
  fi
  for path in "$draft/data"/*; do
    [ "${path##*/}" = PG_VERSION ] || mv "$path" "$data/"
  done
  sync
  mv "$draft/data/PG_VERSION" "$data/"
  sync
fi
rm -rf "$draft"
exec docker-entrypoint.sh postgres

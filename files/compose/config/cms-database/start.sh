#!/bin/bash
# Creates the database so that a kill at any time is harmless, sets the password of its user when the inventory's has
# changed, and then executes the image's own entrypoint.
#
# initdb writes PG_VERSION among its first files, and the image's entrypoint treats that file as a finished database: a
# container killed in its first seconds would leave a volume that no later start completes. The database is therefore
# created in a separate directory of the volume, and moved into place when it is complete, PG_VERSION last. From then on
# this script sets the password and removes the lock file of a killed container: a directory with PG_VERSION and objects
# of a user is not touched otherwise.
#
# The image reads the password at the first start only. A later one is set by Postgres's single-user mode, which needs no
# former password, before any client can connect. The statement is on standard input and never in the log.
set -euo pipefail

data=$PGDATA
draft=$data/.first-start
aside=$data/.incomplete
secret=$POSTGRES_PASSWORD_FILE
mark=$data/.password # its time is that of the password that was set last
shopt -s nullglob dotglob

log() { echo "cms-database: $*" >&2; }

# Whether the database has objects of a user: PostgreSQL's own objects have numbers below 16384, and databases, tables,
# indexes and table spaces of users have higher ones.
holds_user_data() {
  local path name
  # A directory that cannot be read may have objects.
  [ ! -e "$data/base" ] || { [ -r "$data/base" ] && [ -x "$data/base" ]; } || return 0
  for path in "$data"/base/* "$data"/base/*/* "$data"/pg_tblspc/*; do
    name=${path##*/}
    name=${name%%[._]*}
    [[ $name =~ ^[0-9]+$ ]] && [ "$name" -ge 16384 ] && return 0
  done
  return 1
}

# Neither Directus's database nor other objects of a user: a set-up by the image, interrupted before this script
# existed. It is moved aside, not removed.
if [ -s "$data/PG_VERSION" ] && ! holds_user_data; then
  if [ -e "$aside" ]; then
    log "the set-up in $data was cut off, and so was an earlier one, which $aside still holds." \
      "Look into both, remove $aside and start the container again."
    exit 1
  fi
  log "the set-up in $data was cut off before it made a database: moving what it left to $aside and starting anew"
  mkdir -m 0700 "$aside.moving" 2>/dev/null || true
  # PG_VERSION first: a kill in between leaves a directory without it, which the next start continues to empty.
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
    touch -r "$secret" "$draft/data/${mark##*/}"
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

# site.yml refuses such an image before it replaces this container; Postgres's own message would not name the remedy.
[[ $(postgres --version) =~ PostgreSQL\)\ ([0-9]+) ]]
if [ "$(<"$data/PG_VERSION")" != "${BASH_REMATCH[1]}" ]; then
  log "the data in $data is of PostgreSQL $(<"$data/PG_VERSION"), and this image is PostgreSQL ${BASH_REMATCH[1]}, which" \
    "cannot read it. Set openmates_services.cms-database.image to a version of the former, and run site.yml."
  exit 1
fi

# Postgres does not start while a process with the number in its lock file runs. The file of a container that was killed
# has a number of that container, which here can be that of a health check.
[ $$ != 1 ] || rm -f "$data/postmaster.pid"

if [ ! -e "$mark" ] || [ "$secret" -nt "$mark" ] || [ "$secret" -ot "$mark" ]; then
  log "the password in the inventory has changed: setting it"
  password=$(<"$secret")
  quote=\'
  # Standard input only: a failing statement would be logged with the password.
  postgres --single -D "$data" -c exit_on_error=on -c log_min_error_statement=panic -c log_statement=none \
    -c log_min_duration_statement=-1 postgres >/dev/null \
    <<<"alter role \"$POSTGRES_USER\" password $quote${password//$quote/$quote$quote}$quote" || {
    log "the password could not be set, for the reason above. Run site.yml again; the data is as it was."
    exit 1
  }
  touch -r "$secret" "$mark"
fi
exec docker-entrypoint.sh postgres

#!/bin/bash
# Creates the database cluster on first start, then becomes the server. Installed under two names:
# docker-entrypoint.sh does that, docker-ensure-initdb.sh only the first part.
#
# POSTGRES_USER (postgres), POSTGRES_DB (the user's name), POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE (one is required
# on first start), PGDATA. They count on first start only.
#
# As careless as upstream's: the cluster is made in place, and a directory with PG_VERSION, which initdb writes among its
# first files, counts as finished for ever. A container killed in its first seconds is lost with its volume.
set -euo pipefail

fail() { echo "postgres entrypoint: $*" >&2; exit 1; }

only_initialise=
if [ "${0##*/}" = docker-ensure-initdb.sh ]; then
  only_initialise=yes
  [ "${1:-}" = postgres ] || set -- postgres "$@"
fi
[ "${1:-}" = postgres ] || exec "$@"

pg_user="${POSTGRES_USER:-postgres}"
pg_database="${POSTGRES_DB:-$pg_user}"

# Before the user changes: postgres may not be allowed to read it.
if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
  POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
  export POSTGRES_PASSWORD
  unset POSTGRES_PASSWORD_FILE
fi

mkdir -p "$PGDATA"
chmod 0700 "$PGDATA" || true
chmod 03775 /var/run/postgresql || true
if [ "$(id -u)" = 0 ]; then
  find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres '{}' +
  exec setpriv --reuid=postgres --regid=postgres --clear-groups -- "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password="${POSTGRES_PASSWORD:-}"
  [ -n "$password" ] || fail "set POSTGRES_PASSWORD_FILE (or POSTGRES_PASSWORD) to a non-empty password"
  echo "postgres entrypoint: making the cluster (user $pg_user, database $pg_database)"
  initdb --pgdata="$PGDATA" --username="$pg_user" --pwfile=<(printf '%s\n' "$password") \
    --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 >/dev/null
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start >/dev/null
  if [ "$pg_database" != postgres ]; then
    psql --username="$pg_user" --dbname=postgres --no-psqlrc -v ON_ERROR_STOP=1 --set db="$pg_database" \
      --quiet <<< 'CREATE DATABASE :"db";'
  fi
  for script in /docker-entrypoint-initdb.d/*.sh; do
    [ ! -e "$script" ] || . "$script"
  done
  pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
  echo "postgres entrypoint: the cluster is made"
elif [ -z "$only_initialise" ]; then
  echo "postgres entrypoint: $PGDATA has a PG_VERSION, so nothing is set up"
fi
unset POSTGRES_PASSWORD
[ -z "$only_initialise" ] || exit 0
exec "$@"

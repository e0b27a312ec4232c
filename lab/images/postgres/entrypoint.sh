#!/bin/bash
# Creates the database cluster on first start, then becomes the server.
#
# POSTGRES_USER (postgres), POSTGRES_DB (the user's name), POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE (one is required
# on first start). They count on first start only.
set -euo pipefail

fail() { echo "postgres entrypoint: $*" >&2; exit 1; }

[ "${1:-}" = postgres ] || exec "$@"

# Where a cluster is made. It becomes the data directory only when complete, PG_VERSION last, so that a container killed
# at any moment of its first start leaves nothing that looks like a finished cluster.
draft="$PGDATA/.initialising"
pg_user="${POSTGRES_USER:-postgres}"
pg_database="${POSTGRES_DB:-$pg_user}"

if [ "$(id -u)" = 0 ]; then
  install -d -m 0700 -o postgres -g postgres "$PGDATA"
  [ "$(stat -c %u "$PGDATA")" = 70 ] || chown -R postgres:postgres "$PGDATA"
  install -d -m 0775 -o postgres -g postgres /var/run/postgresql
  password="${POSTGRES_PASSWORD:-}"
  if [ ! -s "$PGDATA/PG_VERSION" ] && [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
    [ -s "$POSTGRES_PASSWORD_FILE" ] || fail "POSTGRES_PASSWORD_FILE=$POSTGRES_PASSWORD_FILE is missing or empty"
    password=$(cat "$POSTGRES_PASSWORD_FILE")
  fi
  # The password goes on by pipe: root may read its file, the user postgres may not, and no environment shows it.
  exec 3< <(printf '%s' "$password")
  unset POSTGRES_PASSWORD
  exec setpriv --reuid=postgres --regid=postgres --clear-groups -- "$0" "$@"
fi

make_draft() {
  rm -rf "$draft"
  local password
  if { true <&3; } 2>/dev/null; then
    password=$(cat <&3)
  else
    # Started as postgres by `--user`: nobody was there to read the file as root.
    password="${POSTGRES_PASSWORD:-}"
    [ -z "${POSTGRES_PASSWORD_FILE:-}" ] || password=$(cat "$POSTGRES_PASSWORD_FILE")
  fi
  [ -n "$password" ] || fail "set POSTGRES_PASSWORD_FILE (or POSTGRES_PASSWORD) to a non-empty password"
  initdb --pgdata="$draft" --username="$pg_user" --pwfile=<(printf '%s\n' "$password") \
    --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 >/dev/null
  echo 'host all all all scram-sha-256' >> "$draft/pg_hba.conf"
  echo "listen_addresses = '*'" >> "$draft/postgresql.conf"
  if [ "$pg_database" != postgres ]; then
    printf 'CREATE DATABASE "%s"\n' "${pg_database//\"/\"\"}" |
      postgres --single -j -D "$draft" postgres >/dev/null
  fi
  sync
  touch "$draft/.complete"
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  if [ ! -e "$draft/.complete" ]; then
    stray=$(find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name .initialising ! -name lost+found -print -quit)
    [ -z "$stray" ] || fail "$PGDATA holds $stray but no finished cluster; empty the volume or restore a backup"
    echo "postgres entrypoint: making the cluster (user $pg_user, database $pg_database)"
    make_draft
  fi
  find "$draft" -mindepth 1 -maxdepth 1 ! -name PG_VERSION ! -name .complete -exec mv -t "$PGDATA" {} +
  sync
  mv "$draft/PG_VERSION" "$PGDATA/PG_VERSION"
fi
rm -rf "$draft"
exec 3<&-
unset POSTGRES_PASSWORD
exec "$@"

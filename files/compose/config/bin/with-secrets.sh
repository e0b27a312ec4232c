#!/bin/sh
# Passes the files of /run/secrets to a program that reads its secrets from the environment.
# Compose's own `environment:` would show them to any user who can run `docker inspect`.
set -eu
for file in /run/secrets/*; do
  # Assigned first: `export` would hide an unreadable file, and the program would start with an empty secret.
  value=$(cat "$file")
  export "${file##*/}=$value"
done
exec "$@"

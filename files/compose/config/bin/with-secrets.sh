#!/bin/sh
# Hands the files of /run/secrets to a program that reads its secrets from the environment.
# Compose's own `environment:` would show them to everybody who can run `docker inspect`.
set -eu
for file in /run/secrets/*; do
  export "${file##*/}=$(cat "$file")"
done
exec "$@"

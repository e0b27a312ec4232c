#!/bin/sh
# Hands /data over and drops to user dfly when started as root, as Dragonfly's image does.
set -eu
case "${1:-}" in -*) set -- dragonfly "$@" ;; esac
if [ "$1" = dragonfly ] && [ "$(id -u)" = 0 ]; then
  find /data ! -user dfly -exec chown dfly:dfly {} +
  exec setpriv --reuid=dfly --regid=dfly --clear-groups -- "$@"
fi
exec "$@"

#!/bin/sh
# Hands /data over and drops to user dfly when started as root, as Dragonfly's image does.
set -eu
# Only a command line of flags alone gets --logtostderr; one that names the program is taken as it is.
case "${1:-}" in -*) set -- dragonfly --logtostderr "$@" ;; esac
if [ "$1" = dragonfly ] && [ "$(id -u)" = 0 ]; then
  find /data ! -user dfly -exec chown dfly:dfly {} +
  exec setpriv --reuid=dfly --regid=dfly --clear-groups -- "$@"
fi
umask 0077
exec "$@"

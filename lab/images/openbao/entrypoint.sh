#!/bin/sh
# `server ...` runs the server on the mounted configuration as user openbao; any other command line is bao's own, or a
# program's. Starts as root only to hand the data directory over.
set -eu

case "${1:-}" in
  server)
    shift
    set -- bao server -config=/openbao/config "$@"
    ;;
  -*) set -- bao "$@" ;;
  bao) ;;
  '') set -- bao version ;;
  *)
    # A bare subcommand such as `status`, told apart from a program by bao itself knowing its help.
    if ! command -v "$1" >/dev/null 2>&1 && bao "$1" --help >/dev/null 2>&1; then set -- bao "$@"; fi
    ;;
esac

if [ "$1" = bao ] && [ "$(id -u)" = 0 ]; then
  for directory in /openbao/file /openbao/logs; do
    [ "$(stat -c %u "$directory")" = 100 ] || chown -R openbao:openbao "$directory"
  done
  export HOME=/openbao
  exec setpriv --reuid=openbao --regid=openbao --init-groups -- "$@"
fi
exec "$@"

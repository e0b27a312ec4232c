#!/bin/sh
# `server ...` runs the server on the mounted configuration as user openbao; any other command line is bao's own, or a
# program's.
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

# As upstream's: without SKIP_CHOWN it tries to own its folders and only reports a failure; without SKIP_SETCAP it gives the
# program the right to lock memory, and ends where it may not.
if [ "$1" = bao ] && [ -z "${SKIP_CHOWN:-}" ]; then
  for directory in /openbao/config /openbao/logs /openbao/file; do
    [ "$(stat -c %u "$directory")" = 100 ] || chown -R openbao:openbao "$directory" ||
      echo "Could not chown $directory (may not have appropriate permissions)"
  done
fi
if [ "$1" = bao ] && [ -z "${SKIP_SETCAP:-}" ]; then
  capabilities=$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)
  if [ $((0x$capabilities >> 31 & 1)) = 0 ]; then
    echo "unable to set CAP_SETFCAP effective capability: Operation not permitted" >&2
    exit 1
  fi
fi

if [ "$1" = bao ] && [ "$(id -u)" = 0 ]; then
  export HOME=/openbao
  exec setpriv --reuid=openbao --regid=openbao --init-groups -- "$@"
fi
exec "$@"

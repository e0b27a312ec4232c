#!/usr/bin/dumb-init /bin/sh
# Behaves as the entry point of the hashicorp/vault image does, where it succeeds and where it fails.
#
#   server ...           vault server on the configuration in /vault/config
#   a subcommand, -...   vault with that command line
#   anything else        a program of the image
#
# VAULT_LOCAL_CONFIG   JSON to add to the configuration; its directory must be writable
# SKIP_CHOWN           do not take ownership of the directories; otherwise they must belong to vault or be root's to change
# SKIP_SETCAP          do not give the binary the right to lock memory; otherwise this needs root and CAP_SETFCAP
set -e
ulimit -c 0
config=/vault/config

if [ -n "$VAULT_REDIRECT_INTERFACE$VAULT_CLUSTER_INTERFACE" ]; then
  echo "The lab's image does not support VAULT_REDIRECT_INTERFACE and VAULT_CLUSTER_INTERFACE: set the addresses." >&2
  exit 1
fi
[ -z "$VAULT_LOCAL_CONFIG" ] || printf '%s\n' "$VAULT_LOCAL_CONFIG" > "$config/local.json"

case "$1" in
  server)
    shift
    set -- vault server "-config=$config" "-dev-root-token-id=$VAULT_DEV_ROOT_TOKEN_ID" \
      "-dev-listen-address=${VAULT_DEV_LISTEN_ADDRESS:-0.0.0.0:8200}" "$@"
    ;;
  -* | version) set -- vault "$@" ;;
  # Vault ends with the same code whether it knows the subcommand or not; its help shows the difference.
  *) if vault --help "$1" 2>&1 | grep -q "vault $1"; then set -- vault "$@"; fi ;;
esac

if [ "$1" = vault ]; then
  if [ -z "$SKIP_CHOWN" ]; then
    for directory in "$config" /vault/logs /vault/file; do
      [ "$(stat -c %u "$directory")" != "$(id -u vault)" ] || continue
      # Only the configuration may be read-only.
      chown -R vault:vault "$directory" || [ "$directory" = "$config" ]
    done
  fi
  if [ -z "$SKIP_SETCAP" ]; then
    binary=$(readlink -f "$(command -v vault)")
    setcap cap_ipc_lock=+ep "$binary"
    if ! vault -version > /dev/null 2>&1; then
      echo "This container may not lock memory (CAP_IPC_LOCK), so Vault runs without." >&2
      setcap cap_ipc_lock=-ep "$binary"
    fi
  fi
  if [ "$(id -u)" = 0 ]; then
    export HOME=/home/vault
    exec setpriv --reuid=vault --regid=vault --init-groups -- "$@"
  fi
fi
exec "$@"

#!/bin/sh
# Succeeds when the api's token works. The argument is the command-line client of the engine: vault or bao.
set -eu
cli=$1
export VAULT_ADDR=http://vault:8200 BAO_ADDR=http://vault:8200
VAULT_TOKEN=$(cat /vault-data/api.token)
export VAULT_TOKEN BAO_TOKEN="$VAULT_TOKEN"
"$cli" token lookup >/dev/null || {
  echo "Vault refuses the token in /vault-data/api.token: run site.yml, which issues a new one." >&2
  exit 1
}
echo "Vault is unsealed and the api's token works."

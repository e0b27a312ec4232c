#!/bin/sh
# Usage: vault-setup.sh ADDRESS. Succeeds if Vault at that address accepts the api's token.
#
# Over HTTP, because Vault's command-line client needs more memory than this service's limit; and through nc,
# because wget accepts a header only as an argument, which other users of the host can read.
set -eu
host=$1 port=8200
token=$(cat /vault-data/api.token)

# nc exits when Vault closes the connection. Its input stays open until then: Vault cancels a request whose client
# closes it.
trap '' PIPE # otherwise a failed nc would end this script before its message
mkfifo /tmp/request
nc -w 10 "$host" "$port" </tmp/request >/tmp/answer &
exec 3>/tmp/request
printf 'GET /v1/auth/token/lookup-self HTTP/1.0\r\nHost: %s\r\nX-Vault-Token: %s\r\n\r\n' "$host" "$token" >&3 || true
wait $! || {
  echo "Vault does not answer at $host:$port." >&2
  exit 1
}
read -r _ status _ </tmp/answer || status=none
case $status in
  200) echo "Vault is unsealed and accepts the api's token." ;;
  403)
    echo "Vault refuses the token in /vault-data/api.token: run site.yml, which issues a new one." >&2
    exit 1
    ;;
  *)
    echo "Vault answers $status to a look-up of the api's token. 503: it is sealed; site.yml unseals it." >&2
    exit 1
    ;;
esac

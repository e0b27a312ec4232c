#!/bin/sh
# Sets the administrator's password when the inventory's changed, and then executes the image's own start script.
#
# Grafana reads its password setting only at the first start, when it creates the administrator. A later change of the
# secret would have no effect, without an error. Grafana's program gets the password on standard input, so that no
# argument list shows it. A password that the administrator changed in Grafana stays until the secret changes.
set -eu
secret=/run/secrets/ADMIN_PASSWORD
mark=$GF_PATHS_DATA/.admin-password # its time is that of the last password change

if [ -e "$GF_PATHS_DATA/grafana.db" ] && { [ ! -e "$mark" ] || [ "$secret" -nt "$mark" ]; }; then
  echo "grafana: the administrator's password in the inventory has changed: setting it" >&2
  grafana cli --homepath "$GF_PATHS_HOME" admin reset-admin-password --password-from-stdin <"$secret" >/dev/null || {
    echo "grafana: the administrator's password could not be set. Run site.yml again; if this stays, look at the" \
      "lines above and at openmates_grafana_password in secrets.yml." >&2
    exit 1
  }
fi
touch -r "$secret" "$mark"
exec /run.sh "$@"

#!/bin/sh
# Gives the administrator the password of the inventory when that has changed, and becomes the image's own start script.
#
# Grafana reads its password setting at the first start only, when it makes the administrator. Later a changed secret would
# have no effect, without an error. The password goes to Grafana's own program by standard input, so no argument list
# shows it. A password that the administrator changed in Grafana stays until the secret changes.
set -eu
secret=/run/secrets/ADMIN_PASSWORD
mark=$GF_PATHS_DATA/.admin-password # as old as the last password that was set

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

#!/bin/sh
# Tells where to look in a provisioned lab host. The argument is the environment: prod or dev.
set -eu
case $1 in
  prod)
    cat <<'TEXT'

prod1 is a production server at 198.51.100.11 and 2001:db8:51::11. From this machine:
  the api      curl --cacert .lab/acme-root.crt --resolve api.prod1.example.test:443:198.51.100.11 https://api.prod1.example.test/v1/health
TEXT
    ;;
  dev)
    cat <<'TEXT'

dev1 is a development server at 198.51.100.12 and 2001:db8:51::12. From this machine:
  the api      http://localhost:8000/v1/health
  Directus     http://localhost:8055
  Grafana      http://localhost:3001   (a stand-in, see the table above)
  frontends    http://localhost:5173 and :5174 may call the api
TEXT
    ;;
esac
cat <<TEXT
  a shell      ssh -F .lab/ssh_config ${1}1
  the secrets  .venv/bin/ansible-vault view inventories/lab/group_vars/lab/secrets.yml
  verify       .venv/bin/ansible-playbook playbooks/verify.yml -i inventories/lab --limit ${1}1
  once more    .venv/bin/ansible-playbook site.yml -i inventories/lab --limit ${1}1
TEXT

#!/bin/sh
# Prepares what the lab and its Molecule scenarios need: a Docker engine, the lab's secrets and its images.
# Quick when all is there. `make setup` has to have run.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
export PATH ANSIBLE_CONFIG="$PWD/ansible.cfg"
[ -s .vault-password ] || {
  echo "prepare: there is no .vault-password, with which the lab's secrets are encrypted: run make setup" >&2
  exit 1
}
lab/engine.sh
secrets=inventories/lab/group_vars/lab/secrets.yml
# The playbook adds what a new version needs; without a new version there is nothing to add.
[ "$secrets" -nt plugins/plugin_utils/operator_secrets.py ] || {
  ansible-playbook playbooks/secrets.yml -i inventories/lab
  touch "$secrets"
}
exec python lab/images.py build --no-push

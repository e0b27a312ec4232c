#!/bin/sh
# Makes what an operator without a checkout has, in the directory given: the collection, built and installed, and a project
# that the playbook `new` creates, for the lab host dev1. The lab adds what it adds to inventories/lab, nothing else.
set -eu
directory=$1
root=$(cd "$(dirname "$0")/.." && pwd)
PATH="$root/.venv/bin:$PATH"
export PATH
"$root/lab/prepare.sh"

mkdir -p "$directory"
cd "$directory"
rm -rf collections archive
# Outside of the checkout and without its ansible.cfg, so that nothing of the checkout is found.
unset ANSIBLE_CONFIG ANSIBLE_ROLES_PATH
export ANSIBLE_COLLECTIONS_PATH="$PWD/collections"
ansible-galaxy collection build "$root" --output-path archive
ansible-galaxy collection install --offline --no-deps archive/*.tar.gz --collections-path collections
rm -r archive

[ -e operations/dev ] || ansible-playbook openmates.server.new \
  -e new_directory=operations -e new_environment=dev -e new_host=dev1 -e new_address=198.51.100.12 \
  -e openmates_admin_email=admin@lab.openmates.org \
  -e '{"openmates_frontend_urls": ["http://localhost:5173", "http://localhost:5174"]}'

cd operations
cp "$root/inventories/lab/group_vars/lab/main.yml" dev/group_vars/dev/lab.yml
cp "$root/inventories/lab/group_vars/dev/main.yml" dev/group_vars/dev/lab_dev.yml
mkdir -p directus
cp "$root/inventories/directus/lab.json" directus/dev.json
cat > dev/lab.yml <<YAML
---
ungrouped:
  hosts:
    localhost: {ansible_connection: local} # makes the lab host
lab:
  children:
    dev:
      hosts:
        dev1: {lab_ipv6: "2001:db8:51::12"}
  vars:
    ansible_ssh_private_key_file: "{{ lab_state }}/id_ed25519"
    ansible_ssh_common_args: -o 'UserKnownHostsFile="{{ lab_state }}/known_hosts"' -o StrictHostKeyChecking=yes
    lab_state: "$root/.lab"
YAML

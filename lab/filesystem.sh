#!/bin/sh
# Checks that the file system keeps what the project needs of it: links, permissions, and names as they are. Windows'
# disks in WSL, exFAT, shared folders and Git for Windows do not; Ansible's messages then name something else.
set -eu
cd "$(dirname "$0")/.."
wrong=0

problem() {
  echo "$1" >&2
  wrong=1
}

for link in prod dev group_vars collections/ansible_collections/openmates/server/roles; do
  [ -L "$link" ] || problem "$link is not a link, but must be one. Run \`git config core.symlinks true && git checkout -- prod dev group_vars collections\`, on a file system that has links (in WSL: below ~)."
done
# Ansible ignores an ansible.cfg there, since any user could have written it.
case "$(ls -ld .)" in ????????w*) problem "Any user may write to this directory, so Ansible ignores its ansible.cfg. Run \`chmod o-w .\`; where that has no effect, move the project to a file system that has permissions (in WSL: below ~)." ;; esac
if [ -x .vault-password ]; then
  problem ".vault-password is executable, so Ansible would run it instead of reading it. Run \`chmod 600 .vault-password\`; where that has no effect, move the project to a file system that has permissions (in WSL: below ~)."
fi
exit "$wrong"

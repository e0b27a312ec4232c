#!/bin/sh
# Makes the virtual environment in the directory given, with exactly what a lock file names.
#
# Usage: lab/venv.sh DIRECTORY [LOCK]     default: requirements.lock
set -eu
venv=$1
lock=${2:-requirements.lock}
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Python 3.11 or later is needed; this is $(python3 --version)." >&2
  exit 1
}
# Debian packages it apart from Python.
python3 -c 'import ensurepip' 2>/dev/null || "$(dirname "$0")/apt.sh" "Debian has Python's venv module in a package of its own" python3-venv
# --clear follows a link, and would empty the environment of another checkout.
[ ! -L "$venv" ] || {
  echo "$venv is a link to another environment: remove it, or install $lock there." >&2
  exit 1
}
python3 -m venv --clear "$venv"

install() {
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement "$lock"
}
# pip does not try again when a download breaks off; what came whole is in its cache.
install || install
# Without this, each ansible-playbook compiles itself anew where Python may leave no bytecode (PYTHONDONTWRITEBYTECODE).
# The collections are 15,000 files, of which a run loads a few.
"$venv/bin/python" -m compileall -q -j 0 -x '/(ansible_collections|ansible_test|pip|setuptools)/' "$venv/lib"

#!/bin/sh
# Makes the virtual environment in the directory given, with exactly what requirements.lock names.
set -eu
venv=$1
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Python 3.11 or later is needed; this is $(python3 --version)." >&2
  exit 1
}
if ! python3 -c 'import ensurepip' 2>/dev/null; then
  echo "Installing python3-venv, which Debian packages apart from Python."
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  $sudo apt-get update -qq
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv
fi
python3 -m venv --clear "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement requirements.lock
# Without this, each ansible-playbook compiles itself anew where Python may leave no bytecode (PYTHONDONTWRITEBYTECODE).
# The collections are 15,000 files, of which a run loads a few.
"$venv/bin/python" -m compileall -q -j 0 -x '/(ansible_collections|ansible_test|pip|setuptools)/' "$venv/lib"

#!/bin/sh
# Installs what tests need beside Python: a browser that one of them steers, and GnuPG. Quick when all is there.
set -eu
has() { command -v "$1" >/dev/null 2>&1; }
missing=''
has chromium && has chromedriver || missing="$missing chromium chromium-driver"
has gpg && has gpg-agent || missing="$missing gnupg"
# shellcheck disable=SC2086 # a list of words is wanted
[ -z "$missing" ] || "$(dirname "$0")/apt.sh" $missing

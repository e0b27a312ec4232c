#!/bin/sh
# Installs what some tests need beside Python, and says what for. Quick when it is there.
#
# Usage: lab/test_tools.sh gnupg|browser
set -eu
has() { command -v "$1" >/dev/null 2>&1; }
install() { exec "$(dirname "$0")/apt.sh" "$@"; }
case "${1:-}" in
  gnupg)
    if ! has gpg || ! has gpg-agent; then install "the tests of Vault's unseal shares encrypt them with it" gnupg; fi
    ;;
  browser)
    if ! has chromium || ! has chromedriver; then
      install "a test logs in to Directus with a browser" chromium chromium-driver
    fi
    ;;
  *) echo "usage: lab/test_tools.sh gnupg|browser" >&2; exit 2 ;;
esac

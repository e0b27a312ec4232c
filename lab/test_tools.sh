#!/bin/sh
# Installs what some tests need beside Python, and says what for. Quick when it is there.
#
# Usage: lab/test_tools.sh gnupg|browser|restic
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
  restic) # that of Debian 13, whatever this machine's Debian is: its own would be another version than on servers
    tool="$(cd "$(dirname "$0")/.." && pwd)/.lab/restic"
    if ! "$tool" version >/dev/null 2>&1; then
      echo "restic: taking Debian 13's: the tests of backups store them with it"
      docker run --rm openmates-lab/base:latest sh -c 'exec 3>&1 >&2; apt-get update -qq &&
        apt-get install -y -qq --no-install-recommends restic && cat /usr/bin/restic >&3' > "$tool.new" 2> "$tool.log" ||
        { tail -n 20 "$tool.log" >&2; exit 1; }
      chmod 755 "$tool.new"
      mv "$tool.new" "$tool"
    fi
    ;;
  *) echo "usage: lab/test_tools.sh gnupg|browser|restic" >&2; exit 2 ;;
esac

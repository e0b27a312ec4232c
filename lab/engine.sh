#!/bin/sh
# Makes sure that a Docker engine answers and that the tools with which the lab makes its images and keys are there.
# What is missing is installed from Debian's packages. Safe to run again; quick when all is there.
#
# Usage: lab/engine.sh [SECONDS]     how long to wait for a starting engine; default 60
set -eu

patience="${1:-60}"
case "$patience" in *[!0-9]*) echo "usage: lab/engine.sh [SECONDS]" >&2; exit 2 ;; esac
lab="$(cd "$(dirname "$0")" && pwd)"
state="${lab%/*}/.lab"
log="$state/dockerd.log"

say() { echo "engine: $*"; }
fail() { echo "engine: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
answers() { has docker && timeout 20 docker info >/dev/null 2>&1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif has sudo; then sudo "$@"
  else fail "'$*' needs root: run lab/engine.sh as root, or install sudo"
  fi
}

# start_engine: through systemd where that runs, otherwise as a plain process that outlives this shell.
start_engine() {
  if [ -d /run/systemd/system ]; then
    say "starting Docker through systemd"
    as_root systemctl start docker
  else
    mkdir -p "$state"
    say "starting dockerd in the background, log in $log"
    # The redirection is made by this user, the process by root. Nothing of it holds on to this script's own output.
    as_root setsid --fork dockerd >> "$log" 2>&1 < /dev/null
  fi
}

# wait_for_engine: until it answers, or fails with the reason that its log gives.
wait_for_engine() {
  deadline=$(($(date +%s) + patience))
  shown=$(date +%s)
  until answers; do
    if [ "$(date +%s)" -ge $((shown + 15)) ]; then
      shown=$(date +%s)
      say "waiting for the engine, at most $patience s"
    fi
    if [ "$(date +%s)" -ge "$deadline" ]; then
      if as_root docker info >/dev/null 2>&1; then fail "the engine runs, but $(id -un) may not use it"; fi
      [ ! -s "$log" ] || tail -n 20 "$log" >&2
      fail "no Docker engine answered within $patience s"
    fi
    sleep 0.5
  done
}

missing=''
has mmdebstrap || missing="$missing mmdebstrap"
has openssl || missing="$missing openssl"
has ssh-keygen || missing="$missing openssh-client"
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing="$missing debian-archive-keyring"
# shellcheck disable=SC2086 # a list of words is wanted
[ -z "$missing" ] || "$lab/apt.sh" "the lab makes the root file system of its images and its keys with them" $missing

if ! answers; then
  if has docker && docker info 2>&1 | grep -qi 'permission denied'; then
    fail "the engine runs, but $(id -un) may not use it: add the user to the group docker and log in again"
  fi
  if ! has dockerd; then
    # A client alone may be here already; Debian 13 has its own in a package apart.
    "$lab/apt.sh" "lab hosts are containers, and no Docker engine is installed" docker.io iptables
    has docker || "$lab/apt.sh" "Debian has Docker's client in a package of its own" docker-cli
  fi
  # A package's own scripts, or another run of this one, may have started it a moment ago.
  answers || start_engine
  wait_for_engine
fi
say "Docker $(docker version --format '{{.Server.Version}}') answers"

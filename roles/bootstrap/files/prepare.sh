#!/bin/sh
# Brings a new server to a state in which Ansible's modules work. Runs as root, before there may be a Python, and prints
# what it changed. Each wait ends with the reason after the number of seconds that the first argument gives.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
deadline=$(($(date +%s) + $1))

# Run a command again until it stops failing because another program holds dpkg's or apt's lock.
patiently() {
  until output=$("$@" 2>&1); do
    case "$output" in *"Could not get lock"* | *"s locked by"* | *"Unable to lock"*) ;; *)
      echo "$* failed: $output" >&2
      exit 1
      ;;
    esac
    if [ "$(date +%s)" -ge "$deadline" ]; then
      echo "$* failed: another program has been installing packages all the time. $output" >&2
      exit 1
    fi
    sleep 3
  done
}

# The provider's first boot still installs keys and packages.
if command -v cloud-init >/dev/null; then
  timeout "$1" cloud-init status --wait >/dev/null || case $? in
    124) echo "cloud-init is not done after $1 s: see /var/log/cloud-init-output.log on the server" >&2; exit 1 ;;
  esac # any other status: done, with or without errors of its own
fi

# A reset while packages were installed leaves dpkg's notes behind, and apt refuses to work.
if [ -n "$(ls -A /var/lib/dpkg/updates)" ] || [ -n "$(dpkg --audit)" ]; then
  patiently dpkg --force-confdef --force-confold --configure -a
  echo "changed: completed an interrupted installation of packages"
fi

if ! command -v python3 >/dev/null; then
  patiently apt-get update -qq
  patiently apt-get install -qq --yes --no-install-recommends python3
  echo "changed: installed python3"
fi

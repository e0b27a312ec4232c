#!/bin/sh
# Pulls images for ARM into /var/lib/docker, with an engine of its own, which runs none of them. What an engine stores of
# an image is the same on every processor.
#
# Usage: pull.sh IMAGE...
set -eu
if [ ! -e /.dockerenv ]; then
  echo 'pull: only for a container' >&2
  exit 1
fi
update-ca-certificates > /dev/null
awk '$2 ~ "^/sys/fs/cgroup" { print $2 }' /proc/mounts | while read -r mount; do
  mount -o remount,bind,rw "$mount"
done
dockerd --iptables=false --bridge=none > /var/log/dockerd.log 2>&1 &
engine=$!
deadline=$(($(date +%s) + 60))
until docker info > /dev/null 2>&1; do
  if [ "$(date +%s)" -ge "$deadline" ]; then
    tail -n 20 /var/log/dockerd.log >&2
    exit 1
  fi
  sleep 0.5
done
for image; do docker pull --quiet --platform linux/arm64 "$image"; done
kill "$engine"
wait "$engine" # it fails if the engine has not ended in order: what it has stored may be incomplete

#!/bin/bash
# Succeeds when http://127.0.0.1:PORT/PATH answers 200. Arguments: port, path.
#
# A health check runs every minute, within the memory limit of the service that it checks. This
# one costs 3 ms of CPU and 3 MiB; Python with urllib costs 40 times as much.
#
# The client address is a documentation address: an api that limits requests per client counts the checks separately. No
# proxy between here and the api adds the header, so the api decides whether to use it.
set -eu
exec 3<>"/dev/tcp/127.0.0.1/$1"
printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.2\r\n\r\n' "$2" >&3
read -r _ status _ <&3
[ "$status" = 200 ]

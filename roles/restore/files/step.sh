#!/bin/sh
# One step of a restore, in the background.
exec /usr/local/sbin/openmates-backup restore "$@"

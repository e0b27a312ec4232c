#!/bin/sh
# Succeeds when beat has saved its schedule since this container started, and within the last ten minutes.
#
# Beat saves it when it starts and every three minutes. The volume outlives the container, so a schedule that an earlier
# container saved says nothing about this one: /dev is made anew each time a container starts, and not written to later.
set -eu
find /celerybeat-data -name 'celerybeat-schedule*' -newer /dev -mmin -10 -print -quit | grep -q .

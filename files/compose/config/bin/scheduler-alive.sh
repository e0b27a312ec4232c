#!/bin/sh
# Succeeds when beat has saved its schedule since this container started, and within the last ten minutes.
#
# Beat saves it when it starts and every three minutes. The volume outlives the container, so a schedule of an earlier
# container does not count: /dev is created at each start of a container, and not changed later.
set -eu
find /celerybeat-data -name 'celerybeat-schedule*' -newer /dev -mmin -10 -print -quit | grep -q .

"""The two faults that end a service's main process: SIGKILL, and the kernel's OOM killer."""

from __future__ import annotations

from lab_host import HostError, LabHost

#: Run on the host as root, with a process and its control group's directory. A child joins the group and takes memory
#: up to the group's limit; that process is the kernel's first choice. The parent sees how many processes of the group
#: the kernel has killed for memory, until that process has ended, and prints it.
EATER = """
import contextlib, os, signal, sys, time
pid, group = sys.argv[1], sys.argv[2]
counts = open(next(f for f in (f"{group}/memory.events", f"{group}/memory.oom_control") if os.path.exists(f)))
def kills():
    counts.seek(0)
    return int(dict(line.split() for line in counts)["oom_kill"])
def runs():
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
before = seen = kills()
open(f"/proc/{pid}/oom_score_adj", "w").write("1000")
child = os.fork()
if not child:
    open(f"{group}/cgroup.procs", "w").write(str(os.getpid()))
    held = []
    while runs():
        held.append(b"x" * (1 << 20))
    os._exit(0)
ends = time.monotonic() + 60
running = True
while running and time.monotonic() < ends:
    running = runs()
    with contextlib.suppress(OSError):  # with the container its group ends
        seen = max(seen, kills())
    time.sleep(0.01)
with contextlib.suppress(ProcessLookupError):
    os.kill(child, signal.SIGKILL)
os.wait()
print(seen - before)
"""


class Killed:
    """SIGKILL to the main process from the host. `docker kill` would count as a stop by an operator."""

    lasting = False

    def __init__(self, host: LabHost, service: str) -> None:
        self.host, self.service = host, service
        self.pid = 0

    def prepare(self) -> None:
        self.pid = self.host.main_process(self.service)

    def apply(self) -> None:
        self.host.run(f"kill -KILL {self.pid}")

    def in_force(self) -> bool:
        """Whether that process has ended, for which a large one needs a moment."""
        runs = f"grep -qv ') Z ' /proc/{self.pid}/stat 2> /dev/null"
        ended = f"for i in $(seq 50); do {runs} || exit 0; sleep 0.1; done; exit 1"
        return self.host.shell(ended, check=False).returncode == 0

    def keep(self) -> None:
        """Nothing: it has happened."""

    release = remove = keep


class OutOfMemory(Killed):
    """The memory of the service's control group is used up, and the kernel kills the main process for it."""

    def apply(self) -> None:
        groups = dict(line.split(":", 2)[1:] for line in self.host.run(f"cat /proc/{self.pid}/cgroup").splitlines())
        group = f"/sys/fs/cgroup/memory{groups['memory']}" if "memory" in groups else f"/sys/fs/cgroup{groups['']}"
        done = self.host.shell(f"python3 -Ic '{EATER}' {self.pid} {group}", check=False)
        if not done.stdout.strip().isdigit() or int(done.stdout) < 1:
            raise HostError(f"the kernel has killed no process of {self.service} for memory: {done.stderr[-300:]}")

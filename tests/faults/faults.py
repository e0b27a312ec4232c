"""The two faults: a service's processes are frozen, or its network drops every packet silently."""

from __future__ import annotations

from lab_host import HostError, LabHost


class Frozen:
    """SIGSTOP to every process of a service. The kernel still accepts its connections, but nothing answers."""

    name = "frozen"
    lasting = ends_with_process = True

    def __init__(self, host: LabHost, service: str) -> None:
        self.host, self.service = host, service
        self.stopped: set[int] = set()

    def prepare(self) -> None:
        """Nothing."""

    remove = prepare

    def apply(self) -> None:
        self.stopped |= set(self.host.processes(self.service))
        self._signal("STOP")

    def keep(self) -> None:
        """Nothing: a process that is started meanwhile belongs to the recovery."""

    def in_force(self) -> bool:
        """Whether a process of it is left, and all that are left are stopped."""
        states = self.host.shell(f"cat {' '.join(f'/proc/{pid}/stat' for pid in self.stopped)}", check=False).stdout
        left = states.splitlines()
        return bool(left) and all(line.rpartition(")")[2].split()[0] == "T" for line in left)

    def release(self) -> None:
        self._signal("CONT")

    def _signal(self, name: str) -> None:
        for pid in self.stopped:
            self.host.shell(f"kill -{name} {pid}", check=False)


class CutOff:
    """The host drops every IP packet from and to a service's containers. Unlike `docker network disconnect` this leaves
    names, addresses, routes and open connections as they are: no peer gets an error. ARP passes, as it does in a real
    outage beyond a router; without it the kernel would report "no route to host" at once."""

    name = "cut off"
    lasting, ends_with_process = True, False

    def __init__(self, host: LabHost, service: str) -> None:
        self.host, self.service = host, service
        self.links: set[str] = set()

    def prepare(self) -> None:
        """Nothing."""

    remove = prepare

    def apply(self) -> None:
        for link in self._links() - self.links:
            chains = "".join(
                f'chain {way} {{ type filter hook {way} device "{link}" priority -500; '
                "ether type { ip, ip6 } drop; }; "
                for way in ("ingress", "egress")
            )
            self.host.run(f"nft 'table netdev fault_{link} {{ {chains}}}'")
            self.links.add(link)

    def keep(self) -> None:
        """A restarted container gets another link, and stays disconnected."""
        self.apply()

    def in_force(self) -> bool:
        """Whether an address of the service no longer answers the host."""
        addresses = [
            network["IPAddress"]
            for container in self.host.containers(self.service)
            for network in container["NetworkSettings"]["Networks"].values()
            if network["IPAddress"]
        ]
        return bool(addresses) and all(
            self.host.shell(f"ping -c 1 -W 1 {address}", check=False).returncode for address in addresses
        )

    def release(self) -> None:
        for link in self.links:
            self.host.shell(f"nft delete table netdev fault_{link}", check=False)

    def _links(self) -> set[str]:
        """The host's ends of the links into the service's containers."""
        found = set()
        for container in self.host.containers(self.service):
            pid = container["State"]["Pid"]
            peers = self.host.shell(f"nsenter --target {pid} --net ip -o link show type veth", check=False)
            if not pid or peers.returncode:
                continue  # it is just restarting
            for line in peers.stdout.splitlines():  # 12: eth0@if13: <BROADCAST ...
                name = line.split()[1].rstrip(":")
                number = name.rpartition("@if")[2]
                if not number.isdigit():
                    raise HostError(f"cannot tell the host's end of {name} in a container of {self.service}")
                found.add(self.host.run(f"ip -o link | sed -n 's/^{number}: \\([^@:]*\\)[@:].*/\\1/p'"))
        return found - {""}


FAULTS = {fault.name.replace(" ", "-"): fault for fault in (Frozen, CutOff)}

"""A service killed at a moment of its first start, while site.yml provisions an empty stack."""

from __future__ import annotations

import time

from lab_host import ROOT, STACK, HostError, LabHost

#: Fractions of the first start, from the container's start until it is healthy or, for a one-shot, has ended.
MOMENTS = (0.1, 0.3, 0.5, 0.7, 0.9)
SERVICES = ("vault", "cms-database", "cms-setup", "api")
TAGS = ("--tags", "stack,vault,directus,heal,verify")
PATIENCE = 1800


class TooLateError(HostError):
    """The first start was over before the moment of the kill: this start was faster than the one that was measured."""


def empty(host: LabHost) -> None:
    """Remove all containers and data of the stack, so that its next start is the first."""
    host.shell(f"cd {STACK} && docker compose down --volumes --remove-orphans --timeout 5", timeout=300)
    host.run(f"rm -rf {STACK}/secrets/vault-data /var/lib/openmates/vault-* /etc/credstore.encrypted/openmates-vault-*")
    for file in (ROOT / "inventories/vault-keys/lab").glob(f"{host.name}*.yml"):
        file.unlink()  # keys of a Vault that was removed


def moments(durations: dict[str, float], service: str) -> list[float]:
    """Seconds after the container's start at which it is killed."""
    return [round(durations[service] * fraction, 1) for fraction in MOMENTS]


def measure(host: LabHost) -> dict[str, float]:
    """Provision the empty stack once, undisturbed: how long each service's first start takes."""
    empty(host)
    process = host.playbook("site.yml", *TAGS)
    begun: dict[str, float] = {}
    taken: dict[str, float] = {}
    end = time.monotonic() + PATIENCE
    while process.poll() is None:
        if time.monotonic() > end:
            process.kill()
            raise HostError(f"site.yml did not end within {PATIENCE} s; its output is {process.log}")
        for service in SERVICES:
            if service in taken:
                continue
            for container in host.containers(service, running=False):
                state = container["State"]
                if state["Status"] in ("running", "exited") and state["StartedAt"] > "0002":
                    begun.setdefault(service, time.monotonic())
                healthy = (state.get("Health") or {}).get("Status") == "healthy"
                if healthy or state["Status"] == "exited":
                    taken[service] = time.monotonic() - begun.get(service, time.monotonic())
        time.sleep(0.2)
    if process.returncode:
        raise HostError(f"site.yml failed undisturbed; its output is {process.log}")
    if missing := set(SERVICES) - set(taken):
        raise HostError(f"the first start of {', '.join(sorted(missing))} was not seen")
    return {service: round(max(seconds, 1.0), 1) for service, seconds in taken.items()}


def kill_at(host: LabHost, service: str, seconds: float) -> str:
    """Provision an empty stack, kill the service that many seconds after its container's start, and let the run end.

    If that run failed, run it again. Returns what happened, for the record; raises HostError if the second fails too.
    """
    empty(host)
    process = host.playbook("site.yml", *TAGS)
    try:
        killed = _kill(host, service, seconds, process)
        process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode == 0:
        return f"killed {killed:.1f} s after its start; that run ended green"
    again = host.playbook("site.yml", *TAGS)
    try:
        again.wait(PATIENCE)
    finally:
        if again.poll() is None:
            again.kill()
            again.wait()
    if again.returncode:
        raise HostError(f"killed {killed:.1f} s after its start; the next run failed too: {again.log}")
    return f"killed {killed:.1f} s after its start; that run failed, the next one ended green"


def _kill(host: LabHost, service: str, seconds: float, process) -> float:
    """SIGKILL to the container's first process, from the host, as the kernel's OOM killer would."""
    while not (found := [entry for entry in host.containers(service) if entry["State"]["Pid"]]):
        if process.poll() is not None:
            raise HostError(f"site.yml ended before {service} was started; its output is {process.log}")
        time.sleep(0.1)
    begun = time.monotonic()
    time.sleep(seconds)  # the moment itself, not a wait for something
    current = {entry["Id"]: entry["State"]["Pid"] for entry in host.containers(service)}
    pid = current.get(found[0]["Id"], 0)
    if not pid:
        raise TooLateError(f"{service} was not running {seconds} s after its first start")
    host.run(f"kill -KILL {pid}")
    return time.monotonic() - begun

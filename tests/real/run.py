#!/usr/bin/env python3
"""Prove the stack with the real OpenMates backend, from images that the local Docker engine already has.

How those images are made is not part of this project: see the repository of OpenMates. They are pushed to the lab's
registry under a tag of their own, and the lab host is provisioned with them and no other setting. Cases that passed
with the same images and the same tree are skipped: docs/proofs.md, lab/proofs.py.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))
from lab_host import ROOT, STACK, HostError, LabHost  # isort: skip
import proofs  # isort: skip
from client import Browser, ClientError, new_account  # isort: skip
from logs import judged  # isort: skip

REGISTRY = "127.0.0.1:5443"
INPUTS = ("files", "lab/images", "playbooks", "plugins", "roles", "tests/real", "inventories/lab/group_vars/prod")
STATE = ROOT / ".lab/real"
QUIET_SECONDS = 600
BACKEND = ("api", "task-worker", "task-scheduler")


class Proof:
    """The cases, in order; each raises HostError or ClientError when it fails and returns what the record says."""

    def __init__(self, host: LabHost, api_image: str, setup_image: str) -> None:
        self.host = host
        self.images = {"api": api_image, "cms-setup": setup_image}
        self.identities = {name: self._identity(image) for name, image in self.images.items()}
        self.state = STATE / f"{host.name}.json"
        self.settings: dict[str, object] = {}

    def _identity(self, image: str) -> str:
        found = subprocess.run(
            ["docker", "image", "inspect", "--format", "{{.Id}}", image], capture_output=True, text=True, check=False
        )
        if found.returncode:
            raise HostError(f"the local Docker engine has no image {image}: build or pull it first")
        return found.stdout.strip().removeprefix("sha256:")[:12]

    def remember(self, **values: object) -> None:
        known = json.loads(self.state.read_text()) if self.state.exists() else {}
        self.state.parent.mkdir(parents=True, exist_ok=True)
        self.state.touch(mode=0o600)
        self.state.write_text(json.dumps(known | values))

    def recall(self, name: str) -> dict:
        known = json.loads(self.state.read_text()) if self.state.exists() else {}
        if name not in known:
            raise HostError(f"there is no {name} of an earlier case: run all cases (CASE= empty, AGAIN=1)")
        return known[name]

    def extra(self) -> list[str]:
        """The image names, the only settings of this host that are not in its inventory."""
        names = {"api": "openmates_backend_image", "cms-setup": "openmates_cms_setup_image"}
        return [part for name in names for part in ("-e", f"{names[name]}={self.product_name(name)}")]

    def product_name(self, name: str) -> str:
        return f"ghcr.io/glowingkitty/openmates-{name}:local-{self.identities[name]}"

    def setting(self, name: str) -> object:
        """A setting of this host's inventory, as Ansible evaluates it."""
        if name not in self.settings:
            command = ["ansible", self.host.name, "-i", "inventories/lab", "--playbook-dir", "playbooks"]
            command += ["-m", "ansible.builtin.debug", "-a", f"msg={{{{ {name} }}}}", "-e", "ansible_connection=local"]
            done = subprocess.run(
                [*command, *self.extra()], cwd=ROOT, capture_output=True, text=True, check=False, env=_environment()
            )
            if done.returncode:
                raise HostError(f"{name} cannot be evaluated: {(done.stdout + done.stderr)[-500:]}")
            self.settings[name] = json.loads(done.stdout[done.stdout.index("{") :])["msg"]
        return self.settings[name]

    def browser(self) -> Browser:
        address = str(self.setting("ansible_host"))
        origin, authorities = self.setting("openmates_frontend_urls")[0], str(ROOT / ".lab/acme-root.crt")
        return Browser(str(self.setting("openmates_domain")), address, origin, authorities)

    # ------------------------------------------------------------ cases

    def push(self) -> str:
        """Put the images into the lab's registry, where the host pulls them as it would from the internet."""
        for name, image in self.images.items():
            target = f"{REGISTRY}/glowingkitty/openmates-{name}:local-{self.identities[name]}"
            for command in (["tag", image, target], ["push", "--quiet", target], ["rmi", "--no-prune", target]):
                done = subprocess.run(["docker", *command], capture_output=True, text=True, check=False)
                if done.returncode:
                    raise HostError(f"docker {command[0]} {target}: {done.stderr.strip()[-300:]}")
        return ", ".join(f"{self.images[name]} ({identity})" for name, identity in self.identities.items())

    def provision(self) -> str:
        """site.yml from the host's current state, including verify."""
        empty = not self.host.shell("docker ps --quiet", check=False).stdout.strip()
        output = self.playbook("site.yml")
        return f"site.yml green in {output.seconds:.0f} s, from {'an empty server' if empty else 'what ran before'}"

    def ready(self) -> str:
        self.playbook("playbooks/verify.yml")
        ready, failing = self.host.readiness()
        if not ready:
            raise HostError(f"verify is green and the probe is not: {failing}")
        return "verify green, probe ready"

    def sign_up(self) -> str:
        """A user signs up with the inventory's invite code; the e-mail's code comes from the cache."""
        account, browser, code = new_account(), self.browser(), self.setting("openmates_first_invite_code")
        browser.check_invite_code(code)
        browser.ask_for_email_code(account, code)
        email_code = self._email_code(account["email"])
        browser.confirm_email(account, code, email_code)
        browser.set_up_account(account, code)
        self.remember(account=account, cookies=browser.cookies)
        return "invite code valid; e-mail code made by a Celery task on the queue email; account made"

    def log_in(self) -> str:
        """Log in again; the user name is returned, which the database has only encrypted by Vault."""
        account, browser = self.recall("account"), self.browser()
        stored = self.host.run(
            "cd /opt/openmates && docker compose exec --no-TTY cms-database psql -U directus -d directus -Atqc"
            f" \"select encrypted_username from directus_users where hashed_email = '{account['hashed_email']}'\""
        )
        if not stored.startswith("vault:v") or account["username"] in stored:
            raise HostError(f"the database has the user name as {stored[:30]!r}, not encrypted by Vault")
        name = browser.log_in(account)
        if name != account["username"]:
            raise ClientError(f"the login answers with the user name {name!r}, not {account['username']!r}")
        name = browser.session(account)
        if name != account["username"]:
            raise ClientError(f"the session is of {name!r}, not of {account['username']!r}")
        self.remember(cookies=browser.cookies)
        return "login and session valid; the user name read back is encrypted by Vault in the database"

    def second_run(self) -> str:
        """A second run changes nothing, and the session outlives it."""
        output = self.playbook("site.yml")
        recap = next(line for line in output.text.splitlines() if "unreachable=" in line)
        if "changed=0 " not in recap:
            raise HostError(f"the second run changed something: {recap}; {output.log}")
        account, browser = self.recall("account"), self.browser()
        browser.cookies = dict(self.recall("cookies"))
        if browser.session(account) != account["username"]:
            raise ClientError("the session did not outlive a run that changes nothing")
        self.remember(quiet={"since": time.time()})
        return f"changed=0 in {output.seconds:.0f} s; the session works on"

    def quiet(self) -> str:
        """Ten minutes of log without CRITICAL and without repeated ERROR, except for absent keys."""
        since = self.recall("quiet")["since"]
        while (left := since + QUIET_SECONDS - time.time()) > 0:
            say(f"  collecting the log, {left:.0f} s left")
            time.sleep(min(60, left))
        against, absent, outside = [], [], {}
        for service in self.host.services():
            if service in BACKEND or service.endswith("-worker"):
                text = self.host.shell(
                    f"cd {STACK} && docker compose logs --no-log-prefix --no-color --since {since:.0f} {service} 2>&1",
                    timeout=300,
                ).stdout
                found = judged(text.splitlines())
                against += [f"{service}: {line}" for line in found.against]
                absent += [f"{service}: {line}" for line in found.absent]
                for reason, number in found.outside.items():
                    outside[reason] = outside.get(reason, 0) + number
        (STATE / f"{self.host.name}-absent-keys.txt").write_text("\n".join(absent) + "\n")
        others = "".join(f"; {number} x {reason}" for reason, number in sorted(outside.items()))
        if against:
            raise HostError("; ".join(against[:12]) + others)
        return f"no CRITICAL, no repeated ERROR; {len(absent)} kinds of message about absent keys{others}"

    def measure(self) -> str:
        """Start-up, peak and idle memory of each service and processor time at idle, written to docs/measured.md."""
        rows, stand_ins = [], set()
        for service in sorted(set(self.host.services())):
            for container in self.host.containers(service):
                idle, peak = self._memory(container["Id"])
                limit = container["HostConfig"]["Memory"] / 2**20
                if container["Config"]["Labels"].get("org.openmates.lab.stand-in"):
                    stand_ins.add(service)
                rows.append([service, idle, peak, limit, self._processor(container["Id"])])
        say("  measuring the processor for two minutes at idle")
        time.sleep(120)  # the measurement itself
        for row in rows:
            container = self.host.containers(row[0])[0]
            row[4] = (self._processor(container["Id"]) - row[4]) / 120 * 100
        starts = {}
        for service in BACKEND:
            say(f"  restarting {service}")
            starts[service] = self._start(service)
        total = sum(row[1] for row in rows)
        lines = [
            "# Measured with the real backend\n\n",
            f"Written by `make real` on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {self.images['api']},"
            f" {proofs.machine()}.\nIdle is without file cache, which peak includes. No user traffic."
            " A star marks the lab's stand-ins.\n\n",
            "| service | idle MiB | peak MiB | limit MiB | CPU at idle, % of a core | start: seconds / CPU seconds |\n",
            "|---|---|---|---|---|---|\n",
        ]
        for service, idle, peak, limit, cpu in rows:
            start = "{:.0f} / {:.0f}".format(*starts[service]) if service in starts else ""
            cells = [
                service + " *" * (service in stand_ins),
                f"{idle:.0f}",
                f"{peak:.0f}",
                f"{limit:.0f}",
                f"{cpu:.1f}",
            ]
            lines.append("| " + " | ".join([*cells, start]) + " |\n")
        lines.append(f"| together | {total:.0f} | | | {sum(row[4] for row in rows):.1f} | |\n")
        (ROOT / "docs/measured.md").write_text("".join(lines))
        if total > 2560:
            raise HostError(f"the stack needs {total:.0f} MiB at idle, more than 2.5 GiB; see docs/measured.md")
        return f"{total:.0f} MiB at idle; docs/measured.md"

    def broken(self) -> str:
        """Each dependency broken separately: the host tests of the readiness, on the real backend."""
        command = [sys.executable, "-m", "pytest", "-q", "--color=no", "tests/host/prod/test_readiness.py"]
        command += [f"--hosts=docker://openmates-lab-{self.host.name}", "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=_environment())
        log = STATE / f"{self.host.name}-broken.log"
        log.write_text(done.stdout + done.stderr)
        last = done.stdout.strip().splitlines()[-1:] or [done.stderr.strip()[-200:]]
        if done.returncode:
            names = [
                line.split(" - ")[0].rpartition("::")[2] for line in done.stdout.splitlines() if line[:6] == "FAILED"
            ]
            raise HostError(f"{', '.join(names) or last[0]}; all of it: {log.relative_to(ROOT)}")
        return f"tests/host/prod/test_readiness.py: {last[0].strip('= ')}"

    # ------------------------------------------------------------ parts of them

    def playbook(self, name: str) -> Done:
        begun = time.monotonic()
        process = self.host.playbook(name, *self.extra())
        while process.poll() is None:
            if int(time.monotonic() - begun) % 60 == 0:
                say(f"  {name} for {time.monotonic() - begun:.0f} s: {_last_task(process.log)}")
            time.sleep(1)
        text = process.log.read_text(errors="replace")
        if process.returncode:
            tail = [line for line in text.splitlines() if line.startswith(("fatal:", "failed:", "[ERROR]", "- "))]
            raise HostError(f"{name} failed: {' '.join(tail[-6:])[-600:]} (all of it: {process.log.relative_to(ROOT)})")
        return Done(text, time.monotonic() - begun, str(process.log.relative_to(ROOT)))

    def _email_code(self, email: str) -> str:
        command = f'REDISCLI_AUTH="$(cat /run/secrets/DRAGONFLY_PASSWORD)" redis-cli get email_verification:{email}'
        end = time.monotonic() + 120
        while time.monotonic() < end:
            found = self.host.run(f"cd {STACK} && docker compose exec --no-TTY cache sh -c '{command}'").strip('"\\ ')
            if found.isdigit():
                return found
            time.sleep(1)
        raise HostError("no task on the queue email made the e-mail's code within 120 s")

    def _memory(self, identity: str) -> tuple[float, float]:
        """Idle and peak MiB of a container, by its control group of either version."""
        script = (
            f"for d in /sys/fs/cgroup/memory/docker/{identity} /sys/fs/cgroup/system.slice/docker-{identity}.scope"
            f" /sys/fs/cgroup/docker/{identity}; do [ -e $d/memory.stat ] || continue;"
            " sed -n 's/^total_rss \\|^anon //p' $d/memory.stat | head -1;"
            " cat $d/memory.max_usage_in_bytes $d/memory.peak 2>/dev/null; break; done"
        )
        idle, peak = (int(word) / 2**20 for word in self.host.run(script).split()[:2])
        return idle, peak

    def _processor(self, identity: str) -> float:
        """Processor seconds that a container has used."""
        script = (
            f"for d in /sys/fs/cgroup/cpuacct/docker/{identity} /sys/fs/cgroup/cpu,cpuacct/docker/{identity};"
            " do [ -e $d/cpuacct.usage ] && cat $d/cpuacct.usage && exit; done;"
            f" for d in /sys/fs/cgroup/system.slice/docker-{identity}.scope /sys/fs/cgroup/docker/{identity};"
            " do [ -e $d/cpu.stat ] && sed -n 's/^usage_usec \\(.*\\)/\\1000/p' $d/cpu.stat && exit; done"
        )
        return int(self.host.run(script).split()[0]) / 1e9

    def _start(self, service: str) -> tuple[float, float]:
        """Seconds, and processor seconds, from a restart until the service is healthy again and the backend ready."""
        self.host.shell(f"cd {STACK} && docker compose restart {service}", timeout=600)
        begun = time.monotonic()
        while True:
            container = self.host.containers(service)[0]
            health = (container["State"].get("Health") or {}).get("Status")
            if health == "healthy":
                started = datetime.datetime.fromisoformat(container["State"]["StartedAt"][:19] + "+00:00").timestamp()
                return time.time() - started, self._processor(container["Id"])
            if time.monotonic() - begun > 400:
                raise HostError(f"{service} is not healthy within 400 s of a restart")
            time.sleep(1)


class Done:
    """A playbook that succeeded."""

    def __init__(self, text: str, seconds: float, log: str) -> None:
        self.text, self.seconds, self.log = text, seconds, log


def _environment() -> dict[str, str]:
    form = {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    return {**os.environ, **form, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}


def _last_task(log: Path) -> str:
    tasks = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("TASK [")]
    return tasks[-1].removeprefix("TASK [").partition("]")[0] if tasks else "starting"


def say(text: str) -> None:
    print(text, flush=True)


def cases(proof: Proof) -> dict[str, Callable[[], str]]:
    return {
        "push": proof.push,
        "provision": proof.provision,
        "ready": proof.ready,
        "sign-up": proof.sign_up,
        "login": proof.log_in,
        "second-run": proof.second_run,
        "quiet-log": proof.quiet,
        "measured": proof.measure,
        "broken": proof.broken,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="real1", help="a lab host of the group prod; default: real1")
    parser.add_argument("--api-image", required=True, help="the backend's image, in the local Docker engine")
    parser.add_argument("--cms-setup-image", required=True, help="OpenMates' own cms-setup, in the local Docker engine")
    parser.add_argument("--again", action="store_true", help="repeat cases that passed")
    parser.add_argument("case", nargs="*", help="only these; default: all, in order")
    options = parser.parse_args()
    try:
        proof = Proof(LabHost(options.host), options.api_image, options.cms_setup_image)
        todo = cases(proof)
        if unknown := set(options.case) - set(todo):
            raise HostError(f"CASE={unknown.pop()} is none of: {', '.join(todo)}")
        record = proofs.Proofs()
        digest = record.digest(INPUTS, sorted(proof.identities.values()))
        for case, work in todo.items():
            name = f"real: {case}, {options.api_image.rpartition('/')[2]}"
            if options.case and case not in options.case:
                continue
            if record.done(name, digest) and not options.again:
                say(f"{case}: passed before with the same inputs")
                continue
            say(case)
            begun = time.monotonic()
            try:
                result, detail = "passed", work()
            except (HostError, ClientError, OSError, subprocess.SubprocessError) as error:
                result, detail = "failed", f"{error}"
            record.record(name, result, detail, digest=digest, seconds=time.monotonic() - begun)
            say(f"{case}: {result}: {detail}")
            if result == "failed":
                return 1  # the cases build on each other
    except HostError as error:
        print(f"real: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

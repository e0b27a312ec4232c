# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a move does while clients wait, one call on each server: see docs/move.md.

`hand-over`, on the old server: stop what writes, and store a last snapshot. `take-over`, on the new one, which has
restored an earlier snapshot and runs: put the last one in its place, and start only what has to start again.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import shutil
import subprocess
import time
import typing as t
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from openmates_backup import commands, credentials, locks, restic, restore_files, run, state
from openmates_backup.cache import Cache
from openmates_backup.config import Config
from openmates_backup.containers import Containers
from openmates_backup.parts import MANIFEST, VAULT_LOGIN, Parts
from openmates_backup.postgres import Databases, digests, session
from openmates_backup.problem import Problem
from openmates_backup.repository import Repository
from openmates_backup.restic import Restic
from openmates_backup.restore import Restore, same
from openmates_backup.restore_parts import CACHE, DATABASE, FILES, MONITORING, STORES, VAULT, Part, parts_of

MOVING, ARRIVING = "moving", "arriving"
API, CMS = ("api", 8000, "/v1/health"), ("cms", 8055, "/server/ping")
STOPPED = ("api", "grafana")  # on the new server, before the pause: they write to volumes that are replaced
PAUSE, SECONDS = 0.1, 300.0
READY = "/usr/local/sbin/openmates-ready"
#: Directus reads these tables when it starts, and keeps what they hold.
REMEMBERED = frozenset(
    f"directus_{name}"
    for name in (
        *("access", "collections", "dashboards", "extensions", "fields", "flows", "migrations", "operations"),
        *("panels", "permissions", "policies", "relations", "roles", "settings", "translations"),
    )
)


class Clock:
    """How long each step takes, for the report: they are what clients wait for."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell, self.seconds = tell, {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.tell(name)
        begun = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begun, 1)


def hand_over(config: Config, tell: Callable[[str], None]) -> dict[str, t.Any]:
    """Stop all that writes, store a last snapshot and record it. Raises Problem; it can be repeated."""
    move, clock = state.read(config.move), Clock(tell)
    if move.get("state") != MOVING:
        raise Problem("No move from this server is under way. Run move.yml, which calls this.")
    lock = locks.exclusive(config.directory / "lock", config.lock_wait)
    with lock, restic.opened(config, credentials.secrets(run.LOGIN)) as opened, run.staging(config):
        with clock.step("stopping services"):
            stop(config, lambda service: service not in (*STORES, *MONITORING, CMS[0]))
            stop(config, lambda service: service == CMS[0])  # requests that end meanwhile need it
        parts = Parts(config, credentials.secrets(VAULT_LOGIN), lambda _: None)
        with clock.step("copying databases, cache and Vault"):
            manifest = parts.collect()
        with clock.step("storing the last snapshot"):
            snapshot = Repository(config, opened).store(parts.paths, parts.excluded)["snapshot_id"]
        state.write(config.move, {**move, "snapshot": snapshot})
    return {"snapshot": snapshot, "vault": manifest["vault"]["contents"], "seconds": clock.seconds}


def prepare(config: Config) -> dict[str, t.Any]:
    """On the new server: stop what would write to the volumes that are about to be replaced."""
    stop(config, lambda service: service in STOPPED)
    return {}


def fetch(config: Config, snapshot: str) -> dict[str, t.Any]:
    """Fetch the copies ahead of `take-over`; where the one of Vault is. Raises Problem and OSError."""
    restore = Restore(config, lambda _: None)
    with restore.opened() as opened:
        manifest = _fetched(config, opened, snapshot)
    return {"vault_copy": str(_placed(config, manifest, manifest["vault"]))}


def take_over(config: Config, snapshot: str, tell: Callable[[str], None]) -> dict[str, t.Any]:
    """Put the last snapshot in the place of the earlier one, and wait until the api is ready. Raises Problem, OSError.

    Vault is as the snapshot has it already: restored by the role vault, or its secrets did not change.
    """
    move, clock, restore = state.read(config.move), Clock(tell), Restore(config, tell)
    if move.get("state") != ARRIVING:
        raise Problem("No move to this server is under way. Run move.yml, which calls this.")
    with restore.opened() as opened:
        with clock.step("fetching"):
            manifest = _fetched(config, opened, snapshot)
        parts = parts_of(manifest, config)
        note = {"snapshot": snapshot, "parts": list(parts), "begun": state.now(), "done": {}, "manifest": manifest}
        state.write(config.restore_note, note)
        with clock.step("replacing databases, cache and files"):
            found, restart = _replace(config, opened, restore, snapshot, parts)
        note["done"] = {name: {**restore.shown(part), **found[name]} for name, part in parts.items()}
        state.write(config.restore_note, note)
    caches = [name for name, part in parts.items() if part.kind == CACHE]
    with clock.step("starting cache and Directus" if restart else "starting the cache"):
        start(config, lambda service: service in caches)
        for name in caches:
            _until(lambda name=name: Cache(Containers(config.project), name).ask("PING") == "PONG", name)
        if restart:
            start(config, lambda service: service == CMS[0])
        _until(lambda: answers(config, *CMS), CMS[0])
    with clock.step("starting the api"):
        start(config, lambda service: service == API[0])
        _until(lambda: answers(config, *API), API[0])
    with clock.step("asking whether it is ready"):
        _check_ready()
    # From here on what this server writes must not be replaced by another restore.
    state.write(config.move, {**state.read(config.move), "restored": snapshot})
    return {"seconds": clock.seconds}


def _replace(
    config: Config, opened: Restic, restore: Restore, snapshot: str, parts: Mapping[str, Part]
) -> tuple[dict[str, dict[str, t.Any]], bool]:
    """What was put in the place of each part, and whether Directus has to start again. Files meanwhile."""

    def timed(work: Callable[[], dict[str, t.Any]]) -> dict[str, t.Any]:
        begun = time.monotonic()
        return {**work(), "seconds": round(time.monotonic() - begun, 1)}

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        volumes = {name: part for name, part in parts.items() if part.kind == FILES}
        paths = [part.about["path"] for part in volumes.values()]
        sources = pool.submit(restore_files.directories_in, opened, snapshot, paths)

        def put_files(part: Part) -> dict[str, t.Any]:
            staged = {copy["file"]: restore.place(part, copy) for copy in part.copies}
            about = sources.result()[part.about["path"]]
            # The earlier copy was verified: files with its size and time are the same.
            how = "--overwrite=if-changed"
            return restore_files.restore_volume(opened, config, snapshot, part, staged, about, how)

        files = {name: pool.submit(timed, lambda part=part: put_files(part)) for name, part in volumes.items()}
        found: dict[str, dict[str, t.Any]] = {VAULT: {"index": parts[VAULT].about["index"], "seconds": 0.0}}
        restart = False
        for name, part in parts.items():
            if part.kind == DATABASE:
                restart = _outdated(Databases(restore.target.containers, name), part) or restart
        if restart:
            stop(config, lambda service: service == CMS[0])
        for name, part in parts.items():
            if part.kind == CACHE or part.kind == DATABASE:
                found[name] = timed(lambda part=part: restore.put_part(opened, snapshot, part))
        return found | {name: future.result() for name, future in files.items()}, restart


def _outdated(databases: Databases, part: Part) -> bool:
    """Whether what Directus keeps in memory is not what the last snapshot has. Raises Problem."""
    for name, about in part.about["databases"].items():
        expected = {table: found for table, found in about["tables"].items() if remembered(table)}
        if not expected:
            continue
        with session(databases.program("psql"), name) as opened:
            if digests(opened, remembered) != expected:
                return True
    return False


def remembered(table: str) -> bool:
    return table.rpartition(".")[2] in REMEMBERED


def _fetched(config: Config, opened: Restic, snapshot: str) -> dict[str, t.Any]:
    """Fetch everything that was made for the snapshot, with one call; its manifest. Raises Problem and OSError."""
    folder = config.restoring / "files"
    fetched = folder / "fetched"
    if state.read(folder / MANIFEST).get("snapshot") == snapshot:
        return state.read(folder / MANIFEST)["manifest"]
    shutil.rmtree(folder, ignore_errors=True)
    for path in (config.restoring, folder, fetched):
        path.mkdir(mode=0o700, exist_ok=True)
    opened.call("restore", f"{snapshot}:{config.staging}", f"--target={fetched}", "--no-lock")
    manifest = json.loads((fetched / MANIFEST).read_text())
    for part in parts_of(manifest, config).values():
        for copy in part.copies:
            path = fetched / Path(copy["file"]).relative_to(config.staging)
            if not same(path, copy):
                raise Problem(
                    f"{copy['file']} in snapshot {snapshot[:8]} is not what its manifest says. Run this again."
                )
            path.replace(_placed(config, manifest, copy, part))
    shutil.rmtree(fetched)
    state.write(folder / MANIFEST, {"snapshot": snapshot, "manifest": manifest})
    return manifest


def _placed(config: Config, manifest: Mapping[str, t.Any], copy: Mapping[str, t.Any], part: Part | None = None) -> Path:
    return Restore(config, lambda _: None).place(part or parts_of(manifest, config)[VAULT], copy)


# ---------------------------------------------------------------- services


def _containers(config: Config, wanted: Callable[[str], bool], *options: str) -> list[str]:
    """The ids of the containers of services, without those of `compose run`. Raises Problem."""
    shown = '{{.ID}} {{.Label "com.docker.compose.service"}} {{.Label "com.docker.compose.oneoff"}}'
    command = ["docker", "ps", *options, f"--filter=label=com.docker.compose.project={config.project}"]
    lines = commands.output([*command, f"--format={shown}"], "Asking Docker for its containers").decode().splitlines()
    rows = [line.split() for line in lines]
    return [identity for identity, service, oneoff in rows if wanted(service) and oneoff != "True"]


def stop(config: Config, wanted: Callable[[str], bool]) -> None:
    """All of these services at once, each with the time that it has to finish requests. Raises Problem."""
    if found := _containers(config, wanted):
        commands.output(["docker", "stop", *found], "Stopping services")


def start(config: Config, wanted: Callable[[str], bool]) -> None:
    """Raises Problem."""
    if found := _containers(config, wanted, "--all"):
        commands.output(["docker", "start", *found], "Starting services")


def answers(config: Config, service: str, port: int, path: str) -> bool:
    """Raises Problem if it does not run."""
    connection = http.client.HTTPConnection(Containers(config.project).address(service), port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _until(works: Callable[[], bool], service: str) -> None:
    """Raises Problem if a service does not work in time."""
    end, reason = time.monotonic() + SECONDS, ""
    while time.monotonic() < end:
        try:
            if works():
                return
        except Problem as problem:
            reason = f" {problem}"
        time.sleep(PAUSE)
    raise Problem(f"{service} does not answer after {SECONDS:.0f} s.{reason} See its log, and run this again.")


def _check_ready() -> None:
    """Raises Problem."""
    done = subprocess.run(
        [READY, "--json", "--without-workers", f"--wait={SECONDS:.0f}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        with contextlib.suppress(ValueError, KeyError):
            failing = [part["detail"] for part in json.loads(done.stdout)["parts"] if not part["ok"]]
            raise Problem(f"OpenMates is not ready: {'; '.join(failing)}. Run this again when the cause is removed.")
        raise Problem(f"openmates-ready failed: {commands.reason(done.stdout + done.stderr)}.")

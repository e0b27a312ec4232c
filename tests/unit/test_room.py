"""Disk and memory are checked before a roll-out: roles/stack/files/room.py, and what the role asks it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.template import trust_as_template
from rendering import templar
from test_release_role import evaluate

FILE = Path(__file__).parents[2] / "roles/stack/files/room.py"
spec = importlib.util.spec_from_file_location("room_script", FILE)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

# A docker client: here.json lists the images of the host, registry.json has manifests, running.txt the containers.
DOCKER = """#!{python}
import json, os, sys
from pathlib import Path
home, words = Path({folder!r}), sys.argv[1:]
if words[0] == "info":
    print("/data/docker")
elif words[0] == "version":
    print("linux/arm64")
elif words[0] == "ps":
    print((home / "running.txt").read_text())
elif words[0] == "compose":
    print((home / "project.json").read_text())
elif words[:2] == ["image", "inspect"]:
    sys.exit(0 if words[-1] in json.loads((home / "here.json").read_text()) and not print("sha256:1") else 1)
elif words[:2] == ["manifest", "inspect"]:
    (home / "asked").open("a").write(words[2] + " " + os.environ.get("DOCKER_CONFIG", "") + "\\n")
    manifests = json.loads((home / "registry.json").read_text())
    print(json.dumps(manifests[words[2]])) if words[2] in manifests else sys.exit("no such manifest")
"""
PLATFORMS = {
    "manifests": [
        {"digest": "sha256:amd", "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": "sha256:arm", "platform": {"os": "linux", "architecture": "arm64"}},
    ]
}
MB = 2**20


class Host:
    """A host, and the problems that the script finds on it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.state(here=[], registry={}, running=["api", "task-worker", "cms"], free=100.0, memory=8000)

    def state(self, **changed: object) -> None:
        for name in ("here", "registry", "project"):
            if name in changed:
                (self.folder / f"{name}.json").write_text(json.dumps(changed[name]))
        if "running" in changed:
            (self.folder / "running.txt").write_text("\n".join(changed["running"]))
        if "free" in changed:
            disk = SimpleNamespace(f_bavail=int(changed["free"] * 10**6), f_frsize=1000)
            self.patch.setattr(script.os, "statvfs", lambda path: disk if path == "/data/docker" else None)
        if "memory" in changed:
            (self.folder / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:   {changed['memory'] * 1024} kB\n")
            self.patch.setattr(script, "MEMINFO", self.folder / "meminfo")

    def problems(self, pull: list[str] = (), second: list[str] = (), **given: object) -> list[str]:
        services = {
            "api": {"image": "a/api:2", "mem_limit": "640M"},
            "task-worker": {"image": "a/api:2", "mem_limit": "1088M"},
            "cms": {"image": "registry.test:5000/b/cms:2", "mem_limit": "512M"},
        }
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            script.main({"services": services, "pull": list(pull), "second": list(second)} | given)
        return said.getvalue().splitlines()

    @property
    def asked(self) -> list[str]:
        file = self.folder / "asked"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    (tmp_path / "docker").write_text(DOCKER.format(python=sys.executable, folder=str(tmp_path)))
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return Host(tmp_path, monkeypatch)


def test_a_slow_server_asks_about_few_images_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirteen of Docker's client at once took an ARM server longer than each of them may take."""
    now, most, lock = 0, 0, threading.Lock()

    def size(image: str, platform: str) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1
        return 1

    monkeypatch.setattr(script, "compressed_size", size)
    monkeypatch.setattr(script, "docker", lambda *words: "/" if words[0] == "info" else "")
    monkeypatch.setattr(script.os, "statvfs", lambda _: SimpleNamespace(f_bavail=5 * 10**6, f_frsize=1000))
    assert script.disk_problem({f"image:{number}": [] for number in range(13)}) == ""
    assert most == 3


def test_with_much_space_no_registry_is_asked(host: Host) -> None:
    assert host.problems(pull=["api", "task-worker", "cms"]) == []
    assert host.asked == []


def test_the_size_of_this_platforms_image_is_what_counts(host: Host) -> None:
    layers = {"layers": [{"size": 300 * 10**6}, {"size": 200 * 10**6}]}
    other = {"layers": [{"size": 9 * 10**9}]}
    host.state(registry={"a/api:2": PLATFORMS, "a/api@sha256:arm": layers, "a/api@sha256:amd": other}, free=3.1)
    assert host.problems(pull=["api", "task-worker"]) == []
    host.state(free=2.9)  # 0.5 GB compressed, 1.5 unpacked, 1 to stay free
    [problem] = host.problems(pull=["api", "task-worker"])
    assert problem.startswith("This host: 2.9 GB are free on the disk of Docker's data, /data/docker, and 3.0 GB are")
    assert "(a/api:2 2.0 GB), and 1 GB for the services" in problem
    assert "docker system df" in problem and "openmates_releases_kept" in problem


def test_an_image_of_one_platform_at_a_registry_with_a_port(host: Host) -> None:
    host.state(registry={"registry.test:5000/b/cms:2": {"layers": [{"size": 10**9}]}}, free=4.5)
    assert "cms:2 4.0 GB)" in host.problems(pull=["cms"])[0]
    arm = {"registry.test:5000/b/cms@sha256:arm": {"layers": []}}
    host.state(registry={"registry.test:5000/b/cms:2": PLATFORMS} | arm)
    assert host.problems(pull=["cms"]) == []


@pytest.mark.parametrize("manifest", [{}, {"a/api:2": {"schemaVersion": 1}}, {"a/api:2": PLATFORMS}, {"a/api:2": [1]}])
def test_a_size_that_the_registry_does_not_tell_is_assumed(host: Host, manifest: dict) -> None:
    host.state(registry=manifest, free=2.9)
    [problem] = host.problems(pull=["api"])
    assert "a/api:2 2.0 GB assumed, as its registry does not tell" in problem
    host.state(free=3.1)
    assert host.problems(pull=["api"]) == []


def test_images_that_the_host_has_need_no_space(host: Host) -> None:
    host.state(here=["a/api:2"], free=0.1)
    assert host.problems(pull=["api"]) == []


def test_registries_are_asked_with_the_projects_logins(host: Host) -> None:
    (host.folder / "secrets/.docker").mkdir(parents=True)
    (host.folder / "secrets/.docker/config.json").write_text("{}")
    host.patch.setenv("DOCKER_CONFIG", "")
    host.state(free=2.9)
    host.problems(pull=["api"])
    assert host.asked == [f"a/api:2 {host.folder}/secrets/.docker"]


def test_one_second_container_at_a_time_has_to_fit(host: Host) -> None:
    host.state(memory=1088)
    assert host.problems(second=["api", "task-worker"]) == []
    host.state(memory=1087)
    [problem] = host.problems(second=["api", "task-worker"])
    assert problem.startswith(
        "This host: 1087 MB of memory are available, and a second task-worker beside the running one may need 1088 MB"
    )
    assert "openmates_services" in problem and "lower the limit" in problem
    assert host.problems(second=["api"]) == []


@pytest.mark.parametrize("running", [[], ["api"], ["api", "task-worker", "task-worker"]])
def test_no_second_container_for_a_service_that_does_not_run_or_has_two(host: Host, running: list[str]) -> None:
    host.state(memory=700, running=running)
    assert host.problems(second=["api", "task-worker"]) == []


def test_the_compose_files_count_once_they_are_written(host: Host) -> None:
    host.state(project={"services": {"api": {"image": "a/api:2", "mem_limit": str(640 * MB)}}}, memory=639, free=1)
    problems = host.problems(pull=["api"], second=["api"], services=None)
    assert ["GB are free" in problems[0], "MB of memory" in problems[1]] == [True, True]


def test_compose_files_that_cannot_be_read_are_reported(host: Host) -> None:
    (host.folder / "docker").write_text("#!/bin/sh\necho 'no configuration file provided' >&2; exit 14\n")
    assert host.problems(pull=["api"], services=None) == [
        "The Compose files cannot be read: no configuration file provided"
    ]


@pytest.mark.parametrize(
    ("limit", "size"), [("640M", 640 * MB), ("1g", 1024 * MB), ("64kb", 65536), ("7", 7), (5, 5), ("", 0), (None, 0)]
)
def test_memory_limits_are_read_as_compose_does(limit: object, size: int) -> None:
    assert script.in_bytes(limit) == size


# ---------------------------------------------------------------- what the role asks


def info(**services: dict) -> dict:
    return {"problem": "", "outdated": {}, "stale_networks": {}, "stale_volumes": [], "services": services}


def container(image: str, state: str = "running") -> dict:
    return {"state": state, "image": image, "one_shot": False, "health": ""}


@pytest.fixture
def request_of_deploy() -> Callable[..., dict]:
    def evaluated(**services: dict) -> dict:
        return evaluate(
            "stack", "{{ stack_room }}", stack_info=info(**services), stack_api=["api"], stack_workers=["app-worker"],
            stack_images={"api": "a:2", "app-worker": "a:2", "cms": "c:1"}, stack_memory={"api": "640M"},
        )  # fmt: skip

    return evaluated


def test_a_deploy_asks_for_what_gets_another_image(request_of_deploy: Callable[..., dict]) -> None:
    found = request_of_deploy(
        api=container("a:1"), cms=container("c:0"), **{"app-worker": container("a:2"), "gone": container("x")}
    )
    assert found == {
        "pull": ["api", "app-worker", "cms"],
        "second": ["api"],
        "services": {
            "api": {"image": "a:2", "mem_limit": "640M"},
            "app-worker": {"image": "a:2", "mem_limit": ""},
            "cms": {"image": "c:1", "mem_limit": ""},
        },
    }


def test_a_service_that_is_new_or_stopped_has_no_second(request_of_deploy: Callable[..., dict]) -> None:
    assert request_of_deploy(api=container("a:1", "exited"))["second"] == []


def test_site_asks_for_what_is_outdated() -> None:
    state = info(api=container("a:1"), cms=container("c:1")) | {"outdated": {"api": "x", "cms": "x"}}
    found = evaluate("stack", "{{ stack_room }}", stack_info=state, stack_api=["api"], stack_workers=[])
    assert (sorted(found["pull"]), found["second"]) == (["api", "cms"], ["api"])


def test_the_images_and_limits_of_apps_are_known_before_a_deploy(tmp_path: Path) -> None:
    apps = [
        {"name": "app-w", "kind": "worker", "queues": ["q"]},
        {"name": "app-x", "kind": "worker", "queues": ["x"], "memory": "1536M", "image": "ghcr.io/x/x:1"},
        {"name": "app-s", "image": "ghcr.io/x/one:1"},
    ]
    host = templar("prod", tmp_path, openmates_apps=apps, openmates_registry="mirror.test")
    images = host.template(trust_as_template("{{ release_declared }}"))
    assert images["app-w"] == images["api"] and images["api"].startswith("mirror.test/")
    assert (images["app-x"], images["app-s"]) == ("mirror.test/x/x:1", "mirror.test/x/one:1")
    limits = host.template(trust_as_template("{{ stack_memory }}"))
    assert (limits["api"], limits["app-w"], limits["app-x"]) == ("640M", "1024M", "1536M")

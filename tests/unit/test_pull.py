"""Images are pulled before anything is stopped; one that cannot be pulled or would not run is reported."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "roles/stack/files/pull.py"
# A docker client whose answers are files: images/NAME is an image that is here, registry/NAME one that can be pulled.
DOCKER = r"""#!/usr/bin/python3
import os, pathlib, sys
home, arguments = pathlib.Path(os.environ["FAKE"]), sys.argv[1:]
def image(folder, name): return home / folder / name.replace("/", "+")
if arguments[0] == "version":
    print("linux/arm64")
elif arguments[0] == "compose":
    print((home / "project.json").read_text())
elif arguments[0] == "image":
    file = image("images", arguments[-1])
    sys.exit("No such image") if not file.exists() else print(file.read_text())
elif arguments[0] == "pull":
    (home / "pulls").open("a").write(arguments[-1] + "\n")
    (home / "logins").write_text(os.environ.get("DOCKER_CONFIG", ""))
    file = image("registry", arguments[-1])
    if "private" in arguments[-1]:
        sys.exit("Error response from daemon: Head https://registry.test/v2/: denied")
    if not file.exists():
        sys.exit("Error response from daemon: manifest for " + arguments[-1] + " not found")
    if file.read_text() == "none":
        sys.exit("no matching manifest for linux/arm64/v8 in the manifest list entries")
    image("images", arguments[-1]).write_text(file.read_text())
"""


@pytest.fixture
def pull(tmp_path: Path):
    """Run the script for services on a host with these images, with a registry that has those."""
    for folder in ("bin", "images", "registry"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin/docker").write_text(DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)

    def run(services: dict[str, str], here: dict[str, str], registry: dict[str, str]) -> subprocess.CompletedProcess:
        project = {"services": {name: {"image": image} for name, image in services.items()}}
        (tmp_path / "project.json").write_text(json.dumps(project))
        for folder, images in (("images", here), ("registry", registry)):
            for name, platform in images.items():
                (tmp_path / folder / name.replace("/", "+")).write_text(platform)
        environment = os.environ | {"FAKE": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
        asked = [name for name in services if name != "other"]
        return subprocess.run(
            [sys.executable, SCRIPT, *asked], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
        )

    return run


ARM, AMD = "linux/arm64", "linux/amd64"


def test_only_what_is_missing_is_pulled(pull, tmp_path: Path) -> None:
    done = pull(
        {"api": "a/api:1", "worker": "a/api:1", "cms": "b/cms:2", "other": "c/c:1"}, {"b/cms:2": ARM}, {"a/api:1": ARM}
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["a/api:1"], "")
    assert (tmp_path / "pulls").read_text().split() == ["a/api:1"]


def test_an_image_that_is_here_and_nowhere_else_will_do(pull) -> None:
    done = pull({"api": "mine:dev"}, {"mine:dev": ARM}, {})
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("here", "registry", "words"),
    [
        ({}, {}, ["a/api:1 cannot be pulled", "manifest for a/api:1 not found"]),
        ({}, {"a/api:1": "none"}, ["a/api:1 cannot be pulled", "no variant for this host, linux/arm64"]),
        ({}, {"a/api:1": AMD}, ["a/api:1 is made for linux/amd64, and this host is linux/arm64"]),
        ({"a/api:1": AMD}, {}, ["a/api:1 is made for linux/amd64"]),
    ],
)
def test_what_cannot_run_is_named_with_its_setting(pull, here: dict, registry: dict, words: list[str]) -> None:
    done = pull({"worker": "a/api:1", "api": "a/api:1", "cms": "b/cms:2"}, here, registry | {"b/cms:2": ARM})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    for word in [*words, "the image of api, worker", "openmates_services"]:
        assert word in done.stderr


def test_logins_of_the_project_count_where_there_are_any(pull, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    pull({"api": "a/api:1"}, {}, {"a/api:1": ARM})
    assert (tmp_path / "logins").read_text() == "", "those of root count otherwise"
    (tmp_path / "secrets/.docker").mkdir(parents=True)
    (tmp_path / "secrets/.docker/config.json").write_text("{}")
    pull({"cms": "b/cms:2"}, {}, {"b/cms:2": ARM})
    assert (tmp_path / "logins").read_text() == f"{tmp_path}/secrets/.docker"


def test_an_image_that_is_not_public_is_named_with_the_setting_of_the_login(pull) -> None:
    done = pull({"api": "a/private:1"}, {}, {})
    assert done.returncode == 1 and "denied (if it is not public, openmates_registry_logins has" in done.stderr


def test_progress_names_services_and_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("pull_script", SCRIPT)
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    now = [0.0]
    monkeypatch.setattr(script.time, "monotonic", lambda: now[0])
    progress = script.Progress(3)
    progress.start("api, worker")
    assert progress.text() == "0 of 3 images are here; api, worker: waiting for the registry, 0 s"
    layers = ("0123456789ab", "0123456789ac", "0123456789ad")
    for layer in layers:
        progress.note("api, worker", f"{layer}: Pulling fs layer\n")
    progress.note("api, worker", f"{layers[0]}: Pull complete\n")
    progress.note("api, worker", f"{layers[1]}: Already exists\n")
    progress.note("api, worker", "Digest: sha256:0123456789ab\n")
    now[0] = 40.0
    assert progress.text() == "0 of 3 images are here; api, worker: 2 of 3 layers, 40 s"
    progress.end("api, worker")
    assert progress.text() == "1 of 3 images are here"


def test_images_of_a_version_whose_compose_file_is_not_written_yet(pull, tmp_path: Path) -> None:
    pull({}, {}, {"api:2": "linux/arm64"})
    environment = os.environ | {"FAKE": str(tmp_path), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    images = json.dumps({"api": "api:2", "task-worker": "api:2", "cms": "cms:9"})
    done = subprocess.run(
        [sys.executable, SCRIPT, "--images", images], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout == "api:2\n"
    assert "cms:9 cannot be pulled" in done.stderr

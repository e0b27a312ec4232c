#!/usr/bin/env python3
"""Makes the lab's container images and puts them into the lab's registry.

Where upstream's registry answers, upstream's images are pulled; where it does not, images of the same name and contract
are built from the recipes in lab/images. Both are cached: an image is made again only when its recipe, its parent, its
build context or the trusted certificate authorities change, and pushed only when the registry does not hold it yet.

Needs a Docker engine (lab/engine.sh sees to one) and PyYAML.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import os
import platform
import re
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

LAB = Path(__file__).resolve().parent
CATALOGUE = LAB / "images.yml"
STATE = LAB.parent / ".lab"
REGISTRY = "127.0.0.1:5443"
NAMESPACE = "openmates-lab"
LABEL = "org.openmates.lab"
#: Seconds: a registry's first answer, one pull, one build, one push.
PROBE_TIMEOUT, PULL_TIMEOUT, BUILD_TIMEOUT, PUSH_TIMEOUT = 20, 900, 1800, 600
#: What a checkout or a run leaves behind and no image depends on.
IGNORED = {"__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".DS_Store"}
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class LabError(Exception):
    """A step that cannot go on. The text says what failed and where to look."""


@dataclass(frozen=True)
class Image:
    """One row of images.yml; its comments there say what each field means."""

    name: str
    recipe: str
    software: str
    version: str
    image: str | None = None
    parent: str | None = None
    context: str | None = None
    args: dict[str, str] = field(default_factory=dict)
    cmd: list[str] = field(default_factory=list)
    always_built: bool = False
    stand_in: str | None = None


def load(path: Path = CATALOGUE) -> tuple[dict[str, Image], str]:
    """Rows by name, in file order, and the image that probes for upstream. Raises LabError for an impossible row."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    rows: dict[str, Image] = {}
    for name, row in data["images"].items():
        try:
            rows[name] = Image(name=name, recipe=row.pop("recipe", name), **row)
        except TypeError as error:
            raise LabError(f"{path}: image {name}: {error}") from None
    for row in rows.values():
        if row.parent and row.parent not in rows:
            raise LabError(f"{path}: image {row.name}: parent {row.parent} has no row")
    return rows, data["probe"]


def registry_path(image: str) -> str:
    """Path and tag under which a private registry keeps a catalogue image: its name without a registry host."""
    first, slash, rest = image.partition("/")
    if not slash:
        return f"library/{image}"
    return rest if "." in first or ":" in first or first == "localhost" else image


def authorities(bundle: Path | None = None, public: Path = Path("/usr/share/ca-certificates")) -> dict[str, str]:
    """The controller's own certificate authorities, PEM by fingerprint.

    bundle: default SSL_CERT_FILE, else the system's.
    public: folder with what Debian ships, and so the base image has already; those are left out.
    """
    path = bundle or Path(os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile or "/nonexistent")
    if not path.is_file():
        return {}

    def fingerprints(text: str) -> dict[str, str]:
        return {
            hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()[:16]: pem + "\n"
            for pem in _CERTIFICATE.findall(text)
        }

    known = {key for file in public.rglob("*.crt") for key in fingerprints(file.read_text(errors="replace"))}
    found = fingerprints(path.read_text(encoding="utf-8", errors="replace"))
    return {key: found[key] for key in sorted(found) if key not in known}


def _hash_folder(digest: hashlib._Hash, folder: Path) -> None:
    if not folder.is_dir():
        raise LabError(f"{folder} is missing")
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        if file.is_file() and not IGNORED.intersection(parts) and file.suffix != ".pyc":
            mode = file.stat().st_mode & 0o111
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{'/'.join(parts)}\0{mode}\0{content}\n".encode())


def recipe_hash(row: Image, rows: dict[str, Image], extra: Iterable[str], lab: Path = LAB) -> str:
    """Twelve hex digits that change whenever the image would: recipe, context, row, parent, processor, authorities.

    extra: what counts for images without a parent besides their recipe, such as the fingerprints of authorities.
    """
    digest = hashlib.sha256(f"{row}\n".encode())
    _hash_folder(digest, lab / "images" / row.recipe)
    if row.context:
        _hash_folder(digest, lab / row.context)
    if row.parent:
        digest.update(recipe_hash(rows[row.parent], rows, extra, lab).encode())
    else:
        digest.update("\n".join([platform.machine(), *extra]).encode())
    return digest.hexdigest()[:12]


def wanted(names: list[str], rows: dict[str, Image]) -> list[Image]:
    """The rows of these names (default: all) and their parents, in file order. Raises LabError for an unknown name."""
    chosen = set(names or rows)
    if unknown := chosen - set(rows):
        raise LabError(f"no such image: {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    queue = list(chosen)
    while queue:
        parent = rows[queue.pop()].parent
        if parent and parent not in chosen:
            chosen.add(parent)
            queue.append(parent)
    return [row for name, row in rows.items() if name in chosen]


def docker(*arguments: str, timeout: float = 60, **options) -> subprocess.CompletedProcess:
    """Run the Docker client. timeout: seconds. Raises TimeoutExpired; the exit code is the caller's to judge."""
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    options = {"capture_output": True, "text": True, **options}
    return subprocess.run(["docker", *arguments], timeout=timeout, env=environment, check=False, **options)


def image_id(reference: str) -> str | None:
    """The local image's id (sha256:...), or None."""
    result = docker("image", "inspect", "--format", "{{.Id}}", reference)
    return result.stdout.strip() if result.returncode == 0 else None


class Builder:
    """Makes, finds and pushes the images of one catalogue."""

    def __init__(self, rows: dict[str, Image], probe: str, state: Path = STATE, source: str = "auto") -> None:
        self.rows = rows
        self.probe = probe
        self.logs = state / "logs"
        self.authorities = authorities()
        self.hashes = {name: recipe_hash(row, rows, self.authorities) for name, row in rows.items()}
        self.upstream = False
        self.source = source
        self.counts = {"built": 0, "pulled": 0, "pushed": 0}

    def tag(self, row: Image) -> str:
        """Local name of the built image."""
        return f"{NAMESPACE}/{row.name}:{self.hashes[row.name]}"

    def pulled(self, row: Image) -> str | None:
        """Id of upstream's own image if it is here and may be used."""
        return None if row.always_built or not row.image or self.source == "built" else image_id(row.image)

    def present(self, row: Image) -> str | None:
        """Id of the image that serves this row, upstream's before ours, or None."""
        return self.pulled(row) or image_id(self.tag(row))

    def ask_upstream(self, chosen: list[Image]) -> None:
        """Find out once whether upstream's registry answers; not at all when nothing is missing."""
        if self.source == "auto" and any(
            row.image and not row.always_built and not self.present(row) for row in chosen
        ):
            try:
                self.upstream = docker("pull", "--quiet", self.probe, timeout=PROBE_TIMEOUT).returncode == 0
            except subprocess.TimeoutExpired:
                self.upstream = False
            print(
                f"upstream's registry {'answers: pulling' if self.upstream else 'does not answer: building'}",
                flush=True,
            )

    def make(self, row: Image, registry: str | None) -> None:
        """See to one image: find, pull or build it, then push it if it is the catalogue's and a registry is given."""
        found = self.present(row)
        if not found and self.upstream and row.image and not row.always_built:
            found = self._pull(row)
        if not found:
            found = self._build(row)
        if found == image_id(self.tag(row)):
            docker("tag", found, f"{NAMESPACE}/{row.name}:latest")
        if registry and row.image:
            self._push(row, found, registry)

    def _pull(self, row: Image) -> str | None:
        try:
            result = docker("pull", "--quiet", str(row.image), timeout=PULL_TIMEOUT)
        except subprocess.TimeoutExpired:
            result = None
        if result is None or result.returncode:
            print(f"{row.name}: upstream's {row.image} cannot be pulled, building instead", flush=True)
            return None
        self.counts["pulled"] += 1
        print(f"{row.name}: pulled {row.image}", flush=True)
        return image_id(str(row.image))

    def _build(self, row: Image) -> str:
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{row.name}.log"
        print(f"{row.name}: building", flush=True)
        start = time.monotonic()
        try:
            with log.open("w", encoding="utf-8") as output, tempfile.TemporaryDirectory() as scratch:
                step = self._import_rootfs if row.parent is None else self._build_recipe
                plain = step(row, Path(scratch), output)
                self._label(row, plain, output)
        except (subprocess.SubprocessError, OSError, LabError) as error:
            tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:]
            raise LabError("\n".join([f"{row.name}: {error}", *tail, f"{row.name}: the whole log is {log}"])) from None
        self.counts["built"] += 1
        print(f"{row.name}: built in {time.monotonic() - start:.0f} s", flush=True)
        return str(image_id(self.tag(row)))

    def _import_rootfs(self, row: Image, scratch: Path, output) -> str:
        scratch.chmod(0o755)
        for key, pem in self.authorities.items():
            (scratch / f"controller-{key}.crt").write_text(pem, encoding="ascii")
        script = LAB / "images" / row.recipe / "rootfs.sh"
        with subprocess.Popen(["sh", str(script), str(scratch)], stdout=subprocess.PIPE, stderr=output) as maker:
            result = docker(
                "import", "--change", 'CMD ["bash"]', "--change", "ENV LANG=C.UTF-8", "-",
                stdin=maker.stdout, stdout=subprocess.PIPE, stderr=output, capture_output=False, timeout=BUILD_TIMEOUT,
            )  # fmt: skip
        if maker.returncode or result.returncode:
            raise LabError("the root file system could not be made")
        return result.stdout.strip()

    def _build_recipe(self, row: Image, scratch: Path, output) -> str:
        folder = LAB / "images" / row.recipe
        arguments = {"PARENT": self.tag(self.rows[str(row.parent)]), **row.args}
        proxies = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy")]
        result = docker(
            "build", "--network", "host", "--force-rm", "--iidfile", str(scratch / "id"),
            "--file", str(folder / "Dockerfile"),
            *(part for key, value in arguments.items() for part in ("--build-arg", f"{key}={value}")),
            *(part for name in proxies for part in ("--build-arg", name)),
            str(LAB / row.context if row.context else folder),
            stdout=output, stderr=output, capture_output=False, timeout=BUILD_TIMEOUT,
        )  # fmt: skip
        if result.returncode:
            raise LabError(f"docker build failed ({result.returncode})")
        return (scratch / "id").read_text(encoding="ascii").strip()

    def _label(self, row: Image, plain: str, output) -> None:
        """Give the image its labels and, last of all, its name: a build cut short leaves nothing that looks done."""
        asked = docker(
            "run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "sh", plain, "-c", row.version
        )
        if asked.returncode or not asked.stdout.strip():
            raise LabError(f"`{row.version}` fails in the image: {asked.stderr.strip()}")
        labels = {f"{LABEL}.software": row.software.replace("{version}", asked.stdout.strip())}
        if row.stand_in:
            labels[f"{LABEL}.stand-in"] = row.stand_in
        lines = [f"FROM {plain}", *([f"CMD {json.dumps(row.cmd)}"] if row.cmd else [])]
        result = docker(
            "build", "--tag", self.tag(row),
            *(part for key, value in labels.items() for part in ("--label", f"{key}={value}")), "-",
            input="\n".join(lines) + "\n", stdout=output, stderr=output, capture_output=False,
        )  # fmt: skip
        if result.returncode:
            raise LabError(f"labelling failed ({result.returncode})")

    def _push(self, row: Image, identity: str, registry: str) -> None:
        path = registry_path(str(row.image))
        if in_registry(registry, path) == identity:
            return
        target = f"{registry}/{path}"
        docker("tag", identity, target)
        result = docker("push", "--quiet", target, timeout=PUSH_TIMEOUT)
        docker("rmi", "--no-prune", target)
        if result.returncode:
            raise LabError(f"{row.name}: push to {target} failed: {result.stderr.strip()}")
        self.counts["pushed"] += 1
        print(f"{row.name}: pushed {path}", flush=True)

    def make_all(self, chosen: list[Image], registry: str | None, jobs: int = 2) -> None:
        """See to all images, jobs at a time, parents before children, otherwise in the catalogue's order.

        Raises LabError for the first image that fails; what is being made then is finished, nothing more is begun.
        """
        if registry:
            in_registry(registry, f"{NAMESPACE}/absent:none")  # better now than after minutes of building
        self.ask_upstream(chosen)
        waiting, done, errors = list(chosen), set(), []
        running: dict[concurrent.futures.Future, Image] = {}
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            while waiting or running:
                ready = [row for row in waiting if row.parent is None or row.parent in done]
                for row in ready[: jobs - len(running)]:
                    waiting.remove(row)
                    running[pool.submit(self.make, row, registry)] = row
                for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                    row = running.pop(future)
                    done.add(row.name)
                    if error := future.exception():
                        errors.append(error)
                        waiting.clear()
                        names = ", ".join(other.name for other in running.values())
                        print(f"{row.name}: failed" + (f"; finishing {names} first" if names else ""), flush=True)
        if errors:
            raise errors[0]


def in_registry(registry: str, path: str) -> str | None:
    """Id of the image that the registry holds under path (name:tag), or None. Raises LabError if it does not answer."""
    name, _, tag = path.rpartition(":")
    # The lab registry's certificate is for its name, not for the loopback address; Docker trusts loopback just so.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    request = urllib.request.Request(f"https://{registry}/v2/{name}/manifests/{tag}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310 - always https
            return json.load(answer).get("config", {}).get("digest")
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise LabError(f"the registry on {registry} answers {error.code} for {path}") from None
    except (urllib.error.URLError, OSError) as error:
        raise LabError(f"no registry answers on {registry}: {error}") from None


def describe(builder: Builder, chosen: list[Image]) -> list[dict[str, str | None]]:
    """What each image is: name, catalogue image, local tag, source (upstream, built, missing), software, stand_in."""
    answer = []
    for row in chosen:
        upstream = builder.pulled(row)
        source = "upstream" if upstream else "built" if image_id(builder.tag(row)) else "missing"
        software = row.image if upstream else row.software.replace(" {version}", "").replace("{version}", row.recipe)
        if source == "built":
            shown = docker(
                "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}.software"}}}}', builder.tag(row)
            )
            software = shown.stdout.strip()
        answer.append({
            "name": row.name, "image": row.image, "tag": row.image if upstream else builder.tag(row), "source": source,
            "software": software, "stand_in": None if upstream else row.stand_in,
        })  # fmt: skip
    return answer


def print_table(rows: list[dict[str, str | None]]) -> None:
    """A table that a person reads at a glance."""
    table = [("IMAGE", "SOURCE", "KIND", "SOFTWARE")]
    for row in rows:
        kind = "stand-in" if row["stand_in"] else "real"
        table.append((row["image"] or f"({row['name']})", str(row["source"]), kind, str(row["software"])))
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    for line in table:
        print("  ".join([*(line[column].ljust(widths[column]) for column in range(3)), line[3]]).rstrip())


def main(arguments: list[str] | None = None) -> int:
    """Command line; see --help. Returns 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalogue", type=Path, default=CATALOGUE, help="default: images.yml beside this file")
    parser.add_argument("--state", type=Path, default=STATE, help="folder for logs; default: .lab in the project")
    parser.add_argument("--source", choices=["auto", "built"], default="auto",
                        help="auto: upstream's images where a registry answers; built: never ask")  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="pull or build what is missing and push it to the lab's registry")
    build.add_argument("--registry", default=REGISTRY, help=f"registry on loopback to push to; default: {REGISTRY}")
    build.add_argument("--no-push", action="store_true", help="only make the images, as before the registry runs")
    build.add_argument("--jobs", type=int, default=2, help="images made at a time; default: 2")
    listing = verbs.add_parser("list", help="show each image, where it comes from and whether it is a stand-in")
    listing.add_argument("--json", action="store_true", help="for programs")
    for verb in (build, listing):
        verb.add_argument("names", nargs="*", metavar="NAME", help="only these (and their parents); default: all")
    options = parser.parse_args(arguments)
    try:
        rows, probe = load(options.catalogue)
        builder = Builder(rows, probe, options.state, options.source)
        chosen = wanted(options.names, rows)
        if options.verb == "build":
            builder.make_all(chosen, None if options.no_push else options.registry, max(1, options.jobs))
            print(f"images: {len(chosen)}, " + ", ".join(f"{number} {verb}" for verb, number in builder.counts.items()))
        else:
            answer = describe(builder, chosen)
            print(json.dumps(answer, indent=2)) if options.json else print_table(answer)
    except (LabError, subprocess.TimeoutExpired) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

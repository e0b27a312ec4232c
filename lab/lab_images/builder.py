"""Finding, pulling, building and pushing images."""

from __future__ import annotations

import concurrent.futures
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

from lab_images import LAB, LabError, foreign
from lab_images.catalogue import Image
from lab_images.engine import docker, image_id
from lab_images.local import push
from lab_images.recipe import authorities, recipe_hash
from lab_images.registry import in_registry, registry_path
from lab_images.watch import Watch

NAMESPACE = "openmates-lab"
LABEL = "org.openmates.lab"
#: Seconds: a registry's first answer, one pull, one build.
PROBE_TIMEOUT, PULL_TIMEOUT, BUILD_TIMEOUT = 20, 900, 1800


class Builder:
    """Makes, finds and pushes the images of one catalogue."""

    def __init__(
        self, rows: dict[str, Image], probe: str, state: Path, source: str = "auto", architecture: str = ""
    ) -> None:
        """architecture: Debian's name of another processor than this machine's, for which images are always built."""
        self.rows = rows
        self.probe = probe
        self.architecture = architecture
        self.logs = state / "logs" / architecture
        self.authorities = authorities()
        machine = foreign.MACHINES[architecture] if architecture else platform.machine()
        self.hashes = {name: recipe_hash(row, rows, self.authorities, machine=machine) for name, row in rows.items()}
        self.upstream = False
        self.source = "built" if architecture else source
        self.counts = {"built": 0, "pulled": 0, "pushed": 0}
        self.watch = Watch()

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
            docker("tag", found, f"{NAMESPACE}/{row.name}:{self.architecture or 'latest'}")
        if registry and row.image:
            self._push(row, found, registry)

    def _pull(self, row: Image) -> str | None:
        try:
            with self.watch.doing(row.name, f"pulling {row.image}"):
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
            with (
                self.watch.doing(row.name, "building", log),
                log.open("w", encoding="utf-8") as output,
                tempfile.TemporaryDirectory() as scratch,
            ):
                step = self._import_rootfs if row.parent is None else self._build_recipe
                plain = step(row, Path(scratch), output)
                self._label(row, plain, output)
        except (subprocess.SubprocessError, OSError, LabError) as error:
            tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:]
            raise LabError("\n".join([f"{row.name}: {error}", *tail, f"{row.name}: the whole log is {log}"])) from None
        self.counts["built"] += 1
        print(f"{row.name}: built in {time.monotonic() - start:.0f} s", flush=True)
        return str(image_id(self.tag(row)))

    def _platform(self) -> list[str]:
        """The options for another processor. Emulation takes long, so it takes what others leave of this machine's."""
        return ["--platform", f"linux/{self.architecture}", "--cpu-shares", "256"] if self.architecture else []

    def _import_rootfs(self, row: Image, scratch: Path, output) -> str:
        scratch.chmod(0o755)
        for key, pem in self.authorities.items():
            (scratch / f"controller-{key}.crt").write_text(pem, encoding="ascii")
        script = LAB / "images" / row.recipe / "rootfs.sh"
        if self.architecture:
            return foreign.import_rootfs(script, scratch, output, self.architecture, BUILD_TIMEOUT)
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
        dockerfile = folder / "Dockerfile"
        recipe = dockerfile.read_text(encoding="utf-8")
        if self.architecture and foreign.CROSS_STAGE.search(recipe):
            own = f"{NAMESPACE}/{row.parent}:{recipe_hash(self.rows[str(row.parent)], self.rows, self.authorities)}"
            dockerfile = scratch / "Dockerfile"
            dockerfile.write_text(
                foreign.compile_here(recipe, folder, own, scratch, output, self.architecture, BUILD_TIMEOUT),
                encoding="utf-8",
            )
        proxies = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy")]
        for _ in range(2):  # a step whose download broke off is tried again; the steps before it are cached
            result = docker(
                "build", *self._platform(), "--network", "host", "--force-rm", "--iidfile", str(scratch / "id"),
                "--file", str(dockerfile),
                *(part for key, value in arguments.items() for part in ("--build-arg", f"{key}={value}")),
                *(part for name in proxies for part in ("--build-arg", name)),
                str(LAB / row.context if row.context else folder),
                stdout=output, stderr=output, capture_output=False, timeout=BUILD_TIMEOUT,
            )  # fmt: skip
            if result.returncode == 0:
                return (scratch / "id").read_text(encoding="ascii").strip()
        raise LabError(f"docker build failed ({result.returncode})")

    def _label(self, row: Image, plain: str, output) -> None:
        """Give the image its labels and, last of all, its name: a build cut short leaves nothing that looks done."""
        asked = docker(
            "run", "--rm", *self._platform(), "--network", "none", "--user", "0", "--entrypoint", row.shell,
            plain, "-c", row.version,
        )  # fmt: skip
        if asked.returncode or not asked.stdout.strip():
            raise LabError(f"`{row.version}` fails in the image: {asked.stderr.strip()}")
        labels = {f"{LABEL}.software": row.software.replace("{version}", asked.stdout.strip())}
        if row.stand_in:
            labels[f"{LABEL}.stand-in"] = row.stand_in
        lines = [f"FROM {plain}", *([f"CMD {json.dumps(row.cmd)}"] if row.cmd else [])]
        result = docker(
            "build", *self._platform(), "--tag", self.tag(row),
            *(part for key, value in labels.items() for part in ("--label", f"{key}={value}")), "-",
            input="\n".join(lines) + "\n", stdout=output, stderr=output, capture_output=False,
        )  # fmt: skip
        if result.returncode:
            raise LabError(f"labelling failed ({result.returncode})")

    def _push(self, row: Image, identity: str, registry: str) -> None:
        with self.watch.doing(row.name, f"pushing {registry_path(str(row.image))}"):
            pushed = push(str(row.image), identity, registry, self.architecture)
        if pushed:
            self.counts["pushed"] += 1
            print(f"{row.name}: pushed {registry_path(str(row.image))}", flush=True)

    def make_all(self, chosen: list[Image], registry: str | None, jobs: int = 2) -> None:
        """See to all images, jobs at a time, parents before children, otherwise in the catalogue's order.

        Raises LabError for the first image that fails; what is being made then is finished, nothing more is begun.
        """
        if registry:
            in_registry(registry, f"{NAMESPACE}/absent:none")  # better now than after minutes of building
        self.ask_upstream(chosen)
        waiting, done, errors = list(chosen), set(), []
        running: dict[concurrent.futures.Future, Image] = {}
        with self.watch.watching(), concurrent.futures.ThreadPoolExecutor(jobs) as pool:
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

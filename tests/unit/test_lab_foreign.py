"""Images for another processor: the emulator's registration with the kernel, and hashes and paths that differ."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_lab_images import LAB, builder, catalogue, foreign, local, recipe


@pytest.fixture
def rows() -> dict[str, catalogue.Image]:
    return catalogue.load()[0]


def test_the_registration_matches_programs_of_the_processor_and_no_others() -> None:
    line = foreign.registration("arm64", Path("/emulator"))
    _, name, kind, offset, magic, mask, emulator, flags = line.split(b":")
    assert (name, kind, offset, emulator, flags) == (b"openmates-arm64", b"M", b"", b"/emulator", b"POCF")
    magic, mask = (text.decode("ascii").encode().decode("unicode_escape").encode("latin1") for text in (magic, mask))

    def matches(machine: int, kind: int = 2) -> bool:
        header = b"\x7fELF\x02\x01\x01\x03" + bytes(8) + kind.to_bytes(2, "little") + machine.to_bytes(2, "little")
        return all((byte & bits) == wanted for byte, bits, wanted in zip(header, mask, magic, strict=True))

    assert matches(183) and matches(183, kind=3)  # aarch64, also as a position-independent program
    assert not matches(62) and not matches(183, kind=4)  # x86_64; a core file


def test_an_image_of_another_processor_is_another_image(rows: dict[str, catalogue.Image]) -> None:
    own, arm = (recipe.recipe_hash(rows["cache"], rows, [], machine=name) for name in ("x86_64", "aarch64"))
    assert own != arm


def test_an_image_of_another_processor_is_never_pulled_or_called_latest(
    rows: dict[str, catalogue.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(builder, "docker", lambda *arguments, **_: calls.append(arguments))
    monkeypatch.setattr(builder, "image_id", lambda reference: "sha256:1")
    monkeypatch.setattr(builder, "push", lambda *arguments: calls.append(arguments))
    made = builder.Builder(rows, "probe", tmp_path, architecture="arm64")
    made.make(rows["cache"], "registry")
    assert made.source == "built"
    assert calls == [
        ("tag", "sha256:1", "openmates-lab/cache:arm64"),
        (rows["cache"].image, "sha256:1", "registry", "arm64"),
    ]


def test_it_is_pushed_below_the_name_of_its_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(local, "in_registry", lambda registry, path: asked.append(path) or "sha256:1")
    assert not local.push("postgres:17", "sha256:1", "registry", "arm64")
    assert not local.push("postgres:17", "sha256:1", "registry")
    assert asked == ["arm64/library/postgres:17", "library/postgres:17"]


@pytest.mark.parametrize("name", ["directus", "cadvisor"])
def test_a_stage_on_this_processor_gives_way_to_its_result(name: str) -> None:
    dockerfile = (LAB / "images" / name / "Dockerfile").read_text()
    text = foreign.without_cross(dockerfile, "sha256:1")
    assert [line for line in text.splitlines() if line.startswith("FROM ")] == [
        "FROM sha256:1 AS cross",
        "FROM ${PARENT}",
    ]
    assert "COPY --from=cross /built/" in text and "pip install" not in text
    assert set(re.findall(r"^ARG (\w+)$", dockerfile, re.MULTILINE)) - {"PARENT"} <= set(foreign.CROSS["arm64"])


def test_other_recipes_have_no_such_stage() -> None:
    assert not foreign.CROSS_STAGE.search((LAB / "images/postgres/Dockerfile").read_text())

"""The sysctl_settings module on a directory that stands for /proc/sys."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.openmates.server.plugins.modules import sysctl_settings

Run = Callable[..., dict]
REDIRECTS = {"name": "net.ipv4.conf.*.accept_redirects", "value": "0", "reason": "No strangers' routes."}
POINTERS = {"name": "kernel.kptr_restrict", "value": "2", "reason": "No addresses."}


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    root = tmp_path / "proc/sys"
    for name in ("all", "default", "eth0", "eth0.100"):
        (root / "net/ipv4/conf" / name).mkdir(parents=True)
        (root / "net/ipv4/conf" / name / "accept_redirects").write_text("1\n")
    (root / "kernel").mkdir()
    (root / "kernel/kptr_restrict").write_text("0\n")
    return root


@pytest.fixture
def run(run_module: Callable[..., dict], kernel: Path, tmp_path: Path) -> Run:
    def call(*settings: dict, **modes: bool) -> dict:
        file = str(tmp_path / "sysctl.d/ours.conf")
        return run_module(sysctl_settings.main, path=file, settings=list(settings), root=str(kernel), **modes)

    return call


def values(kernel: Path) -> dict[str, str]:
    return {str(path.relative_to(kernel)): path.read_text().strip() for path in kernel.rglob("*") if path.is_file()}


def test_check_run_check_run_change(run: Run, kernel: Path, tmp_path: Path) -> None:
    file, before = tmp_path / "sysctl.d/ours.conf", values(kernel)
    promised = run(REDIRECTS, POINTERS, check=True, diff=True)
    assert promised["changed"] and not file.exists() and values(kernel) == before
    done = run(REDIRECTS, POINTERS, diff=True)
    assert done == promised
    names = [f"net.ipv4.conf.{name}.accept_redirects" for name in ("all", "default", "eth0", "eth0/100")]
    assert done["applied"] == [*names, "kernel.kptr_restrict"]
    assert set(values(kernel).values()) == {"0", "2"} and values(kernel)["kernel/kptr_restrict"] == "2"
    assert file.read_text().splitlines()[2:4] == ["# No strangers' routes.", f"{REDIRECTS['name']} = 0"]

    for check in (True, False):
        result = run(REDIRECTS, POINTERS, check=check, diff=True)
        assert (result["changed"], result["applied"], result["left"], result["diff"]) == (False, [], [], [])

    changed = {**POINTERS, "value": "1"}
    promised = run(REDIRECTS, changed, check=True, diff=True)
    assert run(REDIRECTS, changed, diff=True) == promised
    assert promised["applied"] == ["kernel.kptr_restrict"] and values(kernel)["kernel/kptr_restrict"] == "1"


def test_a_value_that_was_changed_by_hand_is_detected_and_corrected(run: Run, kernel: Path) -> None:
    run(REDIRECTS)
    (kernel / "net/ipv4/conf/eth0/accept_redirects").write_text("1\n")
    assert run(REDIRECTS, check=True)["applied"] == ["net.ipv4.conf.eth0.accept_redirects"]
    assert run(REDIRECTS)["changed"] and not run(REDIRECTS)["changed"]


def test_what_the_kernel_does_not_know_is_written_and_named(run: Run, tmp_path: Path) -> None:
    unknown = {"name": "kernel.no_such_thing", "value": "1", "reason": "For another kernel."}
    first, second = run(unknown), run(unknown)
    assert (first["changed"], first["applied"], first["left"]) == (True, [], ["kernel.no_such_thing"])
    assert (second["changed"], second["left"]) == (False, ["kernel.no_such_thing"])
    assert "kernel.no_such_thing = 1" in (tmp_path / "sysctl.d/ours.conf").read_text()


def test_what_the_kernel_refuses_is_named_and_no_change(
    run: Run, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(REDIRECTS, POINTERS)
    (kernel / "kernel/kptr_restrict").write_text("0\n")
    monkeypatch.setattr(os, "access", lambda path, how: "kptr" not in str(path))
    for check in (True, False):
        result = run(REDIRECTS, POINTERS, check=check)
        assert (result["changed"], result["left"]) == (False, ["kernel.kptr_restrict"])
    assert (kernel / "kernel/kptr_restrict").read_text() == "0\n"


def test_a_value_that_is_right_already_is_not_named_even_if_it_cannot_be_set(
    run: Run, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kernel / "kernel/kptr_restrict").write_text("2\n")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert run(POINTERS)["left"] == []


def test_blanks_between_several_values_do_not_count(run: Run, kernel: Path) -> None:
    (kernel / "net/ipv4/ping_group_range").write_text("1\t0\n")
    setting = {"name": "net.ipv4.ping_group_range", "value": "1 0", "reason": "-"}
    assert run(setting)["applied"] == []

"""Kernel settings: the hardening role's file, and host_files on a directory that stands for /proc/sys."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.openmates.server.plugins.action import host_files as host_files_action
from ansible_collections.openmates.server.plugins.module_utils import sysctl
from ansible_collections.openmates.server.plugins.modules import host_files

TEMPLATES = Path(__file__).parents[2] / "roles/hardening/templates/etc/sysctl.d"
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
def run(run_module: Callable[..., dict], kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(sysctl, "ROOT", kernel)

    def call(*settings: dict, **modes: bool) -> dict:
        wanted = {"hardening_kernel": list(settings)}
        loader = DataLoader()
        action = host_files_action.ActionModule(None, None, None, loader, Templar(loader, wanted), None)
        [file] = action._render(TEMPLATES, [], wanted)
        file["path"] = "ours.conf"
        folder = str(tmp_path / "sysctl.d")
        return run_module(host_files.main, dest=folder, files=[file], sysctl=list(settings), **modes)

    return call

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
    assert done["sysctl_applied"] == [*names, "kernel.kptr_restrict"]
    assert set(values(kernel).values()) == {"0", "2"} and values(kernel)["kernel/kptr_restrict"] == "2"
    assert file.read_text().splitlines()[:2] == ["# Managed by Ansible (role hardening).", ""]
    assert file.read_text().splitlines()[2:4] == ["# No strangers' routes.", f"{REDIRECTS['name']} = 0"]

    for check in (True, False):
        result = run(REDIRECTS, POINTERS, check=check, diff=True)
        assert (result["changed"], result["sysctl_applied"], result["sysctl_left"], result["diff"]) == (
            False,
            [],
            [],
            [],
        )

    changed = {**POINTERS, "value": "1"}
    promised = run(REDIRECTS, changed, check=True, diff=True)
    assert run(REDIRECTS, changed, diff=True) == promised
    assert promised["sysctl_applied"] == ["kernel.kptr_restrict"] and values(kernel)["kernel/kptr_restrict"] == "1"


def test_a_value_that_was_changed_by_hand_is_detected_and_corrected(run: Run, kernel: Path) -> None:
    run(REDIRECTS)
    (kernel / "net/ipv4/conf/eth0/accept_redirects").write_text("1\n")
    assert run(REDIRECTS, check=True)["sysctl_applied"] == ["net.ipv4.conf.eth0.accept_redirects"]
    assert run(REDIRECTS)["changed"] and not run(REDIRECTS)["changed"]


def test_what_the_kernel_does_not_know_is_written_and_named(run: Run, tmp_path: Path) -> None:
    unknown = {"name": "kernel.no_such_thing", "value": "1", "reason": "For another kernel."}
    first, second = run(unknown), run(unknown)
    assert (first["changed"], first["sysctl_applied"], first["sysctl_left"]) == (True, [], ["kernel.no_such_thing"])
    assert (second["changed"], second["sysctl_left"]) == (False, ["kernel.no_such_thing"])
    assert "kernel.no_such_thing = 1" in (tmp_path / "sysctl.d/ours.conf").read_text()


def test_what_the_kernel_refuses_is_named_and_no_change(
    run: Run, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(REDIRECTS, POINTERS)
    (kernel / "kernel/kptr_restrict").write_text("0\n")
    monkeypatch.setattr(os, "access", lambda path, how: "kptr" not in str(path))
    for check in (True, False):
        result = run(REDIRECTS, POINTERS, check=check)
        assert (result["changed"], result["sysctl_left"]) == (False, ["kernel.kptr_restrict"])
    assert (kernel / "kernel/kptr_restrict").read_text() == "0\n"


def test_a_value_that_is_right_already_is_not_named_even_if_it_cannot_be_set(
    run: Run, kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kernel / "kernel/kptr_restrict").write_text("2\n")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert run(POINTERS)["sysctl_left"] == []


def test_blanks_between_several_values_do_not_count(run: Run, kernel: Path) -> None:
    (kernel / "net/ipv4/ping_group_range").write_text("1\t0\n")
    setting = {"name": "net.ipv4.ping_group_range", "value": "1 0", "reason": "-"}
    assert run(setting)["sysctl_applied"] == []


def test_what_a_file_sets_at_boot_after_ours_is_found(tmp_path: Path) -> None:
    """systemd sorts by name over all folders, and a file of /etc hides its namesake elsewhere."""
    [ours] = TEMPLATES.iterdir()
    assert ours.name == f"{sysctl.OURS}.j2"
    for path, text in {
        "etc/sysctl.d/99-sysctl.conf": "kernel.kptr_restrict = 0\n",
        "etc/sysctl.d/99-zz.conf": "kernel.kptr_restrict = 0\n",
        f"etc/sysctl.d/{sysctl.OURS}": "kernel.kptr_restrict = 2\n",
        "etc/sysctl.d/zzz.conf": "# a = 1\n\n-kernel/kptr_restrict=1\nnet.ipv4.tcp_rmem = 1  2 3\nno equals\n= 1\n",
        "usr/lib/sysctl.d/zzz.conf": "kernel.sysrq = 1\n",
        "usr/lib/sysctl.d/zzzz.conf": "net/ipv4/conf/eth0.100/rp_filter = 2\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert [tuple(item.values()) for item in sysctl.set_later(tmp_path)] == [
        ("/etc/sysctl.d/zzz.conf", "kernel.kptr_restrict", "1"),
        ("/etc/sysctl.d/zzz.conf", "net.ipv4.tcp_rmem", "1 2 3"),
        ("/usr/lib/sysctl.d/zzzz.conf", "net.ipv4.conf.eth0/100.rp_filter", "2"),
    ]

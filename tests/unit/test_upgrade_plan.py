"""What an upgrade of packages would change and interrupt, read from the output of Debian's programs."""

from __future__ import annotations

import pytest
from ansible_collections.openmates.server.plugins.plugin_utils.upgrade.apt import download_bytes, plan
from ansible_collections.openmates.server.plugins.plugin_utils.upgrade.needrestart import needs
from ansible_collections.openmates.server.plugins.plugin_utils.upgrade.report import report
from ansible_collections.openmates.server.plugins.plugin_utils.upgrade.space import MARGIN, MEGA, space_problems

DOCKER = ["docker", "containerd", "runc"]
SIMULATED = """\
NOTE: This is only a simulation!
Reading package lists...
Building dependency tree...
Calculating upgrade...
The following NEW packages will be installed:
  linux-image-6.12.60+deb13-arm64
The following packages have been kept back:
  libfoo1 libbar2:arm64
  python3-baz
The following packages will be upgraded:
  docker.io libc6 nginx linux-image-arm64
Inst libc6 [2.41-12] (2.41-12+deb13u1 Debian-Security:13/stable-security [arm64]) [libc-bin:arm64 ]
Conf libc6 (2.41-12+deb13u1 Debian-Security:13/stable-security [arm64])
Inst docker.io [26.1.5+dfsg1-9] (26.1.5+dfsg1-9+b13 Debian:13.2/stable [arm64])
Inst nginx [1.26.3-3] (1.26.3-3+deb13u1 Debian:13.2/stable [arm64])
Inst linux-image-6.12.60+deb13-arm64 (6.12.60-1 Debian:13.2/stable [arm64])
Inst linux-image-arm64 [6.12.57-1] (6.12.60-1 Debian:13.2/stable [arm64])
"""


def names(found: dict) -> list[str]:
    return [package["name"] for package in found["packages"]]


def test_each_package_has_its_old_and_its_new_version() -> None:
    found = plan(SIMULATED, DOCKER)
    versions = {package["name"]: (package["old"], package["new"]) for package in found["packages"]}
    assert versions["libc6"] == ("2.41-12", "2.41-12+deb13u1")
    assert versions["linux-image-6.12.60+deb13-arm64"] == ("", "6.12.60-1")
    assert len(versions) == 5 and names(found) == sorted(versions)
    assert found["docker"] == ["docker.io"]
    assert found["kept_back"] == ["libbar2", "libfoo1", "python3-baz"]


def test_an_operators_hold_stays_but_for_dockers_packages() -> None:
    found = plan(SIMULATED, DOCKER, ["nginx", "docker.io"])
    assert "docker.io" in names(found) and "nginx" not in names(found) and "nginx" in found["kept_back"]


def test_a_simulation_without_anything_to_do_is_an_empty_plan() -> None:
    text = "Reading package lists...\nCalculating upgrade...\n0 upgraded, 0 newly installed, 0 to remove.\n"
    assert plan(text, DOCKER) == {"packages": [], "docker": [], "kept_back": []}


def test_the_download_is_the_sum_of_what_is_missing() -> None:
    uris = (
        "Reading package lists...\n"
        "'http://deb.example.org/a_1%2b2_arm64.deb' a_1%2b2_arm64.deb 1000 SHA256:ab\n"
        "'http://deb.example.org/b_1_all.deb' b_1_all.deb 234 MD5Sum:cd\n"
    )
    assert download_bytes(uris) == 1234
    assert download_bytes("Reading package lists...\n") == 0


@pytest.mark.parametrize(
    ("output", "reasons"),
    [
        ("", []),
        ("NEEDRESTART-VER: 3.8\nNEEDRESTART-KCUR: 6.12.57\nNEEDRESTART-KEXP: 6.12.57\nNEEDRESTART-KSTA: 1\n", []),
        ("NEEDRESTART-KSTA: 0\n", []),
        (
            "NEEDRESTART-KCUR: 6.12.57\nNEEDRESTART-KEXP: 6.12.60\nNEEDRESTART-KSTA: 3\n",
            ["the kernel 6.12.60 is installed, and 6.12.57 runs"],
        ),
        ("REBOOT-REQUIRED: libc6,systemd\n", ["/run/reboot-required exists (libc6,systemd)"]),
        ("REBOOT-REQUIRED: \nNEEDRESTART-KSTA: 1\n", ["/run/reboot-required exists"]),
    ],
)
def test_a_reboot_is_needed_for_another_kernel_or_if_a_package_says_so(output: str, reasons: list[str]) -> None:
    assert needs(output)["reasons"] == reasons


def test_services_with_replaced_files_are_named() -> None:
    assert needs("NEEDRESTART-SVC: docker.service\nNEEDRESTART-SVC: containerd.service\n")["services"] == [
        "containerd.service",
        "docker.service",
    ]


def df(archives: int, usr: int, boot: int) -> str:
    return f"     Avail File\n{archives} /var/cache/apt/archives\n{usr} /usr\n {boot} /boot\n"


@pytest.mark.parametrize(
    ("table", "kernels", "directories"),
    [
        (df(10**10, 10**10, 10**10), ["linux-image-1"], []),
        (df(MARGIN + 9, 10**10, 0), [], ["/var/cache/apt/archives"]),
        (df(10**10, MARGIN + 39, 0), [], ["/usr"]),
        (df(10**10, 10**10, 250 * MEGA), ["linux-image-1", "linux-image-arm64"], ["/boot"]),
    ],
)
def test_a_disk_that_is_too_full_is_named(table: str, kernels: list[str], directories: list[str]) -> None:
    assert [problem.split()[0] for problem in space_problems(table, 10, kernels)] == directories


def test_without_a_download_no_space_is_needed() -> None:
    assert space_problems(df(0, 0, 0), 0) == []


# ---------------------------------------------------------------- the report

NONE = {"reasons": [], "wanted": True}
REQUIRED = {"reasons": ["/run/reboot-required exists"], "wanted": True}


def told(found: dict, reboot: dict, left: bool = False) -> str:
    return "\n".join(report(found, reboot, 370, left))


def test_the_report_names_packages_and_what_is_interrupted_for_how_long() -> None:
    text = told(plan(SIMULATED, DOCKER), NONE)
    assert "Packages to be upgraded: 5" in text
    assert "- libc6 2.41-12 -> 2.41-12+deb13u1" in text
    assert "- linux-image-6.12.60+deb13-arm64 (not installed) -> 6.12.60-1" in text
    assert "Docker restarts (docker.io)" in text and "370 s" in text
    assert "The server restarts: a new kernel (linux-image-6.12.60+deb13-arm64, linux-image-arm64)" in text
    assert "Kept back" in text and "python3-baz" in text
    assert "No client notices it" not in text


def test_a_harmless_upgrade_is_called_so() -> None:
    harmless = plan("Inst tzdata [2025b-4] (2025c-1 Debian:13/stable [all])\n", DOCKER)
    assert told(harmless, NONE).splitlines()[-1] == "No client notices it."
    assert "The server restarts" in told(harmless, REQUIRED) and "No client" not in told(harmless, REQUIRED)
    pending = told(harmless, REQUIRED | {"wanted": False})
    assert "A reboot is pending, and left to an operator (upgrade_reboot): /run/reboot-required" in pending


def test_nothing_to_do_and_an_interrupted_run_are_reported() -> None:
    nothing = plan("", DOCKER)
    assert told(nothing, NONE) == "No package is to be upgraded."
    assert told(nothing, NONE, left=True).startswith("An earlier upgrade was interrupted: this run continues it.")


def test_caddy_is_noticed() -> None:
    assert "Caddy restarts" in told(plan("Inst caddy [2.6.2-12] (2.6.2-13 Debian:13/stable [arm64])\n", DOCKER), NONE)

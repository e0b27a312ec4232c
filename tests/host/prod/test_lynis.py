"""An audit by Lynis of a completely provisioned server."""

from __future__ import annotations

import re

import pytest

from lab import ROOT, Server

REPORT = "/var/log/lynis-report.dat"
SECTION = "## What Lynis still suggests"


@pytest.fixture(scope="module")
def report(server: Server, up_to_date: None) -> list[str]:
    """The lines of a new audit's report."""
    # A server does not need Lynis: it is installed for the test and removed after it.
    before = server.host.run("command -v lynis").rc == 0
    if not before:
        server.run("apt-get -o DPkg::Lock::Timeout=300 install --yes --quiet=2 --no-install-recommends lynis 2>&1")
        # A dependency of Lynis creates a directory of cron jobs: the next run corrects its permissions.
        assert server.playbook("site.yml", "--tags", "hardening").returncode == 0
    server.run("systemctl start openmates-integrity.service")  # as every night: the first one records the files
    # Lynis treats root's temporary directory of Ansible as a sign of automation; only some versions leave one.
    server.run("rm -rf /root/.ansible")
    try:
        server.run(f"rm -f {REPORT}; lynis audit system --quiet --no-colors > /dev/null 2>&1; test -s {REPORT}")
        return server.run(f"cat {REPORT}").splitlines()
    finally:
        if not before:
            server.run("apt-get purge --yes --quiet=2 lynis 2>&1 && rm -f /var/log/lynis*")


def test_the_score(report):
    [score] = [int(line.partition("=")[2]) for line in report if line.startswith("hardening_index=")]
    assert score >= 85


def test_there_are_no_warnings(report):
    assert [line for line in report if line.startswith(("warning[]=", "vulnerable_package[]="))] == []


def test_every_suggestion_that_is_left_stands_in_the_docs_with_its_reason(report):
    left = {match[1] for line in report if (match := re.match(r"suggestion\[\]=([A-Z0-9-]+)\|", line))}
    section = (ROOT / "docs/hardening.md").read_text().partition(SECTION)[2].partition("\n## ")[0]
    assert left == set(re.findall(r"^\| ([A-Z]+(?:-\d+)?) \| \S", section, re.MULTILINE))

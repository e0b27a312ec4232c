"""docs/architecture.md has every row of the guidelines' tables, and the paths that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text()

# Typed in from the service tables of the architecture guidelines: service -> exposed to the internet, port on the host.
INTERNAL = (
    "cms-database",
    "cache",
    "vault",
    "task-worker",
    "task-scheduler",
    "prometheus",
    "loki",
    "promtail",
    "cadvisor",
)
ONCE = ("vault-setup", "cms-setup")
EXPOSURE = {
    "development": {
        "api": ("yes", "`REST_API_PORT`"),
        "cms": ("yes", "`CMS_PORT`, 8055"),
        "grafana": ("yes", "3001"),
        **{name: ("no", "-") for name in INTERNAL},
        **{name: ("no, runs once", "-") for name in ONCE},
    },
    "production": {
        "api": ("yes, through the proxy", "-"),
        "cms": ("no", "-"),
        "grafana": ("no", "-"),
        **{name: ("no", "-") for name in INTERNAL},
        **{name: ("no, runs once", "-") for name in ONCE},
    },
}
# The subjects of the guidelines' bullets, in their order.
DETAILS = {
    "Details (development)": [
        *("Setup", "Server", "Frontend", "`api`", "`cms`", "`cms-database`", "`cache`", "`vault`", "`task-worker`"),
        *("`prometheus`", "`grafana`", "Exposure"),
    ],
    "Details (production)": [
        *("Setup", "Backend server", "Frontend hosting", "Exposure", "Exposure", "Exposure"),
        *("Communication", "Communication", "Communication"),
    ],
    "Frontend components": ["Website", "Web app"],
    "Future architecture (Apps)": ["Concept", "Deployment", "Technology", "Functionality", "Interaction"],
}
HEADINGS = [*(f"Service exposure ({environment})" for environment in EXPOSURE), *DETAILS]


def table(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    _, found, rest = PAGE.partition(f"## {heading}\n")
    assert found, heading
    rows = re.findall(r"^\|(.*)\|$", rest.partition("\n## ")[0], re.MULTILINE)[2:]
    return [[cell.strip() for cell in row.split("|")] for row in rows]


@pytest.mark.parametrize("environment", EXPOSURE)
def test_every_service_has_a_row_like_the_guidelines(environment: str) -> None:
    rows = table(f"Service exposure ({environment})")
    assert {service.strip("`"): (internet, port) for service, internet, port, *_ in rows} == EXPOSURE[environment]
    assert len(rows) == len(EXPOSURE[environment])


@pytest.mark.parametrize("heading", DETAILS)
def test_every_detail_has_a_row(heading: str) -> None:
    rows = table(heading)
    assert len(rows) == len(DETAILS[heading])
    for (guideline, *_), subject in zip(rows, DETAILS[heading], strict=True):
        assert guideline.startswith(subject), guideline


@pytest.mark.parametrize("heading", HEADINGS)
def test_every_row_names_a_proof_or_states_that_there_is_none(heading: str) -> None:
    for *_, made_true_in, proof in table(heading):
        assert made_true_in
        assert re.search(r"`(tests|extensions/molecule)/", proof) or proof.startswith("no test:"), proof


def paths() -> list[str]:
    """What the page names of this project: in backquotes or as a link, with a folder before it."""
    named = re.findall(r"`([\w.-]+(?:/[\w.@-]+)+(?:::\w+)?)`", PAGE)
    linked = [(ROOT / "docs" / link).resolve().relative_to(ROOT) for link in re.findall(r"\]\(([^):#]+)\)", PAGE)]
    return sorted({*named, *map(str, linked)})


def test_everything_that_it_names_exists() -> None:
    missing = []
    for name in paths():
        path, _, function = name.partition("::")
        file = ROOT / path
        if not file.exists() or (function and f"def {function}(" not in file.read_text()):
            missing.append(name)
    assert missing == []
    assert len(paths()) > 40

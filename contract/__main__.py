"""Compare OpenMates' source with this project.

Exit codes: 0 nothing would break, 1 something would, 2 the comparison could not be made.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from contract import accepted, directus, environment, images, queues, report, routes, vault, volumes
from contract.findings import BREAKS, ContractError, Finding
from contract.project import Project
from contract.source import open_tree
from contract.upstream import Upstream

CONCERNS = (environment, vault, routes, queues, volumes, images, directus)
ROOT = Path(__file__).resolve().parents[1]


def findings(upstream: Upstream, project: Project) -> Iterator[Finding]:
    for concern in CONCERNS:
        yield from concern.compare(upstream, project)


def _content(finding: Finding) -> tuple[str, ...]:
    """What makes it the same finding in two versions: not the line that it is found at."""
    return finding.level, finding.identity, re.sub(r":\d+", "", finding.problem)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make contract", description=__doc__.splitlines()[0])
    parser.add_argument("openmates", type=Path, help="a checkout, a Git repository, or a .tar or .zip archive")
    parser.add_argument("--rev", default="", help="revision, if it is a Git repository; default: the checkout, or HEAD")
    parser.add_argument("--since", default="", help="show only what is not so at this revision of the repository")
    parser.add_argument("--project", type=Path, default=ROOT, help="a checkout of this project; default: this one")
    parser.add_argument("--accepted", action="store_true", help="list the accepted differences with their reasons")
    options = parser.parse_args(arguments)
    try:
        project = Project.of(options.project)
        tree = open_tree(options.openmates, options.rev)
        found = list(findings(Upstream(tree), project))
        if options.since and options.openmates.is_file():
            raise ContractError(f"SINCE={options.since} is set, but {options.openmates} is an archive. Drop SINCE.")
        if options.since:
            before = {_content(one) for one in findings(Upstream(open_tree(options.openmates, options.since)), project)}
            found = [one for one in found if _content(one) not in before]
        standing, agreed, unused = accepted.sort_out(found, accepted.load())
    except ContractError as error:
        print(f"contract: {error}", file=sys.stderr)
        return 2
    title = f"OpenMates, {tree.name}, compared with {options.project.resolve()}"
    print("\n".join(report.lines(title, standing, agreed, unused, since=options.since, details=options.accepted)))
    return 1 if any(finding.level == BREAKS for finding in standing) else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Makes the lab's container images and puts them into the lab's registry.

Where upstream's registry answers, upstream's images are pulled; where it does not, images of the same name and contract
are built from the recipes in lab/images. Both are cached: an image is made again only when its recipe, its parent, its
build context or the trusted certificate authorities change, and pushed only when the registry does not hold it yet.

Needs a Docker engine (lab/engine.sh sees to one) and PyYAML.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from lab_images import LAB, LabError, foreign
from lab_images.builder import Builder
from lab_images.catalogue import CATALOGUE, load, wanted
from lab_images.listing import describe, print_table
from lab_images.local import offer, refresh

STATE = LAB.parent / ".lab"
REGISTRY = "127.0.0.1:5443"


def main(arguments: list[str] | None = None) -> int:
    """Command line; see --help. Returns 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalogue", type=Path, default=CATALOGUE, help="default: images.yml beside this file")
    parser.add_argument("--state", type=Path, default=STATE, help="folder for logs; default: .lab in the project")
    parser.add_argument("--source", choices=["auto", "built"], default="auto",
                        help="auto: upstream's images where a registry answers; built: never ask")  # fmt: skip
    parser.add_argument("--architecture", choices=sorted(foreign.MACHINES), default="",
                        help="another processor than this machine's; in the registry, below its name")  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="pull or build what is missing and push it to the lab's registry")
    build.add_argument("--registry", default=REGISTRY, help=f"registry on loopback to push to; default: {REGISTRY}")
    build.add_argument("--no-push", action="store_true", help="only make the images, as before the registry runs")
    build.add_argument("--jobs", type=int, default=2, help="images made at a time; default: 2")
    listing = verbs.add_parser("list", help="show each image, where it comes from and whether it is a stand-in")
    listing.add_argument("--json", action="store_true", help="for programs")
    local = verbs.add_parser("local", help="offer images that the local engine has, and no row names, to a lab host")
    local.add_argument("--registry", default=REGISTRY, help=f"registry on loopback to push to; default: {REGISTRY}")
    local.add_argument("--registry-name", required=True, help="the registry's name as the lab host knows it")
    local.add_argument("--host", required=True, help="the lab host's container")
    local.add_argument("names", nargs="*", metavar="IMAGE", help="the images that the host's inventory names")
    for verb in (build, listing):
        verb.add_argument("names", nargs="*", metavar="NAME", help="only these (and their parents); default: all")
    options = parser.parse_args(arguments)
    try:
        rows, probe = load(options.catalogue)
        if options.verb == "local":
            images = offer(options.names, rows, options.registry)
            pulled = refresh(options.host, images, options.registry_name)
            print(f"local images: {len(images)}, {len(pulled)} pulled again")
            return 0
        builder = Builder(rows, probe, options.state, options.source, options.architecture)
        chosen = wanted(options.names, rows)
        if options.architecture:
            foreign.emulate(options.state, options.architecture)
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

"""What another installation leaves on a server that was provisioned is named before any change, all at once."""

from __future__ import annotations

import json

MOVED = {"openmates_docker_options": {"data-root": "/srv/docker"}}
LEFTOVERS = """
image=$(docker ps --quiet | head -n 1 | xargs docker inspect --format '{{.Image}}')
docker create --name openmates-api-9 "$image"
systemctl enable nftables.service
"""


def test_leftovers_are_named_with_their_remedies(server):
    try:
        server.run(LEFTOVERS)
        run = server.playbook("site.yml", "--tags", "preflight", "-e", json.dumps(MOVED))
    finally:
        server.run("docker rm --force openmates-api-9; systemctl disable nftables.service")
    assert run.returncode != 0
    for words in (
        "sudo docker rm --force openmates-api-9",
        "sudo systemctl disable --now nftables.service",
        "the volumes are in /var/lib/docker",
    ):
        assert words in run.stdout, run.stdout[-4000:]

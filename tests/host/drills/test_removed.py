"""remove.yml: the stack goes, its data only with the server's name; a killed removal is repeated."""

from __future__ import annotations

from lab import STACK, Server, recap, wait_until

VOLUMES = "docker volume ls --quiet --filter label=com.docker.compose.project=openmates"
CONTAINERS = "docker ps --all --quiet --filter label=com.docker.compose.project=openmates"
NETWORKS = "docker network ls --quiet --filter label=com.docker.compose.project=openmates"
#: A file in a volume that no service writes.
SEED = "docker volume inspect --format '{{.Mountpoint}}' openmates-vault-data"


def remove(server: Server, *arguments: str):
    return server.playbook("playbooks/remove.yml", *arguments)


def words(done) -> str:
    return " ".join((done.stdout + done.stderr).split())


def test_the_stack_goes_and_comes_back_with_its_data(server: Server) -> None:
    refused = remove(server, "-e", "remove_data=prod")
    assert refused.returncode != 0 and 'Nothing was removed: remove_data is "prod"' in words(refused), refused.stdout
    assert server.containers()

    keys = (server.operator.keys / f"{server.name}.yml").read_bytes()
    volumes = server.run(VOLUMES)
    canary = f"{server.run(SEED).strip()}/canary"
    server.run(f"touch {canary}")

    dry = remove(server, "--check")
    assert dry.returncode == 0 and recap(dry.stdout)["changed"] > 0, dry.stdout
    assert "The data stays" in words(dry) and server.containers()

    # As if a removal had been killed half way.
    server.run("systemctl stop openmates-heal && docker rm --force openmates-api-1 openmates-grafana-1")
    done = remove(server)
    assert done.returncode == 0, done.stdout
    assert server.run(CONTAINERS) == "" and server.run(NETWORKS) == ""
    assert server.run(VOLUMES) == volumes
    assert server.host.file(STACK).exists and server.host.file(canary).exists
    for unit in ("openmates-heal.service", "openmates-vault-unseal.timer", "openmates-vault-token.timer", "caddy"):
        assert not server.host.service(unit).is_running, unit
    assert server.host.service("openmates-firewall.service").is_running
    assert (server.operator.keys / f"{server.name}.yml").read_bytes() == keys

    again = remove(server)
    assert again.returncode == 0 and recap(again.stdout)["changed"] == 0, again.stdout
    history = server.playbook("playbooks/history.yml", "-e", "history_last=3")
    assert "remove" in history.stdout and "nothing changed" in history.stdout

    back = server.playbook("site.yml")
    assert back.returncode == 0, back.stdout[-4000:]
    assert server.host.file(canary).exists and server.run(VOLUMES) == volumes
    server.run(f"rm {canary}")
    wait_until(lambda: server.host.run("openmates-ready").rc == 0, "OpenMates is ready")


def test_the_data_goes_with_the_word_and_the_keys_stay(server: Server) -> None:
    # As the scan of the other servers may do, which a timer starts: it writes as it is stopped.
    drop_in = "/run/systemd/system/openmates-heal.service.d/late.conf"
    line = "[Service]\nExecStopPost=+/usr/bin/touch /var/lib/openmates/late.json\n"
    server.run(f"install -D /dev/null {drop_in} && printf '{line}' > {drop_in} && systemctl daemon-reload")

    done = remove(server, "-e", f"remove_data={server.name}")
    assert done.returncode == 0 and "ALL DATA, for ever" in words(done), done.stdout
    assert server.run(VOLUMES) == "" and server.run(CONTAINERS) == ""
    assert not server.host.file(STACK).exists
    assert server.run("ls --almost-all /var/lib/openmates").split() == ["change.lock"]
    assert "openmates-vault" not in server.run("ls /etc/credstore.encrypted 2> /dev/null || true")
    assert (server.operator.keys / f"{server.name}.yml").exists()
    again = remove(server, "-e", f"remove_data={server.name}")
    assert again.returncode == 0 and recap(again.stdout)["changed"] == 0, again.stdout

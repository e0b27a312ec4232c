"""Caddy's sandbox on the host."""

from __future__ import annotations

import json
import re
import secrets

from web import ask

from lab import recap, wait_until


def test_the_kernel_confines_the_process(server):
    pid = server.run("systemctl show --value --property MainPID caddy")
    status = dict(line.split(":\t") for line in server.run(f"cat /proc/{pid}/status").splitlines() if ":\t" in line)
    bind_low_ports = f"{1 << 10:016x}"
    assert status["Uid"].split()[0] == server.run("id -u caddy") != "0"
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {bind_low_ports}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    mounts = server.run(f"cat /proc/{pid}/mountinfo").splitlines()
    root = next(line for line in mounts if line.split()[4] == "/")
    assert root.split()[5].split(",")[0] == "ro"
    writable = {line.split()[4] for line in mounts if line.split()[5].split(",")[0] == "rw"}
    assert {"/var/lib/caddy", "/run/caddy"} <= writable
    assert not any(path.startswith(("/etc", "/opt", "/root", "/home", "/usr", "/var/lib/docker")) for path in writable)


def test_systemd_rates_the_unit_as_confined(server):
    score = re.search(r"exposure level for caddy.service: ([\d.]+)", server.run("systemd-analyze security caddy"))
    assert float(score[1]) <= 1.5  # as packaged: 8.8


def test_only_caddys_user_reaches_the_admin_interface(server):
    assert server.run("ss -Hltn sport = :2019") == ""
    assert server.run("stat -c '%a %U' /run/caddy") == "700 caddy"
    curl = "curl -sS --max-time 5 --unix-socket /run/caddy/admin.sock -H 'Host;' http://x/config/"
    assert "unix//run/caddy/admin.sock" in server.run(f"runuser -u caddy -- {curl}")
    assert server.host.run(f"runuser -u nobody -- {curl}").rc == 7


def test_reloading_works_through_the_socket_and_twice(server):
    pid = server.run("systemctl show --value --property MainPID caddy")
    for _ in range(2):
        server.run("systemctl reload caddy")
    assert server.run("systemctl show --value --property MainPID caddy") == pid
    assert ask(server, "GET", "/v1/health").status == 200


def test_the_log_holds_no_credentials(server):
    planted, path = secrets.token_hex(8), f"/nowhere-{secrets.token_hex(4)}"
    headers = {"Authorization": f"Bearer {planted}", "Cookie": f"session={planted}", "X-Api-Key": planted}
    ask(server, "GET", f"{path}?token={planted}", headers=headers)
    entry = wait_until(
        lambda: server.run(f"journalctl --unit caddy --output cat | grep -F '{path}' || true"),
        "the request is logged",
        30,
    )
    assert json.loads(entry)["request"]["remote_ip"] == "198.51.100.1"
    assert planted not in server.run("journalctl --unit caddy --output cat --since -1min")


def test_the_role_alone_installs_its_package(server):
    server.run("DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 remove --yes --quiet=2 caddy 2>&1")
    assert not server.host.package("caddy").is_installed
    result = server.playbook("site.yml", "--tags", "caddy")
    assert result.returncode == 0, result.stdout
    assert server.host.package("caddy").is_installed
    assert ask(server, "GET", "/v1/health").status == 200
    # What is there is not installed again: the task that would do it is skipped.
    again = server.playbook("site.yml", "--tags", "caddy")
    assert recap(again.stdout)["changed"] == 0
    assert "packages : Install packages" not in again.stdout

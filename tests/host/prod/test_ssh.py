"""Logins by SSH: users, methods and forwarding."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from lab import wait_until

INTRUDER = "intruder"
# Typed in: the expected output of `sshd -T`.
EFFECTIVE = {
    **{"permitrootlogin": "no", "authenticationmethods": "publickey", "passwordauthentication": "no"},
    **{"kbdinteractiveauthentication": "no", "hostbasedauthentication": "no", "gssapiauthentication": "no"},
    **{"permitemptypasswords": "no", "permituserenvironment": "no", "permituserrc": "no"},
    **{"allowgroups": "ssh-admins", "hostkey": "/etc/ssh/ssh_host_ed25519_key", "strictmodes": "yes"},
    **{"allowtcpforwarding": "no", "allowagentforwarding": "no", "allowstreamlocalforwarding": "no"},
    **{"x11forwarding": "no", "permittunnel": "no", "permitlisten": "none", "gatewayports": "no"},
    **{"maxauthtries": "3", "logingracetime": "30", "maxstartups": "10:30:60", "loglevel": "VERBOSE"},
    **{"clientaliveinterval": "100", "clientalivecountmax": "2", "tcpkeepalive": "no", "compression": "no"},
}
TOOLS = {"alertmanager": 9093, "cms": 8055, "grafana": 3000, "prometheus": 9090, "vault": 8200}
CLOSED = (
    "cache:6379",
    "127.0.0.1:22",
    "localhost:8000",
    "grafana:22",
    "172.30.0.1:22",
    "169.254.169.254:80",
    "1.1.1.1:80",
)


def effective(server, match: str = "") -> dict[str, str]:
    lines = server.run(f"sshd -T {match}").splitlines()
    return dict(line.split(" ", 1) for line in lines if " " in line)


def test_a_scanner_of_ssh_servers_finds_nothing_to_object_to(server):
    program = shutil.which("ssh-audit")
    assert program, "ssh-audit is not installed: run `make setup`"
    for address in server.addresses:
        command = [program, "--policy", "Hardened Debian 13 (version 1)", address]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "Passed" in done.stdout, done.stdout + done.stderr


def test_sshd_has_the_settings_that_count(server):
    found = effective(server)
    assert {key: found[key] for key in EFFECTIVE} == EFFECTIVE
    assert {"crash:90", "authfail:5", "max:600"} <= set(found["persourcepenalties"].split())
    assert found["persourcepenaltyexemptlist"] == "198.51.100.1,2001:db8:51::1"


OVERRIDES = {  # what puts other settings in force, and words of the refusal
    "sed -i 's/^Include/#&/' /etc/ssh/sshd_config": ["maxauthtries 6", "Put `Include"],
    "echo 'PermitRootLogin yes' > /etc/ssh/sshd_config.d/00-a.conf": [
        "permitrootlogin yes",
        "00-a.conf:PermitRootLogin",
    ],
    "printf 'Match User root\\n  PermitRootLogin yes\\n' > /etc/ssh/sshd_config.d/00-a.conf": [
        "For root",
        "00-a.conf:",
    ],
    "echo 'AllowUsers someone' >> /etc/ssh/sshd_config": ["allowusers someone", "/etc/ssh/sshd_config:AllowUsers"],
}


@pytest.fixture
def restored(server) -> Iterator[None]:
    """The configuration of sshd is put back as it was; sshd itself never reads what a test does to it."""
    server.run("cp -a /etc/ssh /run/ssh-before")
    yield
    server.run("rm -r /etc/ssh && mv /run/ssh-before /etc/ssh")


@pytest.mark.parametrize("override", OVERRIDES)
def test_settings_that_others_override_are_noticed(server, restored, override):
    check = "/usr/local/sbin/openmates-sshd-check admin"
    server.run(check)
    server.run(override)
    refused = server.host.run(check)
    assert refused.rc == 1 and all(words in refused.stderr for words in OVERRIDES[override]), refused.stderr


def test_a_run_does_not_end_green_while_other_settings_are_in_force(server, restored):
    server.run(next(iter(OVERRIDES)))
    run = server.playbook("site.yml", "--tags", "ssh")
    assert run.returncode and "Put `Include /etc/ssh/sshd_config.d/*.conf` back" in run.stdout, run.stdout[-3000:]
    assert "it was in effect the whole time" in run.stdout


@pytest.mark.parametrize("user", ["root", "nobody", "unknown-user"])
def test_only_the_administrator_can_log_in(server, ssh, user):
    done = ssh("-l", user, server.name, "true")
    assert done.returncode == 255 and "Permission denied (publickey)" in done.stderr


def test_a_password_is_not_even_asked_for(server, ssh):
    done = ssh("-v", "-o", "BatchMode=no", "-o", "PubkeyAuthentication=no", server.name, "true")
    offered = re.findall(r"Authentications that can continue: (.*)", done.stderr)
    assert done.returncode == 255 and {line.strip() for line in offered} == {"publickey"}


def test_a_user_with_a_key_has_to_be_in_the_group(server, ssh):
    server.run(f"useradd --create-home {INTRUDER}")
    try:
        server.run(f"cp -a /home/admin/.ssh /home/{INTRUDER}/ && chown -R {INTRUDER}: /home/{INTRUDER}/.ssh")
        assert ssh("-l", INTRUDER, server.name, "true").returncode == 255
        server.run(f"usermod --append --groups ssh-admins {INTRUDER}")
        assert ssh("-l", INTRUDER, server.name, "true").returncode == 0
    finally:
        server.run(f"userdel --force --remove {INTRUDER} 2>/dev/null")


def test_the_administrators_keys_are_the_operators_alone(server):
    file = server.host.file("/home/admin/.ssh/authorized_keys")
    assert (file.mode, file.user, len(file.content_string.splitlines())) == (0o600, "admin", 1)


# ---------------------------------------------------------------- forwarding


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tunnel_leads_to_an_internal_tool_by_name_and_by_address(server, ssh, tool):
    address = server.run(f"getent ahostsv4 {tool}").split()[0]
    for target in (tool, address):
        done = ssh("-W", f"{target}:{TOOLS[tool]}", server.name, text="GET / HTTP/1.0\r\n\r\n", seconds=30)
        assert done.stdout.startswith("HTTP/1"), f"{target}: {done.stdout[:99]} {done.stderr}"


@pytest.mark.parametrize("target", CLOSED)
def test_a_tunnel_leads_nowhere_else(server, ssh, target):
    done = ssh("-W", target, server.name)
    assert done.returncode != 0 and "administratively prohibited" in done.stderr, done.stderr


def test_nothing_else_is_forwarded(server, ssh):
    back = ssh("-o", "ExitOnForwardFailure=yes", "-R", "0:localhost:22", server.name, "true")
    assert back.returncode == 255 and "remote port forwarding failed" in back.stderr
    listener = ssh("-o", "ExitOnForwardFailure=yes", "-R", "/tmp/forwarded.sock:localhost:22", server.name, "true")
    assert listener.returncode == 255
    command = ["ssh-agent", *ssh.command("-A", server.name, "echo agent=$SSH_AUTH_SOCK")]
    agent = subprocess.run(command, capture_output=True, text=True, check=False)
    assert agent.stdout == "agent=\n", agent.stderr


def test_a_user_outside_of_the_group_could_forward_nothing(server):
    assert effective(server, "-C user=root,host=x,addr=192.0.2.1")["allowtcpforwarding"] == "no"
    admin = effective(server, "-C user=admin,host=x,addr=192.0.2.1")
    assert admin["allowtcpforwarding"] == "local" and len(admin["permitopen"].split()) == 2 * len(TOOLS)


# ---------------------------------------------------------------- strangers


def test_who_guesses_is_turned_away_and_the_operator_is_not(server, ssh, neighbour):
    """The neighbour is not exempt from penalties; the controller is."""
    options = "-i /root/wrong -o StrictHostKeyChecking=no -o BatchMode=yes -o ConnectTimeout=20"
    neighbour.run("test -e /root/wrong || ssh-keygen -q -t ed25519 -N '' -f /root/wrong")

    def guess() -> str:
        return neighbour.try_run(f"ssh {options} admin@{server.addresses[0]} true").stderr

    assert "Permission denied" in guess()
    turned_away = re.compile("Not allowed at this time|Connection (reset|closed) by")
    wait_until(lambda: turned_away.search(guess()), "the guessing neighbour is no longer let as far as a guess", 90)
    for _ in range(6):
        ssh("-l", "root", server.name, "true")
    assert ssh.works()

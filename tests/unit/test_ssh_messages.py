"""The messages of ssh and of servers, as they were printed, are told apart and lead to the remedy that helps."""

from __future__ import annotations

import pytest
from ansible_collections.openmates.server.plugins.plugin_utils.ssh_messages import host_and_port, meaning

CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
The fingerprint for the ED25519 key sent by the remote host is
SHA256:r3htE82e3Q6b3n9iSV6KNh9Ww4U6mbIw0GHgllyEwfg.
Add correct host key in /home/me/known hosts to get rid of this message.
Offending ED25519 key in /home/me/known hosts:12
Host key for 198.51.100.13 has changed and you have requested strict checking.
Host key verification failed."""
UNKNOWN = """No ED25519 host key is known for 198.51.100.13 and you have requested strict checking.
Host key verification failed."""
OPEN_KEY = """Permissions 0644 for '/tmp/key' are too open.
It is required that your private key files are NOT accessible by others.
Load key "/tmp/key": bad permissions
root@198.51.100.13: Permission denied (publickey,password)."""
NO_KEY = """Warning: Identity file /tmp/nokey not accessible: No such file or directory.
root@198.51.100.13: Permission denied (publickey)."""
LOCKED_KEY = """Load key "/home/me/.ssh/id_ed25519": incorrect passphrase supplied to decrypt private key
root@198.51.100.13: Permission denied (publickey)."""
EXPIRED = """You are required to change your password immediately (administrator enforced).
WARNING: Your password has expired.
Password change required but no TTY available."""
CLOSED = "kex_exchange_identification: Connection closed by remote host\nConnection closed by "
DIRECT = [
    (CHANGED, "another host key", "ssh-keygen -f '/home/me/known hosts' -R 198.51.100.13"),
    (UNKNOWN, "not known to this machine", "bootstrap"),
    ("Host key verification failed.", "not known to this machine", "bootstrap"),
    (
        "Received disconnect from a port 22:2: Too many authentication failures",
        "too many other keys",
        "private_key_file",
    ),
    ("Not allowed at this time", "refuses logins from this address", "Wait"),
    (EXPIRED, "which has expired", "ssh root@198.51.100.13"),
    (OPEN_KEY, "other users of this machine", "chmod 600"),
    (NO_KEY, "/tmp/nokey, which is missing", "ansible_ssh_private_key_file"),
    ("root@a: Invalid/incorrect password: Permission denied, please try again.", "the password for root", "console"),
    ("Bad owner or permissions on /home/me/.ssh/config", "/home/me/.ssh/config", "Correct that file"),
    ("/etc/ssh/ssh_config: line 7: Bad configuration option: nonsense", "line 7", "Correct that file"),
    ("root@a: Permission denied (publickey,password).", "would accept a password", "--ask-pass"),
    ("root@a: Permission denied (publickey).", "accepts none of this machine's keys", "ssh-agent"),
    ("admin@a: Permission denied (publickey).", "accepts none of this machine's keys", "RSA from 3072 bits"),
    ("Unable to negotiate with a port 22: no matching key exchange method found.", "methods", "OpenSSH 9.0"),
    ("ssh: Could not resolve hostname no.such.invalid: Name or service not known", "resolved", "ansible_host"),
    ("ssh: connect to host a port 2222: Connection refused", "no SSH server", "openmates_ssh_port"),
    ("ssh: connect to host 2001:db8::1 port 22: No route to host", "no route", "IPv6"),
    ("connect to host 2001:db8::1 port 22: Network is unreachable", "no route", "IPv6"),
    (CLOSED + "198.51.100.13 port 8080", "closes the connection", "openmates_ssh_port"),
    ("ssh: connect to host a port 22: Connection timed out", "cannot be reached", "openmates_ssh_sources"),
    ("ssh: connect to host a port 22: Operation timed out", "cannot be reached", "address is right"),
    ("ssh: connect to host a port 22: Permission denied", "does not let the connection out", "firewall"),
    ("ssh: connect to host a port 22: Operation not permitted", "does not let the connection out", "VPN"),
    ("ssh: connect to host a port 22: Host is down", "no route", "server is up"),
    ("Connection timed out during banner exchange", "closes the connection", "openmates_ssh_port"),
    ("Connection closed by 198.51.100.13 port 22", "closes the connection", "refuses this address"),
    (LOCKED_KEY, "its passphrase was not given", "ssh-add /home/me/.ssh/id_ed25519"),
    ("", "cannot be reached", "address is right"),
]
#: What a server that a user could log in to printed instead of running the command.
INSIDE = [
    ('Please login as the user "debian" rather than the user "root".', "another user is meant", "initial_user: debian"),
    ("Please login as the user debian rather than root", "another user is meant", "initial_user: debian"),
    ("This account runs backups only", "runs another command", "command="),
    ("sudo: a password is required", "sudo asks for a password", "--ask-become-pass"),
    ("root is not in the sudoers file.", "may not become root", "openmates_ssh_initial_user"),
    (EXPIRED, "which has expired", "asks for the old password and a new one"),
]
END = "\n" + CLOSED + "UNKNOWN port 65535"
THROUGH = [
    ("Host key verification failed." + END, "its bastion jump@192.0.2.7:2222 is not known", "bootstrap"),
    ("jump@192.0.2.7: Permission denied (publickey)." + END, "none of this machine's keys", "ssh-agent"),
    ("ssh: connect to host 192.0.2.7 port 2222: Connection refused" + END, "no SSH server", "openmates_ssh_bastion"),
    (
        "channel 0: open failed: administratively prohibited: open failed\nstdio forwarding failed" + END,
        "does not pass connections on",
        "AllowTcpForwarding",
    ),
    (
        "channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed" + END,
        "cannot be reached from the bastion jump@192.0.2.7:2222: Connection refused",
        "as the bastion sees them",
    ),
    ("the bastion says nothing that is known" + END, "does not answer", "openmates_ssh_bastion"),
    (CHANGED + END, "its bastion jump@192.0.2.7:2222 shows another host key", "-R '[192.0.2.7]:2222'"),
]


@pytest.mark.parametrize(("said", "what", "remedy"), DIRECT)
def test_a_server_that_lets_no_one_in_is_named_for_what_it_is(said: str, what: str, remedy: str) -> None:
    found = meaning(said, address="198.51.100.13", user="root")
    assert what in found.what and remedy in found.remedy


@pytest.mark.parametrize(("said", "what", "remedy"), INSIDE)
def test_a_login_that_runs_something_else_is_named_for_what_it_is(said: str, what: str, remedy: str) -> None:
    found = meaning(said, address="198.51.100.13", user="root", logged_in=True)
    assert what in found.what and remedy in found.remedy


@pytest.mark.parametrize(("said", "what", "remedy"), THROUGH)
def test_the_bastion_is_told_from_the_server_behind_it(said: str, what: str, remedy: str) -> None:
    found = meaning(said, address="198.51.100.13", user="admin", bastion="jump@192.0.2.7:2222")
    assert what in found.what and remedy in found.remedy


def test_what_the_server_behind_a_bastion_says_is_the_servers() -> None:
    found = meaning("admin@a: Permission denied (publickey).", address="a", user="admin", bastion="jump@192.0.2.7")
    assert "bastion" not in found.what


def test_another_port_is_in_the_commands_of_a_remedy() -> None:
    assert "ssh -p 2222 root@a" in meaning(EXPIRED, address="a", user="root", port=2222).remedy
    assert "-R '[a]:2222'" in meaning(CHANGED, address="a", user="root", port=2222).remedy


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ("a", 22)),
        ("a:2222", ("a", 2222)),
        ("2001:db8::1", ("2001:db8::1", 22)),
        ("[2001:db8::1]", ("2001:db8::1", 22)),
        ("[2001:db8::1]:2222", ("2001:db8::1", 2222)),
    ],
)
def test_a_host_and_its_port(text: str, parts: tuple[str, int]) -> None:
    assert host_and_port(text) == parts

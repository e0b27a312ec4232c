# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the messages of a failed SSH login mean, and what helps."""

from __future__ import annotations

import re
import shlex
import typing as t

#: ssh prints this when the command that connects it, here the login to the bastion, ended.
_THROUGH_A_COMMAND = re.compile(r"UNKNOWN port 65535|stdio forwarding failed", re.IGNORECASE)


class Meaning(t.NamedTuple):
    """A cause: the end of a sentence that begins with the server's or the bastion's name, and the remedy."""

    what: str
    remedy: str

    def filled(self, **words: str) -> Meaning:
        """The same with the words in place of their names in braces."""
        return Meaning(self.what.format(**words), self.remedy.format(**words))


#: Patterns in what ssh or the server printed, the most specific first, and their meanings. In braces: user, bootstrap,
#: known (the server's name in known_hosts), login (the command that logs in), port_setting, address_setting, and the
#: groups of the pattern.
_MEANINGS: tuple[tuple[str, Meaning], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED[\s\S]*?Offending \S+ key in (?P<file>[^\n]+?):\d+",
        Meaning(
            "shows another host key than the one that this machine knows",
            "If the server was reinstalled, remove the old key with `ssh-keygen -f {file} -R {known}`, and run "
            "{bootstrap}, which shows the fingerprint of the new one. If it was not, do not connect: it may be "
            "another server.",
        ),
    ),
    (
        r"Host key verification failed",
        Meaning(
            "is not known to this machine yet",
            "Run {bootstrap}: it shows the fingerprint of the host key, which you compare with that in the "
            "provider's console, and remembers the key.",
        ),
    ),
    (
        r"Too many authentication failures",
        Meaning(
            "refuses the login, because ssh offers too many other keys first",
            "Set ansible_ssh_private_key_file to the right key: no other one is offered then.",
        ),
    ),
    (
        r"not allowed at this time",
        Meaning(
            "refuses logins from this address for a while, because several failed",
            "Wait for ten minutes. Set openmates_ssh_penalty_exempt to networks that are never refused.",
        ),
    ),
    (
        r"Password change required|password has expired|required to change your password",
        Meaning(
            "lets {user} in only to change the password, which has expired",
            "Log in with `{login}`, which asks for the old password and a new one. Then run the playbook again, with "
            "the new password if it needs one. In the provider's console `passwd {user}` does the same.",
        ),
    ),
    (
        r"log ?in as (?:the )?user \W?(?P<other>[a-z_][a-z0-9_-]*)",
        Meaning(
            "lets {user} in only to say that another user is meant",
            "Set openmates_ssh_initial_user: {other}.",
        ),
    ),
    (
        r"sudo: (?:a password is required|a terminal is required)",
        Meaning(
            "lets {user} in, but sudo asks for a password",
            "Pass --ask-become-pass (-K) to the playbook, once: after that sudo needs none.",
        ),
    ),
    (
        r"sudo: (?:command )?not found|is not in the sudoers file|may not run sudo",
        Meaning(
            "lets {user} in, but {user} may not become root",
            "Set openmates_ssh_initial_user to a user that may, such as root.",
        ),
    ),
    (
        r"bad permissions|are too open",
        Meaning(
            "could not be offered the private key, because other users of this machine can read the file",
            "Run `chmod 600` on the private key.",
        ),
    ),
    (
        r"Identity file (?P<file>\S+) not accessible"
        r"|Load key \"?(?P<key>[^\"\n]+)\"?: (?:No such file|error in libcrypto|invalid)",
        Meaning(
            "could not be offered the private key {file}{key}, which is missing or damaged",
            "Correct ansible_ssh_private_key_file.",
        ),
    ),
    (
        r"Load key \"?(?P<key>[^\"\n]+)\"?: incorrect passphrase",
        Meaning(
            "could not be offered the private key {key}, because its passphrase was not given",
            "Run `ssh-add {key}`, which asks for it once.",
        ),
    ),
    (
        r"Invalid/incorrect password",
        Meaning("does not accept the password for {user}", "Type it again, or reset it in the provider's console."),
    ),
    (
        r"Bad owner or permissions on (?P<file>\S+)|(?P<line>\S+: line \d+: Bad configuration option[^\n]*)",
        Meaning("was not asked, because ssh refuses its own configuration: {file}{line}", "Correct that file."),
    ),
    (
        r"connect to host \S+ port \d+: (?:Permission denied|Operation not permitted)",
        Meaning(
            "cannot be reached: this machine does not let the connection out",
            "Check its firewall, security software or VPN for {port_setting}.",
        ),
    ),
    (
        r"Permission denied \([^)]*password",
        Meaning(
            "accepts none of this machine's keys, but would accept a password",
            "Add an accepted key to ssh-agent, or set ansible_ssh_private_key_file to it. On a new server that has "
            "only a password, run {bootstrap} with --ask-pass (-k).",
        ),
    ),
    (
        r"Permission denied",
        Meaning(
            "accepts none of this machine's keys",
            "Add an accepted key to ssh-agent, or set ansible_ssh_private_key_file to it. A hardened server accepts "
            "Ed25519, and RSA from 3072 bits on.",
        ),
    ),
    (
        r"no matching ",
        Meaning(
            "offers only methods that this machine's ssh does not know",
            "Use OpenSSH 9.0 or later on this machine, or update the server to Debian 13.",
        ),
    ),
    (
        r"Could not resolve hostname",
        Meaning("has a name that cannot be resolved", "Correct {address_setting} in the inventory."),
    ),
    (
        r"administratively prohibited",
        Meaning(
            "does not pass connections on",
            "Set `AllowTcpForwarding yes` in its sshd_config, or use another bastion.",
        ),
    ),
    (
        r"Connection refused",
        Meaning("has no SSH server on that port", "Check that sshd listens on this port ({port_setting})."),
    ),
    (
        r"No route to host|Network is unreachable|(?:Host|Network) is down",
        Meaning(
            "cannot be reached: there is no route to it",
            "Check that the server is up and that its address is right. If it is an IPv6 address: this machine may "
            "have no IPv6.",
        ),
    ),
    (
        r"kex_exchange_identification|Invalid SSH identification string|Protocol mismatch|banner exchange"
        r"|Connection (?:closed|reset) by",
        Meaning(
            "closes the connection before an SSH server answers",
            "Check {port_setting}: another program may listen there, or the server refuses this address.",
        ),
    ),
)
_NO_ANSWER = Meaning(
    "cannot be reached",
    "Check that the server is up, that its address is right, and that openmates_ssh_sources has this machine.",
)
_OTHER_COMMAND = Meaning(
    "runs another command at the login of {user} than the one asked for",
    "Remove `command=` from its authorized_keys, or set openmates_ssh_initial_user to another user.",
)


def ended_at_bastion(said: str) -> bool:
    """Whether a connection through a bastion ended before the server was reached."""
    return bool(_THROUGH_A_COMMAND.search(said))


def meaning(
    said: str,
    *,
    address: str,
    user: str,
    port: int = 22,
    bastion: str = "",
    logged_in: bool = False,
    login: str = "",
    bootstrap: str = "the playbook bootstrap",
) -> Meaning:
    """The cause and the remedy.

    said: all that ssh and the command printed. address, port: the server's. user: the one who was to log in.
    bastion: the host that the connection goes through, as user@host:port, if any. logged_in: whether the login itself
    succeeded, and the command failed. login: the command that logs in, at a terminal. bootstrap: what a remedy calls
    the playbook of that name.
    """
    words = {"user": user, "bootstrap": bootstrap, "login": login}
    if not bastion or not ended_at_bastion(said):
        words |= {"port_setting": "openmates_ssh_port", "address_setting": "ansible_host"}
        return _match(said, address, port, words) or (_OTHER_COMMAND if logged_in else _NO_ANSWER).filled(**words)
    if "stdio forwarding failed" in said and "prohibited" not in said:
        why = re.search(r"open failed: (?:connect failed: )?([^\n]+)", said)
        return Meaning(
            f"cannot be reached from the bastion {bastion}" + (f": {why[1].strip()}" if why else ""),
            "Check the server's address and port as the bastion sees them, and that openmates_ssh_sources has it.",
        )
    # What the bastion's ssh said comes first; what the server's says of the connection that was closed tells nothing.
    said = re.split(r"^kex_exchange_identification", said, flags=re.MULTILINE)[0]
    login, _, host = bastion.rpartition("@")
    words |= {"user": login or "you", **dict.fromkeys(("port_setting", "address_setting"), "openmates_ssh_bastion")}
    found = _match(said, *host_and_port(host), words)
    found = found or Meaning("does not answer", "Check openmates_ssh_bastion.")
    return Meaning(f"cannot be reached, because its bastion {bastion} {found.what}", found.remedy)


def host_and_port(text: str) -> tuple[str, int]:
    """The parts of HOST, HOST:PORT, an IPv6 address or [IPV6]:PORT; 22 is the default."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    port = port.lstrip(":")
    return host, int(port) if port.isdecimal() else 22


def _match(said: str, address: str, port: int, words: dict[str, str]) -> Meaning | None:
    """The first meaning whose pattern is in the text."""
    words = words | {
        "known": address if port == 22 else f"'[{address}]:{port}'",  # as known_hosts names it
        "login": words["login"] or f"ssh {'' if port == 22 else f'-p {port} '}{words['user']}@{address}",
    }
    for pattern, cause in _MEANINGS:
        if found := re.search(pattern, said, re.IGNORECASE):
            return cause.filled(
                **words, **{name: shlex.quote(text) if text else "" for name, text in found.groupdict().items()}
            )
    return None

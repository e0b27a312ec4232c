"""The host itself: what base and hardening declare is in force, and drift is detected and repaired."""

from __future__ import annotations

import json
import re

import pytest

from lab import Server, recap, wait_until

# Typed in, never read from the project's data. `*`: every interface.
NETWORK_SETTINGS = {
    "net/ipv4/conf/*/accept_redirects": "0",
    "net/ipv6/conf/*/accept_redirects": "0",
    "net/ipv4/conf/*/secure_redirects": "0",
    "net/ipv4/conf/*/send_redirects": "0",
    "net/ipv4/conf/*/accept_source_route": "0",
    "net/ipv6/conf/*/accept_source_route": "0",
    "net/ipv4/conf/*/rp_filter": "1",
    "net/ipv4/conf/*/log_martians": "1",
    "net/ipv4/icmp_echo_ignore_broadcasts": "1",
    "net/ipv4/icmp_ignore_bogus_error_responses": "1",
    "net/ipv4/tcp_syncookies": "1",
    "net/ipv4/tcp_rfc1337": "1",
    "net/ipv4/ip_forward": "1",  # Docker's: hardening must not take it away
}
PERMISSIONS = {  # of what is on every lab host: mode, owner, group
    "/root": "700 root root",
    "/etc/passwd": "644 root root",
    "/etc/group": "644 root root",
    "/etc/shadow": "640 root shadow",
    "/etc/gshadow": "640 root shadow",
    "/etc/sudoers": "440 root root",
    "/etc/sudoers.d": "750 root root",
    "/etc/sudoers.d/openmates": "440 root root",
    "/etc/ssh/sshd_config": "600 root root",
    "/etc/cron.daily": "700 root root",
    "/etc/audit/rules.d/openmates.rules": "640 root root",
    "/etc/usbguard/rules.d/10-openmates.conf": "600 root root",
}
#: Enabled, but not for a kernel that is shared, by their own conditions; or over as soon as their work is done.
WAITING = {
    "openmates-tool-names.service",
    *("apparmor.service", "chrony.service", "e2scrub_reap.service", "sshd-keygen.service", "systemd-pstore.service"),
}
BLOCKED_MODULES = {"usb_storage", "dccp", "sctp", "rds", "tipc", "cramfs", "firewire_core", "bluetooth"}


def in_session(server: Server, command: str, user: str = "admin") -> str:
    """Output of a command in a new login session."""
    return server.run(f"su - {user} -c '{command}'")


# ---------------------------------------------------------------- who may do what


def test_the_administrator_may_do_everything_and_services_nothing(server):
    server.run("visudo --check --strict")
    assert in_session(server, "sudo -n id -u") == "0"
    for user in ("caddy", "nobody", "sshd"):
        refused = server.host.run(f"runuser -u {user} -- sudo -n id -u")
        assert refused.rc != 0 and "0" not in refused.stdout.split(), user


def test_the_administrator_has_no_password_and_a_number_that_no_container_uses(server):
    assert server.run("getent shadow admin").split(":")[1] == "*"
    assert "ssh-admins" in server.run("id -nG admin").split()
    assert int(server.run("id -u admin")) >= 20000


def test_sessions_keep_files_from_others_end_when_idle_and_leave_no_core_dump(server):
    for user in ("admin", "root"):
        assert in_session(server, "umask", user)[-1] == "7", user
        assert in_session(server, "ulimit -Hc", user) == "0", user
        assert 0 < int(in_session(server, "echo $TMOUT", user)) <= 3600, user
    crash = 'cd "$(mktemp -d)" && (sh -c "kill -SEGV \\$\\$" || true) && ls -A'
    assert in_session(server, crash) == ""


def test_a_short_password_is_refused_and_a_long_one_is_not(server):
    server.run("useradd --no-create-home openmates-test")
    try:
        refused = server.host.run("echo 'openmates-test:Sh0rt-One' | chpasswd")
        assert refused.rc != 0 and "shorter than 14" in refused.stdout + refused.stderr
        server.run("echo 'openmates-test:a long one of several words' | chpasswd")
    finally:
        server.run("userdel openmates-test")


# ---------------------------------------------------------------- updates and services


def test_only_security_updates_come_by_themselves_and_docker_waits(server):
    said = server.run("unattended-upgrade --dry-run --debug 2>&1")
    [origins] = re.findall(r"^Allowed origins are: (.*)$", said, re.MULTILINE)
    assert origins == "origin=Debian,codename=trixie-security,label=Debian-Security"
    held = set(re.findall(r"PkgPin\(pkg='/\^(.+?)/', priority=-32768\)", said))
    assert {"docker", "containerd", "runc"} <= held
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        assert server.run(f"systemctl is-active {timer}") == "active"
    settings = server.run("apt-config dump")
    for line in ('Periodic::Unattended-Upgrade "1"', 'Automatic-Reboot "false"', 'Update-Package-Lists "1"'):
        assert line in settings


def test_needrestart_restarts_services_but_not_docker(server):
    program = r"""
        our %nrconf; our $LOGPREF = "";
        eval do { local (@ARGV, $/) = "/etc/needrestart/needrestart.conf"; <> }; die $@ if $@;
        print "mode $nrconf{restart}\n";
        for my $unit (qw(docker.service containerd.service ssh.service caddy.service)) {
            my ($rule) = grep { $unit =~ /$_/ } sort keys %{$nrconf{override_rc}};
            print "$unit ", (defined $rule ? $nrconf{override_rc}{$rule} : 1), "\n";
        }
    """
    said = server.run(f"perl -e '{program}'").splitlines()
    assert said == ["mode a", "docker.service 0", "containerd.service 0", "ssh.service 1", "caddy.service 1"]


def test_what_is_enabled_runs(server):
    units = server.run("systemctl list-unit-files --type=service --state=enabled --no-legend --plain").splitlines()
    names = [line.split()[0] for line in units if "@." not in line]
    waiting = {name for name in names if server.host.run(f"systemctl is-active {name}").stdout.strip() != "active"}
    assert waiting <= WAITING
    assert {"docker.service", "containerd.service", "unattended-upgrades.service"} <= set(names) - waiting
    assert server.run("systemctl list-units --failed --no-legend") == ""


def test_the_journal_is_kept_and_has_its_limits(server):
    lines = re.findall(r"^(\w+)=(.*)$", server.run("systemd-analyze cat-config systemd/journald.conf"), re.MULTILINE)
    settings = dict(lines)  # the last one counts
    assert settings["Storage"] == "persistent" and settings["SystemMaxUse"] == "1G"
    assert (settings["SystemKeepFree"], settings["MaxRetentionSec"]) == ("2G", "90day")
    assert server.run("journalctl --header --system | grep -c '^File path: /var/log/journal/'") != "0"


def test_locale_time_zone_and_name(server):
    assert "LANG=C.UTF-8" in in_session(server, "locale").splitlines()
    assert server.run("readlink /etc/localtime").endswith("/Etc/UTC")
    assert server.run("hostname") == server.name


# ---------------------------------------------------------------- kernel


@pytest.mark.parametrize("name", NETWORK_SETTINGS)
def test_network_settings_are_in_force_on_every_interface(server, name):
    values = server.run(f"grep -r . /proc/sys/{name}").splitlines() if "*" not in name else None
    values = values or server.run(f"grep . /proc/sys/{name}").splitlines()
    assert len(values) > (2 if "*" in name else 0)
    wrong = [value for value in values if value.rsplit(":", 1)[-1] != NETWORK_SETTINGS[name]]
    assert not wrong


def test_what_this_kernel_does_not_take_is_in_the_file_for_one_that_does(server):
    text = server.run("cat /etc/sysctl.d/zz-openmates.conf")
    for line in ("kernel.kptr_restrict = 2", "fs.protected_symlinks = 1", "kernel.core_pattern = |/bin/false"):
        assert f"\n{line}\n" in text
    assert server.run("cat /proc/sys/kernel/kptr_restrict") != "2"  # or it could be proven here


def test_modules_that_nothing_needs_cannot_be_loaded(server):
    blocked = set(re.findall(r"^install (\S+) /bin/false$", server.run("modprobe --showconfig"), re.MULTILINE))
    assert blocked >= BLOCKED_MODULES
    assert not blocked & {"overlay", "br_netfilter", "bridge", "veth", "vxlan", "ip_vs", "nf_tables", "zram"}


def test_programs_do_not_run_from_world_writable_directories(server):
    for folder in ("/tmp", "/dev/shm"):
        refused = server.host.run(f"cp /bin/true {folder}/openmates-run && {folder}/openmates-run")
        server.run(f"rm -f {folder}/openmates-run")
        assert refused.rc == 126, folder


def test_audit_rules_are_such_that_auditctl_understands_them(server):
    rules = [rule for rule in server.run("cat /etc/audit/rules.d/openmates.rules").splitlines() if rule[:3] == "-a "]
    assert len(rules) > 20
    said = server.run("\n".join(f"auditctl {rule.replace('!', chr(92) + '!')} 2>&1 || true" for rule in rules))
    assert not re.findall(r".*(?:unknown|nvalid|missing|rror parsing).*", said)
    folders = {match[1] for rule in rules if (match := re.search(r" -F (?:dir|path)=(\S+)", rule))}
    for folder in folders - {"/var/log/audit"}:  # which auditd makes
        assert server.host.file(folder).exists, f"a rule for {folder}, which is not there, would stop the others"


# ---------------------------------------------------------------- files


def test_permissions(server):
    said = server.run("stat --format '%n %a %U %G' " + " ".join(PERMISSIONS))
    assert dict(line.split(" ", 1) for line in said.splitlines()) == PERMISSIONS


def look_at_the_files(server, expected: str) -> tuple[bool, str]:
    """Whether the check succeeded, and its journal once it has the expected text."""
    now = server.run("journalctl --lines=0 --show-cursor").split("cursor: ")[1].strip()
    server.run("systemctl reset-failed openmates-integrity")  # or the fifth look within ten seconds is refused
    well = server.host.run("systemctl start openmates-integrity").rc == 0
    said = f"journalctl --unit=openmates-integrity --output=cat --after-cursor='{now}'"
    wait_until(lambda: expected in server.run(said), f"the journal holds {expected!r}", 20)
    return well, server.run(said)


def test_a_changed_file_is_reported_once_and_a_changed_program_until_it_is_repaired(server):
    planted = "/usr/local/bin/openmates-planted"
    program = "/usr/share/doc/aide/copyright"  # as good as a program: debsums knows what it has to be
    look_at_the_files(server, "End timestamp")
    server.run(f"cp --preserve {program} /root/kept; touch {planted}")
    try:
        look_at_the_files(server, planted)
        server.run(f"rm {planted}; echo x >> {program}")
        for _ in range(2):
            well, said = look_at_the_files(server, "doc/aide/copyright")
            assert not well
        assert planted not in said and "NO differences" in said
    finally:
        server.run(f"mv /root/kept {program}; rm -f {planted}")
    assert look_at_the_files(server, "End timestamp")[0]


def test_the_timer_looks_every_night(server):
    shown = json.loads(server.run("systemctl list-timers openmates-integrity.timer --output json"))
    assert len(shown) == 1 and shown[0]["next"]


# ---------------------------------------------------------------- drift

DRIFT = {  # change by hand -> command that shows it, and output of the dry run
    "chmod 0777 /etc/cron.daily": ("stat --format %a /etc/cron.daily", "permissions of /etc/cron.daily"),
    "sysctl -qw net.ipv4.conf.all.accept_redirects=1": (
        "cat /proc/sys/net/ipv4/conf/all/accept_redirects",
        "net.ipv4.conf.all.accept_redirects = 1",
    ),
    "rm /etc/apt/apt.conf.d/52openmates": ("ls /etc/apt/apt.conf.d", "after: /etc/apt/apt.conf.d/52openmates"),
    "sed -i s/^UMASK.*/UMASK\\ 022/ /etc/login.defs": ("grep ^UMASK /etc/login.defs", "-UMASK 022"),
    "systemctl disable --now -q apt-daily-upgrade.timer": ("systemctl is-active apt-daily-upgrade.timer", None),
    "mount -o remount,exec /dev/shm": (
        "findmnt -no OPTIONS /dev/shm",
        "=> (item=/dev/shm)",
    ),
}


def test_drift_is_reported_by_a_dry_run_and_repaired_by_a_run(server):
    looks = {look for look, _ in DRIFT.values()}

    def state() -> dict[str, str]:
        return {look: server.host.run(look).stdout for look in looks}

    declared, tags = state(), ("--tags", "base,hardening")
    try:
        server.run(" && ".join(DRIFT))
        drifted = state()
        assert all(drifted[look] != declared[look] for look in looks)
        dry = server.playbook("site.yml", *tags, "--check", "--diff")
        assert dry.returncode == 0, dry.stdout[-3000:]
        for says in filter(None, (says for _, says in DRIFT.values())):
            assert says in dry.stdout
        assert state() == drifted
    finally:
        run = server.playbook("site.yml", *tags)
    assert run.returncode == 0, run.stdout[-3000:]
    assert state() == declared
    assert recap(server.playbook("site.yml", *tags, "--check").stdout)["changed"] == 0

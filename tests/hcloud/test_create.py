"""playbooks/create_server.yml with the real collection hetzner.hcloud against a local HcloudApi."""

from __future__ import annotations

import subprocess

import yaml
from operator_project import KEY, QUICK, Operator, changed, message
from server import TOKEN, HcloudApi

ANYWHERE = ["0.0.0.0/0", "::/0"]
SSH = ["2001:db8:9::/48", "203.0.113.0/24"]
ADDRESS_FILE = "prod/host_vars/openmates-prod/address.yml"


def opened(api: HcloudApi) -> dict[str, list[str]]:
    return {rule["port"] or rule["protocol"]: rule["source_ips"] for rule in api.one("firewalls")["rules"]}


def test_a_server_from_nothing_again_and_after_a_change(operator: Operator, api: HcloudApi) -> None:
    """Check, run, check, run, change: what check mode says is what the run does."""
    checked = operator.create("--check", "--diff")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    # Key, firewall, addresses, server. What needs the server's address is left out, and the output says so.
    assert changed(checked.stdout) == 4 and api.changes() == []
    assert "In check mode there is no server yet" in checked.stdout
    assert not (operator.folder / ADDRESS_FILE).exists()

    api.polls = 3  # actions take time
    result = operator.create()
    assert result.returncode == 0, result.stdout + result.stderr
    server, firewall, key = api.one("servers"), api.one("firewalls"), api.one("ssh_keys")
    assert (server["name"], server["server_type"], server["location"]) == ("openmates-prod", "cax21", "fsn1")
    assert (server["image"]["name"], server["image"]["architecture"]) == ("debian-13", "arm")
    assert server["status"] == "running" and server["user_data"] is None
    assert server["protection"] == {"delete": True, "rebuild": True}
    assert server["ssh_keys"] == [key["id"]] and key["public_key"] == KEY
    assert firewall["servers"] == [server["id"]]
    # Typed from the architecture guidelines: production has SSH and Caddy.
    assert opened(api) == {"icmp": ANYWHERE, "22": SSH, "80": ANYWHERE, "443": ANYWHERE}
    addresses = {address["type"]: address for address in api.stored["primary_ips"].values()}
    assert {address["assignee_id"] for address in addresses.values()} == {server["id"]}
    assert all(not address["auto_delete"] and address["protection"]["delete"] for address in addresses.values())
    assert [entry for address in addresses.values() for entry in address["dns_ptr"]] == [
        {"ip": "198.51.100.7", "dns_ptr": "api.example.test"},
        {"ip": "2001:db8:8::1", "dns_ptr": "api.example.test"},
    ]
    assert "api.example.test. AAAA 2001:db8:8::1" in result.stdout
    assert api.seen_in_argv == set()

    # What the next run of any playbook connects to: the address comes before the placeholder of hosts.yml.
    found = subprocess.run(
        [operator.program("ansible-inventory"), "-i", "prod", "--host", "openmates-prod"],
        cwd=operator.folder, env=operator.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert yaml.safe_load(found.stdout)["ansible_host"] == "198.51.100.7"

    before = api.changes()
    for arguments in (["--check"], []):
        result = operator.create(*arguments)
        assert result.returncode == 0 and changed(result.stdout) == 0, result.stdout
    assert api.changes() == before

    # A change of exposure is a change of the firewall; a server that was stopped is started.
    operator.set(openmates_ssh_sources=["192.0.2.1/32"])
    server["status"] = "off"
    checked = operator.create("--check")
    assert changed(checked.stdout) == 2 and api.changes() == before, checked.stdout
    assert changed(operator.create().stdout) == 2
    assert opened(api) == {"icmp": ANYWHERE, "22": ["192.0.2.1/32"], "80": ANYWHERE, "443": ANYWHERE}
    assert server["status"] == "running"


def test_killed_at_every_change_it_continues(operator: Operator, api: HcloudApi) -> None:
    """Each run is killed after the first change that it makes, until one has none to make."""
    api.polls = 2  # Hetzner is still at work on the server when the next run begins
    killed = 0
    while operator.create_killed_at(1):
        killed += 1
        assert killed < 20, api.changes()
    # Key, firewall, two addresses with their protection, server, its protection, two names.
    assert killed == 10, api.changes()
    assert [len(api.stored[kind]) for kind in ("ssh_keys", "firewalls", "primary_ips", "servers")] == [1, 1, 2, 1]
    server = api.one("servers")
    assert server["status"] == "running" and server["protection"] == {"delete": True, "rebuild": True}
    assert api.one("firewalls")["servers"] == [server["id"]] and len(opened(api)) == 4
    assert all(address["protection"]["delete"] for address in api.stored["primary_ips"].values())
    result = operator.create()
    assert result.returncode == 0 and changed(result.stdout) == 0, result.stdout


def test_the_token_is_in_no_output_file_or_command_line(operator: Operator, api: HcloudApi) -> None:
    """From an encrypted setting; in check mode, with a failure and with success; with all that Ansible can show."""
    del operator.environment["HCLOUD_TOKEN"]
    secrets = operator.write("group_vars/prod/hcloud.yml", {"openmates_hcloud_token": TOKEN})
    command = [operator.program("ansible-vault"), "encrypt", str(secrets)]
    subprocess.run(command, env=operator.environment, check=True, capture_output=True)
    api.refuse("POST", "/servers", "resource_unavailable", "no cax21 left", times=1)
    codes = []
    for arguments in (["--check"], [], []):
        result = operator.create("-vvvv", "--diff", *arguments)
        codes.append(result.returncode)
        assert TOKEN not in result.stdout + result.stderr
        if result.returncode:
            assert "has none free at the moment (no cax21 left). Choose another openmates_hcloud_location" in message(
                result.stdout
            )
    assert codes == [0, 2, 0]
    assert api.seen_in_argv == set() and api.modules_in_files == set()
    files = [file for file in operator.folder.rglob("*") if file.is_file()]
    assert files and not [file for file in files if TOKEN.encode() in file.read_bytes()]


def test_a_development_server_has_the_ports_of_its_services_and_the_file_of_its_host(
    operator: Operator, api: HcloudApi
) -> None:
    operator.write("hosts.yml", {"dev": {"hosts": {"openmates-prod": {}}}})
    (operator.folder / "prod/group_vars/prod").rename(operator.folder / "prod/group_vars/dev")
    operator.write("group_vars/dev/zz_changed.yml", {"openmates_domain": ""})
    # A directory of the host's name would hide this file from Ansible.
    file = operator.write("host_vars/openmates-prod.yml", "# mine\nopenmates_log_level: debug\n")
    # The API of Hetzner is busy, limits requests for a while, and is waited for.
    api.refuse("GET", "/firewalls", "rate_limit_exceeded", "limit of 3600 requests per hour reached", times=1)
    api.refuse("POST", "/primary_ips", "locked", "project is locked", times=1)
    result = operator.create()
    assert result.returncode == 0, result.stdout
    assert set(opened(api)) == {"icmp", "22", "3001", "8000", "8055"}
    assert api.one("servers")["protection"]["delete"] is False
    assert all(address["dns_ptr"] == [] for address in api.stored["primary_ips"].values())
    text = file.read_text()
    assert text.startswith("# mine\nopenmates_log_level: debug\n")
    assert yaml.safe_load(text)["ansible_host"] == "198.51.100.7"
    assert yaml.safe_load(text)["openmates_upstream_firewall"] is True, "or verify could not prove what is closed"


def test_nothing_is_created_of_what_cannot_work(operator: Operator, api: HcloudApi) -> None:
    """All problems at once; the rest of them is in tests/unit/test_hetzner.py."""
    operator.set(openmates_hcloud_image="fedora-45", openmates_hcloud_ssh_keys=["laptop"])
    operator.write("hosts.yml", {"prod": {"hosts": {"openmates-prod": {"ansible_host": "192.0.2.9"}}}})
    text = message(operator.create().stdout)
    assert "has no image fedora-45 for cax21, whose architecture is arm" in text
    assert "has no SSH key laptop" in text
    assert "ansible_host is 192.0.2.9, which is no address of openmates-prod at Hetzner" in text
    assert api.changes() == [] and api.modules_in_files == set()


def test_it_goes_on_with_the_first_contact(operator: Operator) -> None:
    """The message is that of bootstrap, about the address that was found; nothing answers there."""
    result = operator.run("create_server", *QUICK, "-e", "openmates_ssh_bastion=me@127.0.0.1:9")
    assert result.returncode == 2
    assert "Pin the SSH host key of the bastion on the way" in result.stdout, result.stdout

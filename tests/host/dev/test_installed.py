"""The installed collection has provisioned this host from a project that `new` created, and verifies it from there."""

from __future__ import annotations

from lab import ROOT, recap


def test_the_project_is_outside_of_the_checkout_and_holds_what_the_operator_keeps(server):
    directory = server.operator.directory
    assert server.operator.installed and not directory.is_relative_to(ROOT)
    assert not [path for path in directory.rglob("*") if path.name in ("playbooks", "roles", "plugins")]
    assert server.operator.vault_keys(server.name)["unseal_shares"]


def test_the_installed_collection_verifies_the_host(server):
    run = server.playbook("playbooks/verify.yml", "-v")
    assert run.returncode == 0, run.stdout[-3000:]
    assert recap(run.stdout)["changed"] == 0
    assert f"Using {server.operator.directory}/ansible.cfg as config file" in run.stdout + run.stderr


def test_a_message_names_the_playbook_as_it_is_installed(server):
    run = server.playbook("playbooks/rotate.yml")
    output = run.stdout + run.stderr
    assert "openmates.server.rotate was not started" in output
    # A failed task is shown with the file that it is in.
    installed = server.operator.directory.parent / "collections/ansible_collections/openmates/server"
    assert f"{installed}/playbooks/rotate.yml" in output and f"{ROOT}/" not in output

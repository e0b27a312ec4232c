"""Runs that were killed while Vault was initialised, unsealed or seeded: the next run succeeds and loses nothing."""

from __future__ import annotations

import pytest
from vault_site import SEED, Site


@pytest.mark.parametrize("moment", ["after vault_init", "before vault_unseal", "after vault_unseal"])
def test_killed_at_the_worst_moments_three_times_each(make_site, moment):
    """Between init and custody, between custody and unseal, between unseal and seed."""
    site = make_site(moment.replace(" ", "-"))
    keys = None
    for _ in range(3):
        if moment == "after vault_init" and site.bao.client().sys.is_initialized():
            site.bao.reset()  # what the role does on a host with Docker, see test_interrupted.py
        elif moment != "after vault_init":
            site.bao.restart()
        site.kill(moment)
        assert site.keys_file.exists() is (moment != "after vault_init")
        assert keys is None or site.keys_file.read_bytes() == keys
        keys = site.keys_file.read_bytes() if site.keys_file.exists() else None
    if moment == "after vault_init":
        assert site.marker.exists() and site.bao.client().sys.is_initialized()
        site.bao.reset()
    run = site.play()
    assert run.code == 0, run.output
    assert keys is None or site.keys_file.read_bytes() == keys
    assert not list(site.host.glob(".vault-*")) and [path.name for path in site.state.iterdir()] == ["vault-keys.json"]
    seed = site.root().secrets.kv.v2.read_secret_version(
        "providers/sample", mount_point="kv", raise_on_deleted_version=True
    )
    assert seed["data"]["data"] == {"api_key": SEED}
    assert site.play().changed == 0


def init_task(site: Site) -> dict:
    return {
        "openmates.server.vault_init": {
            "url": "{{ vault_url }}",
            "keys_file": str(site.keys_file),
            "state_directory": str(site.state),
            "secret_shares": 3,
            "secret_threshold": 2,
        }
    }


def test_killed_before_and_after_the_initialisation(make_site):
    """The marker exists, first with an empty Vault, then with one whose answer was lost."""
    site = make_site("killed")
    site.mark("an earlier run")
    answer = site.bao.client().sys.initialize(3, 2)
    site.secrets |= {answer["root_token"], *answer["keys"], *answer["keys_base64"]}

    report = [
        {**init_task(site), "register": "result"},
        {"ansible.builtin.assert": {"that": ["result.must_reset", "not result.changed"]}},
    ]
    run = site.play(report)
    assert run.code == 0, run.output
    assert site.marker.exists() and not site.keys_file.exists()
    check = site.play(None, "--check")
    assert (check.code, site.bao.client().sys.is_initialized()) == (0, True), check.output

    site.bao.reset()
    run = site.play()
    assert run.code == 0, run.output
    assert not site.marker.exists()
    assert site.keys()["init_id"] != "an earlier run"


def test_no_secret_was_printed_or_left_in_a_file(search_for_secrets):
    search_for_secrets()

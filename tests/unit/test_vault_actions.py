"""What the action plugins add to a task: pipelining whatever is configured, and where Vault is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import action_loader, connection_loader
from ansible.template import Templar, trust_as_template
from ansible_collections.openmates.server.plugins.module_utils.vault import api
from ansible_collections.openmates.server.plugins.module_utils.vault import connection as vault
from ansible_collections.openmates.server.plugins.modules import vault_unseal

COLLECTION = "openmates.server"
SECRET = ("vault_config", "vault_host", "vault_init", "vault_keys", "vault_restore", "vault_root", "vault_secret")
SECRET += ("vault_snapshot", "vault_unseal", "directus_config", "directus_schema", "host_files")
SECRET += ("host_credential", "vault_refresh", "vault_import", "alert_test")
VARIABLES = {
    "address": "172.30.0.14",
    "vault_url": trust_as_template("http://{{ address }}:8200"),
    "vault_gateway": "172.30.0.1",
    "vault_deadline": 7,
    "vault_keys_file": "/keys.yml",
    "vault_access_file": "/access.yml",
    "vault_state_directory": "/state",
    "vault_compose_project_src": "/compose",
}


def plugin(name: str, connection: object = None, **arguments: object) -> ActionBase:
    task = SimpleNamespace(
        action=f"{COLLECTION}.{name}", args=arguments, check_mode=False, async_val=0, diff=False, environment=None
    )
    loader = DataLoader()
    return action_loader.get(
        f"{COLLECTION}.{name}",
        task=task,
        connection=connection or connection_loader.get("ansible.builtin.ssh", PlayContext()),
        play_context=PlayContext(),
        loader=loader,
        templar=Templar(loader, VARIABLES),
        shared_loader_obj=None,
    )


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The arguments of each module call, in place of a host, and whether it would be pipelined."""
    calls: list[dict] = []

    def execute(action: ActionBase, module_name: str, module_args: dict, task_vars: dict) -> dict:
        calls.append(
            {"module": module_name, "pipelined": action._is_pipelining_enabled("new"), "arguments": module_args}
        )
        return {"changed": False}

    monkeypatch.setattr(ActionBase, "_execute_module", execute)
    monkeypatch.setattr(ActionBase, "run", lambda *_: {})
    return calls


@pytest.mark.parametrize("name", SECRET)
def test_a_module_with_secrets_is_pipelined_although_that_is_switched_off(name: str, sent: list[dict]) -> None:
    connection = connection_loader.get("ansible.builtin.ssh", PlayContext())
    connection.set_options(direct={"pipelining": False})
    action = plugin(name, connection)
    assert not action._is_pipelining_enabled("new")
    action._execute_module(module_name=name, module_args={}, task_vars={})
    assert [call["pipelined"] for call in sent] == [True]


def test_every_module_with_a_secret_argument_has_such_an_action() -> None:
    """A new module that takes a password or a token is to be pipelined as well."""
    with_secrets = {
        path.stem
        for path in (Path(__file__).parents[2] / "plugins/modules").glob("*.py")
        if '"no_log": True' in path.read_text() or "vault.MANAGED" in path.read_text()
    }
    assert with_secrets <= set(SECRET), with_secrets - set(SECRET)


@pytest.mark.parametrize("reason", ["keep_remote_files", "a connection that cannot do it"])
def test_where_pipelining_is_not_possible_nothing_is_sent(
    reason: str, sent: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    action = plugin("vault_unseal", shares=["canary"])
    if reason == "keep_remote_files":
        monkeypatch.setattr("ansible.constants.DEFAULT_KEEP_REMOTE_FILES", True)
    else:
        action._connection.has_pipelining = False
    with pytest.raises(AnsibleActionFail, match="without pipelining they would be in a file") as error:
        action.run(task_vars={})
    assert sent == [] and "canary" not in str(error.value)


CONNECTION = {"url": "http://172.30.0.14:8200", "gateway": "172.30.0.1", "deadline": 7}
STATE = {"state_directory": "/state", "former_state_directory": "/compose"}
COMPLETED = {
    "vault_config": CONNECTION | STATE | {"keys_file": "/keys.yml", "access_file": "/access.yml"},
    "vault_host": {"keys_file": "/keys.yml"},
    "vault_init": CONNECTION | STATE | {"keys_file": "/keys.yml"},
    "vault_refresh": CONNECTION | STATE | {"keys_file": "/keys.yml"},
    "vault_restore": CONNECTION | STATE,
    "vault_root": {"deadline": 7, "keys_file": "/keys.yml"} | STATE,
    "vault_secret": CONNECTION | {"keys_file": "/keys.yml", "access_file": "/access.yml"},
    "vault_snapshot": CONNECTION | {"keys_file": "/keys.yml", "access_file": "/access.yml"},
    "vault_unseal": CONNECTION,
}


@pytest.mark.parametrize("name", COMPLETED)
def test_where_vault_is_comes_from_variables_unless_the_task_names_it(name: str) -> None:
    completed = plugin(name).completed(VARIABLES)
    assert completed == COMPLETED[name]
    named = plugin(name, deadline=1, **({"keys_file": "/other"} if "keys_file" in completed else {}))
    assert named.completed(VARIABLES) == completed | named._task.args
    if "keys_file" not in completed:
        assert plugin(name).completed({}) == {}
        return
    with pytest.raises(AnsibleActionFail, match="missing required arguments: keys_file"):
        plugin(name).completed({})


def test_a_task_without_anything_but_its_own_options_asks_the_right_vault(sent: list[dict]) -> None:
    plugin("vault_unseal", shares=["one"]).run(task_vars=VARIABLES)
    expected = {"module": f"{COLLECTION}.vault_unseal", "pipelined": True}
    assert sent == [expected | {"arguments": CONNECTION | {"shares": ["one"]}}]


# ---------------------------------------------------------------- the network that Vault is on


def test_the_hosts_own_address_towards_a_vault() -> None:
    assert api.source_address("http://127.0.0.1:8200") == "127.0.0.1"
    assert api.source_address("http://no-such-name.invalid:8200") == ""


def test_shares_do_not_leave_a_host_whose_container_network_is_not_there(
    run_module: Callable[..., dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine may have the address there, and would get them."""
    monkeypatch.setattr(vault, "connect", lambda *_, **__: pytest.fail("something was sent"))
    arguments = {"url": "http://127.0.0.1:9", "gateway": "172.30.0.1", "shares": ["c2hhcmU="]}
    told = run_module(vault_unseal.main, **arguments)
    assert told["failed"] and "not on a network of this host's containers" in told["msg"]
    assert run_module(vault_unseal.main, check=True, **arguments)["sealed"] is None


def test_on_that_network_it_is_asked(run_module: Callable[..., dict]) -> None:
    told = run_module(vault_unseal.main, url="http://127.0.0.1:9", gateway="127.0.0.1", shares=["c2hhcmU="], deadline=0)
    assert told["failed"] and "Nothing answers at http://127.0.0.1:9" in told["msg"]

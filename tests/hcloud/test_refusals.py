"""What the real modules of hetzner.hcloud return when the API refuses, and what an operator reads."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.openmates.server.plugins.plugin_utils import hetzner
from server import TOKEN, HcloudApi, serve

Call = Callable[..., dict]
SERVER = {
    "name": "one",
    "server_type": "cax21",
    "image": "debian-13",
    "location": "fsn1",
    "ssh_keys": ["k"],
    "state": "started",
}
KEY = {"name": "k", "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEmp9M1yXbAEQ64MJV+tq5qdeR7UOlfPgIXMW5oFSiQb"}
ADDRESS = {"name": "one-ipv4", "type": "ipv4", "location": "fsn1"}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[HcloudApi]:
    api = HcloudApi()
    monkeypatch.setenv("HCLOUD_TOKEN", TOKEN)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between two tries
    for endpoint in serve(api):
        monkeypatch.setenv("HCLOUD_ENDPOINT", endpoint)
        yield api


@pytest.fixture
def call(run_module: Call) -> Call:
    """Call a module as Ansible does, which makes a result of an exception that the module does not catch."""

    def call(module_name: str, /, **arguments: object) -> dict:
        module = importlib.import_module(f"ansible_collections.hetzner.hcloud.plugins.modules.{module_name}")
        try:
            return run_module(module.main, **arguments)
        except Exception as error:
            return {"failed": True, "msg": f"Task failed: Module failed: {error}"}

    return call


#: Method, path, code; module, arguments; the cause and a word of the remedy.
REFUSALS = [
    ("GET", "/servers", "unauthorized", "server_info", {"name": "one"}, "does not accept the token", "HCLOUD_TOKEN"),
    ("POST", "/firewalls", "forbidden", "firewall", {"name": "one"}, "the token does not allow it", "read and write"),
    ("POST", "/ssh_keys", "uniqueness_error", "ssh_key", KEY, "the same SSH key", "rename or remove"),
    ("POST", "/servers", "resource_unavailable", "server", SERVER, "has none free", "openmates_hcloud_location"),
    ("POST", "/servers", "placement_error", "server", SERVER, "has no room", "openmates_hcloud_location"),
    ("POST", "/servers", "resource_limit_exceeded", "server", SERVER, "reached its limit", "have the limit raised"),
    ("POST", "/servers", "invalid_input", "server", SERVER, "does not accept a value", "Correct the setting"),
    ("GET", "/server_types", "rate_limit_exceeded", "server", SERVER, "too many requests", "in some minutes"),
    ("GET", "/locations", "service_error", "primary_ip", ADDRESS, "an error in Hetzner's API", "in some minutes"),
]


@pytest.mark.parametrize(
    ("method", "path", "code", "module", "arguments", "cause", "remedy"),
    REFUSALS,
    ids=[f"{row[2]}-{row[3]}" for row in REFUSALS],
)
def test_each_refusal_has_a_cause_and_a_remedy(
    api: HcloudApi, call: Call, method: str, path: str, code: str, module: str, arguments: dict, cause: str, remedy: str
) -> None:
    call("ssh_key", **KEY) if module == "server" else None
    api.refuse(method, path, code, "what the API says")
    text = hetzner.failure(call(module, **arguments), "Do it")
    assert text.startswith("Do it: ") and cause in text and "what the API says" in text and remedy in text


def test_a_token_that_is_wrong(api: HcloudApi, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCLOUD_TOKEN", "wrong" * 12)
    result = call("server_info", name="one")
    assert "the token you provided is invalid" in hetzner.failure(result, "Look")
    assert "wrong" * 12 not in str(result)


def test_a_name_and_a_key_that_are_taken(api: HcloudApi, call: Call) -> None:
    call("ssh_key", **KEY)
    again = call("ssh_key", **KEY | {"name": "other"})
    assert again["failure"]["code"] == "uniqueness_error"


def test_a_limit_of_the_project(api: HcloudApi, call: Call) -> None:
    api.limits["primary_ips"] = 0
    text = hetzner.failure(call("primary_ip", **ADDRESS), "Reserve the addresses")
    assert text.startswith("Reserve the addresses: the project has reached its limit (primary_ip limit exceeded)")


def test_a_rate_limit_that_ends_is_waited_for(api: HcloudApi, call: Call) -> None:
    api.refuse("GET", "/servers", "rate_limit_exceeded", "limit reached", times=3)
    assert call("server_info", name="one")["hcloud_server_info"] == []


def test_an_action_that_takes_time_and_one_that_fails(api: HcloudApi, call: Call) -> None:
    call("ssh_key", **KEY)
    api.polls = 5
    assert call("server", **SERVER)["hcloud_server"]["status"] == "running"
    api.failing["create_server"] = "no more memory"
    text = hetzner.failure(call("server", **SERVER | {"name": "two"}), "Create the server")
    assert text.startswith("Create the server: Hetzner could not do it (") and "no more memory" in text
    assert "can be deleted there and made anew" in text


def test_a_server_that_is_busy_is_refused_as_locked(api: HcloudApi, call: Call) -> None:
    """The code that the role waits for."""
    call("ssh_key", **KEY)
    call("server", **SERVER)
    api.one("servers")["status"] = "initializing"
    result = call("server", **SERVER)
    assert result["failure"]["code"] == "locked"
    assert "Hetzner is still working on it" in hetzner.failure(result, "Create the server")


def test_an_image_that_the_architecture_lacks(api: HcloudApi, call: Call) -> None:
    assert call("image_info", name="fedora-45", architecture="arm")["hcloud_image_info"] == []
    assert call("image_info", name="fedora-45", architecture="x86")["hcloud_image_info"]


def test_an_api_that_cannot_be_reached(api: HcloudApi, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HCLOUD_ENDPOINT", "http://127.0.0.1:9/v1")
    assert "Hetzner's API cannot be reached" in hetzner.failure(call("server_info", name="one"), "Look")

#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send a test alert through Alertmanager, and see whether it arrives."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_test
short_description: Send a test alert through Alertmanager to every channel, and see whether it arrives
version_added: 0.1.0
description:
  - Hands an alert of its own to Alertmanager's API. Each channel counts as reached if Alertmanager's request to it
    succeeded, by Alertmanager's own counters. A mail server or receiver that accepts an alert and drops it is not seen.
  - An ntfy topic is read, too, so that the arrival itself is seen.
  - A module of our own because no module of another collection does it.
options:
  address:
    description: Alertmanager's address in the network of the containers.
    type: str
    required: true
  port:
    description: Its port.
    type: int
    default: 9093
  channels:
    description: The channels, by the name of their receiver in Alertmanager's configuration.
    type: list
    elements: str
    required: true
  server:
    description: The name of the server, for the message.
    type: str
    required: true
  ntfy_url:
    description: The address of the ntfy topic, if V(ntfy) is one of O(channels).
    type: str
    default: ""
  ntfy_token:
    description: The access token of that topic.
    type: str
    default: ""
  seconds:
    description: For how many seconds to wait for the arrival.
    type: int
    default: 60
  project_src:
    description: The directory of the Compose project.
    type: path
    default: /opt/openmates
  unless_tested:
    description: Whether to do nothing if the channels have not changed since a test that reached all of them.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: Sends nothing.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Send a test alert
  openmates.server.alert_test:
    address: 172.30.0.15
    channels: [mail, ntfy]
    server: openmates-prod
"""

RETURN = r"""
channels:
  description:
    - Of each channel whether the alert was C(sent), whether it was seen to have C(arrived) (null if the channel
      cannot be asked), and the C(problem).
    - C(not_seen) is why a channel that can be asked could not be.
  type: dict
  returned: if an alert was sent
test:
  description: The word by which the message can be found.
  type: str
  returned: if an alert was sent
"""

import secrets
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.openmates.server.plugins.module_utils import alert_channels


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "default": 9093},
            "channels": {"type": "list", "elements": "str", "required": True},
            "server": {"type": "str", "required": True},
            "ntfy_url": {"type": "str", "default": "", "no_log": True},
            "ntfy_token": {"type": "str", "default": "", "no_log": True},
            "seconds": {"type": "int", "default": 60},
            "project_src": {"type": "path", "default": "/opt/openmates"},
            "unless_tested": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    project = Path(given["project_src"])
    if module.check_mode or (given["unless_tested"] and alert_channels.tested(project)):
        module.exit_json(changed=False)
    word, begun = f"test-{secrets.token_hex(4)}", time.time()
    labels = {"alertname": "AlertTest", "test": word, "severity": "test", "server": given["server"]}
    annotations = {
        "summary": f"This is a test of the alerts ({word})",
        "remedy": "Nothing to do: alerts of this server arrive here.",
    }
    read_back = {"ntfy": lambda: alert_channels.topic_has(given["ntfy_url"], given["ntfy_token"], begun - 1, word)}
    try:
        found = alert_channels.try_out(
            alert_channels.Alertmanager(given["address"], given["port"]),
            given["channels"],
            (labels, annotations),
            given["seconds"],
            read_back if given["ntfy_url"] else {},
        )
        if not any(result["problem"] for result in found.values()):
            alert_channels.note_tested(project)
    except alert_channels.NotAsked as problem:
        module.fail_json(msg=f"No test alert was sent: {problem}.")
    module.exit_json(changed=False, channels=found, test=word)


if __name__ == "__main__":
    main()

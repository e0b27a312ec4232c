#!/usr/bin/python
# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a Directus whether it takes a login."""

from __future__ import annotations

DOCUMENTATION = r"""
module: directus_login_info
short_description: Ask a Directus whether it takes an email address and password
description:
  - Logs in and reports the answer. Nothing is changed, and the session that Directus opens is not returned.
  - The password is masked by the module itself, so the task needs no C(no_log) and a failure keeps its reason.
options:
  url:
    description: Base URL of Directus, as the host reaches it.
    type: str
    required: true
  email:
    description: Email address of the user.
    type: str
    required: true
  password:
    description: The user's password.
    type: str
    required: true
  timeout:
    description: Seconds to wait for an answer.
    type: int
    default: 20
attributes:
  check_mode: {support: full, description: It changes nothing in any mode.}
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
- name: Log in to Directus as the administrator
  openmates.server.directus_login_info:
    url: http://172.30.0.5:8055
    email: "{{ admin_email }}"
    password: "{{ admin_password }}"
  register: login
"""

RETURN = r"""
accepted:
  description: Whether Directus took the login.
  type: bool
  returned: always
reason:
  description: What Directus, or the connection to it, said instead; empty when it was taken.
  type: str
  returned: always
  sample: Invalid user credentials.
"""

import json
from urllib.error import HTTPError, URLError

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url


def reason_of(error: HTTPError) -> str:
    """What Directus says in the body of a refusal, or else the HTTP status."""
    try:
        return json.load(error)["errors"][0]["message"]
    except (ValueError, LookupError, TypeError):
        return f"HTTP status {error.code}"


def login(url: str, email: str, password: str, timeout: int) -> str:
    """Log in; the reason of a refusal, or an empty string."""
    body = json.dumps({"email": email, "password": password, "mode": "session"})
    headers = {"Content-Type": "application/json"}
    try:
        open_url(f"{url}/auth/login", method="POST", data=body, headers=headers, timeout=timeout).close()
    except HTTPError as error:
        return reason_of(error)
    except (URLError, OSError, ValueError) as error:
        return f"{url} does not answer: {getattr(error, 'reason', error)}"
    return ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "email": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "timeout": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    reason = login(**module.params)
    module.exit_json(changed=False, accepted=not reason, reason=reason)


if __name__ == "__main__":
    main()

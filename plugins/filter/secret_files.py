# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn secrets by service into the list of files that host_files writes."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: secret_files
short_description: List the secret files of every service
description: One file per secret, in one directory per service, owned by the user that the service runs as.
positional: _input, uids
options:
  _input:
    description: Maps a service to its secrets, which map a name to a value.
    type: dict
    required: true
  uids:
    description: Maps a service to the numeric user that may read them.
    type: dict
    required: true
author: [The openmates.server contributors]
"""

EXAMPLES = r"""
# -> [{path: api/TOKEN, content: s3cret, owner: "1000"}]
files: "{{ {'api': {'TOKEN': 's3cret'}} | openmates.server.secret_files({'api': 1000}) }}"
"""

RETURN = r"""
_value:
  description: The files, for the C(files) option of openmates.server.host_files.
  type: list
  elements: dict
"""


def secret_files(secrets: dict[str, dict[str, str]], uids: dict[str, int]) -> list[dict]:
    """List each secret as ``{path, content, owner}``. Raises AnsibleFilterError for a service without a uid."""
    if missing := sorted(set(secrets) - set(uids)):
        raise AnsibleFilterError(f"No user is named for the secrets of {', '.join(missing)}. Add it to the uids.")
    return [
        {"path": f"{service}/{name}", "content": value, "owner": str(int(uids[service]))}
        for service, values in secrets.items()
        for name, value in values.items()
    ]


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        return {"secret_files": secret_files}

# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secrets of an inventory: what each has to be, and the encrypted file that holds them.

This is the one list of them. Preflight validates them by it, and the playbooks `secrets` and `new` make them by it.
"""

from __future__ import annotations

import dataclasses
import secrets
import string
import typing as t
from collections.abc import Callable, Collection
from pathlib import Path

import yaml
from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.vault import VaultLib, match_encrypt_secret
from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically

UNENCRYPTED = (
    "This run has no ansible-vault password, with which {path} would be encrypted. Pass one:"
    " --vault-password-file FILE, --vault-id NAME@FILE or --ask-vault-pass. Nothing was written."
)
HEAD = "---\n# Secrets of the servers, encrypted with ansible-vault. Edit with: ansible-vault edit {path}\n"
TAIL = """
# Provider keys and the like, put into Vault when absent:
# openmates_vault_seeds:
#   providers/openai: {api_key: ...}
#   providers/invoice_ninja: {url: ..., production_api_key: ...} # most mails fail without it
#   providers/hetzner: {s3_access_key: ..., s3_secret_key: ..., s3_region_name: ...} # no uploads without it

# Where backups go to (openmates_backup_repository), with s3 or sftp:
# openmates_backup_s3_secret: ...
# openmates_backup_sftp_key: |
#   (the lines of the file, indented like this one)

# Where alerts go to (openmates_alerts_mail), each of these for one channel:
# openmates_alerts_mail_password: ...
# openmates_alerts_ntfy_url: https://ntfy.sh/...
# openmates_alerts_webhook_url: ...
# openmates_alerts_watchdog_url: ... # requested as long as the server works

# What deploys the frontends on Vercel:
# openmates_frontends:
#   website: {deploy_hook: "https://..."}

# Logins of registries whose images are not public:
# openmates_registry_logins:
#   ghcr.io: {username: ..., password: ...}
"""


def random_text(length: int = 40, alphabet: str = string.ascii_letters + string.digits) -> str:
    """Random characters that need no quotation marks in files, addresses and command lines."""
    return "".join(secrets.choice(alphabet) for _ in range(length))


def invite_code() -> str:
    """A code of the only form that OpenMates' web app accepts, without characters that look alike."""
    return "-".join(random_text(4, "ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(3))


@dataclasses.dataclass(frozen=True)
class Secret:
    """A secret that an inventory has to set."""

    shortest: int  # characters
    make: Callable[[], str] = random_text
    comment: str = ""


SECRETS: dict[str, Secret] = {
    "openmates_admin_password": Secret(12),
    "openmates_database_password": Secret(16),
    "openmates_cache_password": Secret(16),
    "openmates_directus_secret": Secret(32),
    "openmates_internal_api_token": Secret(16),
    "openmates_grafana_password": Secret(12),
    "openmates_backup_password": Secret(
        20, comment="Opens the backups. Keep a copy elsewhere: without it they cannot be read."
    ),
    "openmates_first_invite_code": Secret(
        14, invite_code, "The first account is made with it: the web app asks for it, once."
    ),
}


class SecretsFile:
    """The YAML file of an inventory's secrets, encrypted as a whole."""

    def __init__(self, path: Path, vault_secrets: list[tuple[str, t.Any]]) -> None:
        """``vault_secrets``: the ansible-vault passwords of the run. Raises AnsibleActionFail."""
        self.path, self.text = path.resolve(), ""
        vault, identity, secret = VaultLib(vault_secrets), None, None
        if self.path.exists():
            content = self.path.read_bytes()
            try:
                if VaultLib.is_encrypted(content):
                    # It stays encrypted with the password that opened it.
                    content, identity, secret = vault.decrypt_and_get_vault_id(content)
                self.text = bytes(content).decode()
                self.values = yaml.safe_load(self.text) or {}
            except AnsibleError as error:
                raise AnsibleActionFail(
                    f"{self.path} cannot be decrypted with this run's ansible-vault password. Nothing was written."
                ) from error
            except (yaml.YAMLError, UnicodeDecodeError):
                self.values = None
            if not isinstance(self.values, dict):
                # No cause: a parser's message would quote the content.
                raise AnsibleActionFail(f"{self.path} is not a YAML mapping. Correct it first.") from None
        else:
            self.values = {}
        if secret is None:
            if not vault_secrets:
                raise AnsibleActionFail(UNENCRYPTED.format(path=self.path))
            identity, secret = match_encrypt_secret(vault_secrets, C.DEFAULT_VAULT_ENCRYPT_IDENTITY)
        self.vault, self.identity, self.secret = vault, identity, secret

    def missing(self, others: Collection[str]) -> list[str]:
        """The secrets that neither this file nor ``others`` has."""
        return [name for name in SECRETS if name not in self.values and name not in others]

    def add(self, names: Collection[str]) -> None:
        """Make these secrets and write the file. Raises AnsibleActionFail and then leaves the file as it was."""
        first = not self.text.strip()
        lines = [HEAD.format(path=self.path) if first else self.text.rstrip("\n") + "\n"]
        for name in names:
            comment = SECRETS[name].comment
            lines.append(f"# {comment}\n" if comment else "")
            lines.append(f'{name}: "{SECRETS[name].make()}"\n')
        self.text = "".join([*lines, TAIL if first else ""])
        content = self.vault.encrypt(self.text, self.secret, vault_id=self.identity)
        if self.vault.decrypt(content) != self.text.encode():
            raise AnsibleActionFail(f"{self.path} does not decrypt as it was encrypted. Nothing was written.")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, content, 0o600)
        except OSError as error:
            raise AnsibleActionFail(f"{self.path} cannot be written: {error.strerror}.") from error

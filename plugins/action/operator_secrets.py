# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the missing secrets of an inventory in its encrypted file, without a value in an argument or an output."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.vault import FileVaultSecret
from ansible.plugins.action import ActionBase
from ansible_collections.openmates.server.plugins.module_utils.atomic import write_atomically
from ansible_collections.openmates.server.plugins.plugin_utils.operator_secrets import SecretsFile, random_text

EXECUTABLE = (
    "{file} would be executable, whatever its mode, and Ansible would run it in place of reading it. Choose a directory"
    " on a file system that has permissions (in WSL: below ~), or keep the password elsewhere and pass"
    " --vault-password-file FILE."
)


class ActionModule(ActionBase):
    """Encrypts in this process, with the ansible-vault passwords of the run."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(
            {"path": {"type": "path", "required": True}, "password_file": {"type": "path"}}
        )
        path = Path(options["path"])
        if not path.is_absolute():
            raise AnsibleActionFail(f"path must be an absolute path on the controller, not {options['path']!r}.")
        passwords = list(self._loader._vault.secrets or [])
        if not passwords and options["password_file"]:
            passwords = self._password(Path(options["password_file"]))
        file = SecretsFile(path, passwords)
        missing = file.missing(task_vars)
        if missing and not self._task.check_mode:
            file.add(missing)
        source = getattr(file.secret, "filename", None)
        return result | {
            "changed": bool(missing),
            "path": str(path),
            "added": missing,
            "vault_id": file.identity or "default",
            "password_source": str(source) if source else "",
        }

    def _password(self, file: Path) -> list:
        """The password in the file, which is made first if it is missing."""
        secret = FileVaultSecret(filename=str(file), loader=self._loader)
        try:
            if not file.exists():
                if self._task.check_mode:
                    return [("default", secret)]  # nothing is encrypted
                write_atomically(file, f"{random_text(43)}\n".encode(), 0o600)
                if self._loader.is_executable(file):
                    file.unlink()
                    raise AnsibleActionFail(EXECUTABLE.format(file=file))
            secret.load()
        except OSError as error:
            raise AnsibleActionFail(f"{file} cannot be written: {error.strerror}.") from error
        except AnsibleError as error:
            raise AnsibleActionFail(f"{file} cannot be read as an ansible-vault password: {error}") from error
        return [("default", secret)]

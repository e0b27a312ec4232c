"""What the api and the worker use, each one once for a process."""

import os

from backend.core.api.app import settings as settings_module
from backend.core.api.app.redact import Redactor
from backend.core.api.app.services.cache import Cache
from backend.core.api.app.services.directus import Directus
from backend.core.api.app.services.vault import Vault


class Services:
    """The settings of the process, and its connections, which open at their first use."""

    def __init__(self) -> None:
        self.settings = settings_module.load(os.environ)
        self.redactor = Redactor()
        for name, value in settings_module.secret_values(os.environ).items():
            self.redactor.register(name, value)
        self.connect()

    def connect(self) -> None:
        """Forget the connections: a process that was forked must not use its parent's."""
        self.cache = Cache(self.settings)
        self.vault = Vault(self.settings, self.redactor)
        self.directus = Directus(self.settings, self.cache, self.redactor)

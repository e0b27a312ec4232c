"""Vault (or OpenBao): the service token, a provider key, and encryption through transit."""

import base64
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hvac
import requests

from backend.core.api.app.errors import DependencyError
from backend.core.api.app.redact import Redactor
from backend.core.api.app.settings import VaultSettings

TRANSIT_KEY = "sample-readiness"
TIMEOUT = 2.0  # seconds for connecting, and again for each answer


class Vault:
    """Talks to Vault with the token in the file, which is read anew for every call."""

    def __init__(self, settings: VaultSettings, redactor: Redactor) -> None:
        self._settings = settings
        self._redactor = redactor

    def check_token(self) -> str:
        """Look up our own token and report what kind it is. The host renews it."""
        with self._client() as client:
            data = client.auth.token.lookup_self()["data"]
        period, left = data.get("period") or 0, data.get("ttl") or 0
        kind = {"orphan": data.get("orphan"), "periodic": period > 0, "renewable": data.get("renewable")}
        words = [f"{name}={'yes' if value else 'no'}" for name, value in kind.items()]
        policies = ",".join(data.get("policies") or [])
        return f"{' '.join(words)} ttl={left}s policies={policies}"

    def check_provider(self, provider: str) -> str:
        """Read the provider's secret from kv; its values are counted, not shown."""
        path = f"providers/{provider}"
        with self._client() as client, _explained(self._settings.url, f"reading kv/data/{path}"):
            answer = client.secrets.kv.v2.read_secret_version(path, mount_point="kv", raise_on_deleted_version=True)
        data = answer["data"]["data"] or {}
        filled = [name for name, value in data.items() if value]
        for name in filled:
            self._redactor.register(f"provider {provider} {name}", str(data[name]))
        if not filled:
            raise DependencyError(f"kv/data/{path} holds no value")
        return f"kv/data/{path}: {len(filled)} value(s), version {answer['data']['metadata']['version']}"

    def check_transit(self) -> str:
        """Encrypt and decrypt a random value, making our key first if it is not there."""
        with self._client() as client, _explained(self._settings.url, f"transit key {TRANSIT_KEY}"):
            try:
                client.secrets.transit.read_key(TRANSIT_KEY)
            except hvac.exceptions.InvalidPath:
                client.secrets.transit.create_key(TRANSIT_KEY)
        plaintext = secrets.token_bytes(16)
        if self.decrypt(self.encrypt(plaintext)) != plaintext:
            raise DependencyError("transit decrypted to something else than was encrypted")
        return f"encrypted and decrypted with transit key {TRANSIT_KEY}"

    def encrypt(self, plaintext: bytes) -> str:
        """Encrypt through transit. Raises DependencyError."""
        encoded = base64.b64encode(plaintext).decode()
        with self._client() as client, _explained(self._settings.url, "transit encrypt"):
            return client.secrets.transit.encrypt_data(TRANSIT_KEY, plaintext=encoded)["data"]["ciphertext"]

    def decrypt(self, ciphertext: str) -> bytes:
        """Decrypt through transit. Raises DependencyError."""
        with self._client() as client, _explained(self._settings.url, "transit decrypt"):
            answer = client.secrets.transit.decrypt_data(TRANSIT_KEY, ciphertext=ciphertext)
            return base64.b64decode(answer["data"]["plaintext"])

    @contextmanager
    def _client(self) -> Iterator[hvac.Client]:
        session = requests.Session()
        # A proxy or netrc from the environment must not see the token.
        session.trust_env = False
        with session, _explained(self._settings.url, "the token"):
            yield hvac.Client(url=self._settings.url, token=self._token(), session=session, timeout=TIMEOUT)

    def _token(self) -> str:
        path = self._settings.token_file
        try:
            token = path.read_text(encoding="ascii", errors="strict").strip()
        except (OSError, UnicodeDecodeError) as error:
            # UnicodeDecodeError's own text would show a part of the file.
            reason = error.strerror if isinstance(error, OSError) else "not plain text"
            raise DependencyError(f"cannot read the token file {path}: {reason}") from None
        if not token or len(token.split()) != 1:
            raise DependencyError(f"the token file {path} holds no token")
        self._redactor.register("vault token", token)
        return token


@contextmanager
def _explained(url: str, what: str) -> Iterator[None]:
    """Turn the client's exceptions into a sentence for the operator."""
    reasons: tuple[tuple[type[Exception], Callable[[Exception], str]], ...] = (
        (hvac.exceptions.Forbidden, lambda error: f"Vault refused {what}: wrong token or missing policy"),
        (hvac.exceptions.InvalidPath, lambda error: f"Vault has no such thing: {what}"),
        (hvac.exceptions.VaultDown, lambda error: "Vault is sealed"),
        (hvac.exceptions.VaultError, lambda error: f"Vault could not do {what}: {type(error).__name__}"),
        (requests.Timeout, lambda error: f"no answer from Vault at {url} within {TIMEOUT:g} s"),
        (requests.RequestException, lambda error: f"no connection to Vault at {url}"),
    )
    try:
        yield
    except tuple(kind for kind, _ in reasons) as error:
        text = next(text for kind, text in reasons if isinstance(error, kind))(error)
        raise DependencyError(text) from None

"""Vault (or OpenBao): the service token, provider keys, and encryption through transit."""

import base64
import logging
import time
import uuid

import httpx

from backend.core.api.app.redact import Redactor
from backend.core.api.app.settings import Settings

TIMEOUT = 30.0  # seconds
VALID_FOR = 300.0  # seconds a token that was looked up counts as valid
EMAIL_KEY = "email-hmac-key"
DATA_KEY = "user_data"
SYSTEM_KEYS = (EMAIL_KEY, "shared-content-metadata", "account_contact_emails", DATA_KEY)

log = logging.getLogger(__name__)


class VaultError(Exception):
    """Vault does not do what was asked."""


class Vault:
    """Uses the token in the file, which it reads once, and again only after Vault has refused it."""

    def __init__(self, settings: Settings, redactor: Redactor) -> None:
        self._settings = settings
        self._redactor = redactor
        self._token = ""
        self._valid_until = 0.0
        # A proxy from the environment must not see the token.
        self._client = httpx.Client(timeout=TIMEOUT, trust_env=False)

    def initialize(self) -> bool:
        """Look the token up; return whether it is valid. Never raises."""
        try:
            valid = self._validate()
        except httpx.HTTPError as error:
            log.error("Error validating Vault token: %s", type(error).__name__)
            return False
        if not valid:
            log.warning("Failed to initialize encryption service with valid token")
        return valid

    def ensure_keys(self) -> None:
        """Read the mount of transit, mount it if it is missing, and make the keys. Raises VaultError."""
        try:
            if not self.request("GET", "sys/mounts/transit").get("type"):
                self.request("POST", "sys/mounts/transit", {"type": "transit"})
            for name in SYSTEM_KEYS:
                if self.request("GET", f"transit/keys/{name}").get("name") != name:
                    self.request("POST", f"transit/keys/{name}", {"type": "aes256-gcm96"})
        except (VaultError, httpx.HTTPError) as error:
            raise VaultError(f"Failed to initialize encryption service: {error}") from None

    def request(self, method: str, path: str, body: dict | None = None) -> dict:
        """Send a request and return the answer's data; empty for what does not exist. Raises VaultError, HTTPError."""
        if self._valid_until <= time.monotonic() and not self._validate():
            raise VaultError("Invalid Vault token")
        response = self._send(method, path, body)
        if response.status_code in (401, 403):
            log.warning("Vault %s for %s on %s; reading the token again", response.status_code, method, path)
            self._token, self._valid_until = "", 0.0
            if self._validate():
                response = self._send(method, path, body)
        if response.status_code == 403:
            log.error("Vault permission denied for %s on %s", method, path)
            raise VaultError(f"Permission denied in Vault for {method} on {path}")
        if response.status_code == 404:
            return {}
        if response.status_code != 200:
            log.error("Vault request failed: %s for %s %s", response.status_code, method, path)
            raise VaultError(f"Vault request failed with status {response.status_code}")
        answer = response.json()
        return answer.get("data") or answer

    def secret(self, path: str) -> dict:
        """Return what is stored at a path of kv; empty if nothing is, or it cannot be read."""
        try:
            found = self.request("GET", f"kv/data/{path}").get("data") or {}
        except (VaultError, httpx.HTTPError) as error:
            log.error("cannot read kv/data/%s: %s", path, error)
            return {}
        for name, value in found.items():
            self._redactor.register(f"{path} {name}", str(value))
        return found

    def store(self, path: str, data: dict) -> bool:
        """Store at a path of kv; return whether that worked."""
        try:
            self.request("POST", f"kv/data/{path}", {"data": data})
        except (VaultError, httpx.HTTPError) as error:
            log.error("cannot store kv/data/%s: %s", path, error)
            return False
        return True

    def create_user_key(self) -> str:
        """Make a key of its own for an account and return its name."""
        name = f"user_{uuid.uuid4().hex}"
        self.request("POST", f"transit/keys/{name}", {"type": "aes256-gcm96", "derived": True})
        return name

    def encrypt(self, plaintext: str, key: str = DATA_KEY) -> str:
        """Encrypt through transit."""
        body = {"plaintext": _encode(plaintext)} | _context(key)
        return self.request("POST", f"transit/encrypt/{key}", body)["ciphertext"]

    def decrypt(self, ciphertext: str, key: str = DATA_KEY) -> str:
        """Decrypt through transit."""
        answer = self.request("POST", f"transit/decrypt/{key}", {"ciphertext": ciphertext} | _context(key))
        return base64.b64decode(answer["plaintext"]).decode()

    def digest(self, text: str) -> str:
        """Return the keyed digest of a text, made by Vault."""
        answer = self.request("POST", f"transit/hmac/{EMAIL_KEY}", {"input": _encode(text.strip().lower())})
        return answer["hmac"].rsplit(":", 1)[-1]

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _send(self, method: str, path: str, body: dict | None = None) -> httpx.Response:
        url = f"{self._settings.vault_url}/v1/{path}"
        return self._client.request(method, url, json=body, headers={"X-Vault-Token": self._token})

    def _validate(self) -> bool:
        if not self._token:
            try:
                self._token = self._settings.token_file.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                log.error("cannot read the token file %s: %s", self._settings.token_file, type(error).__name__)
                return False
            self._redactor.register("vault token", self._token)
        response = self._send("GET", "auth/token/lookup-self")
        if response.status_code == 200:
            self._valid_until = time.monotonic() + VALID_FOR
            return True
        log.warning("the Vault token is not valid: %s", response.status_code)
        self._token, self._valid_until = "", 0.0
        return False


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _context(key: str) -> dict[str, str]:
    """Keys of accounts are derived, and want a context."""
    return {"context": _encode(key)} if key.startswith("user_") and key != DATA_KEY else {}

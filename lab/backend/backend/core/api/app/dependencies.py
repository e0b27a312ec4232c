"""The checks behind GET /sample/dependencies. They look at what the api uses; they repair nothing and never log in."""

import hashlib
import secrets
import time
from functools import partial

import httpx
import redis

from backend.core.api.app.checks import Check, CheckError
from backend.core.api.app.services import Services
from backend.core.api.app.services.directus import TOKEN_KEY
from backend.core.api.app.services.vault import DATA_KEY
from backend.core.api.app.tasks import queues
from backend.core.api.app.tasks.celery_config import app as celery

TIMEOUT = 3.0  # seconds
HEARTBEAT_AGE = 45.0  # seconds


class Dependencies:
    """Opens a connection for every check, so that each one proves the network and the credentials anew."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings

    def checks(self) -> list[Check]:
        """Return one check per dependency."""
        return [
            Check("vault_token", self.vault_token),
            Check("vault_kv", self.vault_kv),
            Check("vault_transit", self.vault_transit),
            Check("directus", self.directus),
            Check("cache", self.cache),
            Check("worker", self.worker),
            Check("scheduler", self.scheduler),
            *(Check(f"app:{name}", partial(self.app, url)) for name, url in self._settings.apps.items()),
        ]

    def vault_token(self) -> str:
        """The token in the file is valid."""
        data = self._vault("GET", "auth/token/lookup-self")
        kinds = {"orphan": data.get("orphan"), "periodic": data.get("period"), "renewable": data.get("renewable")}
        words = " ".join(f"{name}={'yes' if value else 'no'}" for name, value in kinds.items())
        return f"{words} ttl={data.get('ttl')}s policies={','.join(data.get('policies') or [])}"

    def vault_kv(self) -> str:
        """The provider key is there; its values are counted, not shown."""
        path = f"kv/data/providers/{self._settings.provider}"
        found = self._vault("GET", path)
        values = [str(value) for value in (found.get("data") or {}).values() if value]
        for number, value in enumerate(values):
            self._services.redactor.register(f"{path} {number}", value)
        if not values:
            raise CheckError(f"{path} holds no value")
        return f"{path}: {len(values)} value(s), version {found['metadata']['version']}"

    def vault_transit(self) -> str:
        """Encryption and decryption."""
        text = secrets.token_hex(16)  # transit takes base64, which hexadecimal digits are
        ciphertext = self._vault("POST", f"transit/encrypt/{DATA_KEY}", {"plaintext": text})["ciphertext"]
        if self._vault("POST", f"transit/decrypt/{DATA_KEY}", {"ciphertext": ciphertext})["plaintext"] != text:
            raise CheckError("transit decrypted to something else than was encrypted")
        return f"encrypted and decrypted with transit key {DATA_KEY}"

    def directus(self) -> str:
        """The token that the backend got from Directus works. The api logs in every 15 seconds, this check never."""
        with self._redis() as client:
            token = client.get(TOKEN_KEY)
        if not token:
            raise CheckError("the backend holds no token of Directus")
        self._services.redactor.register("directus token", token)
        response = self._get(f"{self._settings.cms_url}/users/me", {"Authorization": f"Bearer {token}"})
        if response.status_code != 200:
            raise CheckError(f"Directus answered {response.status_code} to GET /users/me")
        email = str(response.json()["data"].get("email")).lower()
        if email != (self._settings.admin_email or "").lower():
            raise CheckError("Directus says that the token is not the administrator's")
        return "logged in as the administrator and read /users/me"

    def cache(self) -> str:
        """A write and a read, authenticated."""
        key, value = f"sample:check:{secrets.token_hex(8)}", secrets.token_hex(8)
        with self._redis() as client:
            client.set(key, value, ex=30)
            if client.get(key) != value:
                raise CheckError("the cache did not return what was written")
            client.delete(key)
        return "wrote and read a value, authenticated"

    def worker(self) -> str:
        """A task end to end: the worker decrypts with its own token and writes to the cache."""
        text, key = secrets.token_hex(16), f"sample:round-trip:{secrets.token_hex(8)}"
        with self._redis() as client:
            if (waiting := client.llen(queues.DEFAULT)) > 20:
                raise CheckError(f"no worker takes tasks: {waiting} are waiting")
            ciphertext = self._services.vault.encrypt(text)
            celery.send_task(queues.ROUND_TRIP, args=[ciphertext, key], queue=queues.DEFAULT, expires=5.0, retry=False)
            deadline = time.monotonic() + TIMEOUT
            while not (answer := client.get(key)):
                if time.monotonic() > deadline:
                    raise CheckError(f"no worker answered within {TIMEOUT:g} s")
                time.sleep(0.1)
        if answer != hashlib.sha256(text.encode()).hexdigest():
            raise CheckError(f"the worker says: {answer}")
        return "the worker decrypted through transit and wrote to the cache"

    def scheduler(self) -> str:
        """The heartbeat that beat sends through the worker is young."""
        with self._redis() as client:
            stamp = client.get(queues.HEARTBEAT_KEY)
        if not stamp:
            raise CheckError("no heartbeat from the scheduler yet")
        age = time.time() - float(stamp)
        # A stamp from the future, after a clock was set back, would otherwise count as young for long.
        if abs(age) > HEARTBEAT_AGE:
            raise CheckError(f"last heartbeat from the scheduler {age:.0f} s ago")
        return f"heartbeat {age:.0f} s ago"

    def app(self, url: str) -> str:
        """A round trip through the App's skill."""
        text = secrets.token_hex(8)
        headers = {"X-Internal-Service-Token": self._settings.internal_token or ""}
        try:
            response = httpx.post(
                f"{url}/skills/echo", json={"text": text}, headers=headers, timeout=TIMEOUT, trust_env=False
            )
        except httpx.HTTPError as error:
            raise CheckError(f"no answer from {url} ({type(error).__name__})") from None
        if response.status_code != 200 or response.json().get("text") != text:
            raise CheckError(f"{url} answered {response.status_code} to POST /skills/echo")
        return "echo came back"

    def _redis(self) -> redis.Redis:
        return redis.Redis(
            host=self._settings.cache_host,
            port=self._settings.cache_port,
            password=self._settings.cache_password,
            socket_timeout=2.0,
            socket_connect_timeout=2.0,
            protocol=2,
            decode_responses=True,
        )

    def _vault(self, method: str, path: str, body: dict | None = None) -> dict:
        file = self._settings.token_file
        try:
            token = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CheckError(f"cannot read the token file {file}: {type(error).__name__}") from None
        self._services.redactor.register("vault token file", token)
        url, headers = f"{self._settings.vault_url}/v1/{path}", {"X-Vault-Token": token}
        try:
            response = httpx.request(method, url, json=body, headers=headers, timeout=TIMEOUT, trust_env=False)
        except httpx.HTTPError as error:
            raise CheckError(f"no answer from Vault ({type(error).__name__})") from None
        if response.status_code == 503:
            raise CheckError("Vault is sealed")
        if response.status_code != 200:
            raise CheckError(f"Vault answered {response.status_code} to {method} {path}")
        return response.json()["data"]

    def _get(self, url: str, headers: dict[str, str]) -> httpx.Response:
        try:
            return httpx.get(url, headers=headers, timeout=TIMEOUT, trust_env=False)
        except httpx.HTTPError as error:
            raise CheckError(f"no answer from {url} ({type(error).__name__})") from None

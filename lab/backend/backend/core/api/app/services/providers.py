"""Outside services whose keys are in Vault. The sample reads the keys and calls nothing."""

import logging
import secrets

from backend.core.api.app.services.vault import Vault

log = logging.getLogger(__name__)


def invoice_ninja(vault: Vault, development: bool) -> None:
    """Read the invoicing service's keys. Raises ValueError without them: most tasks of the worker need them."""
    keys = vault.secret("providers/invoice_ninja")
    if not keys.get("url"):
        raise ValueError("Invoice Ninja URL could not be retrieved")
    if not keys.get("sandbox_api_key" if development else "production_api_key"):
        raise ValueError("Invoice Ninja API Token could not be retrieved")


def payment(vault: Vault, development: bool) -> None:
    """Read the payment provider's keys. Raises ValueError without them."""
    keys = vault.secret("providers/stripe")
    kind = "sandbox" if development else "production"
    for name in (f"{kind}_secret_key", f"{kind}_webhook_secret"):
        if not keys.get(name):
            raise ValueError(f"Stripe key {name} is missing in kv/data/providers/stripe")


def storage(vault: Vault) -> None:
    """Read the object storage's keys; say so if there are none."""
    keys = vault.secret("providers/hetzner")
    if not (keys.get("s3_access_key") and keys.get("s3_secret_key")):
        log.critical("S3 credentials not found; S3 service will be unavailable")


def push_keys(vault: Vault) -> None:
    """Read the keys of push messages, or make and store them. Whether storing worked is not looked at."""
    if vault.secret("providers/vapid").get("private_key"):
        log.info("Loaded VAPID keys from Vault")
        return
    vault.store("providers/vapid", {"public_key": secrets.token_urlsafe(65), "private_key": secrets.token_urlsafe(32)})
    log.info("Generated and stored new VAPID key pair")

"""Accounts in Directus: made, found and read, with what is personal encrypted by a key of their own in Vault."""

import base64
import hashlib
import logging
import os
import secrets
import string

from backend.core.api.app import frontends
from backend.core.api.app.services import Services
from backend.core.api.app.services.directus import CmsError

ACCOUNT_ID = string.ascii_uppercase + string.digits
SHOWN = ("id", "username", "is_admin", "credits", "language", "darkmode", "account_id", "user_email_salt")
FIELDS = (
    "id,vault_key_id,encrypted_username,encrypted_credit_balance,is_admin,language,darkmode,account_id,user_email_salt"
)

log = logging.getLogger(__name__)


def digest(text: str) -> str:
    """Return what stands for a name or an address in Directus."""
    return base64.b64encode(hashlib.sha256(text.lower().encode()).digest()).decode()


def invite_required() -> bool:
    """Whether signing up takes an invite code."""
    if frontends.self_hosted(os.environ):
        return os.environ.get("SELF_HOST_SIGNUP_MODE", "invite_only").strip().lower() != "domain_allowlist"
    return int(os.environ.get("SIGNUP_LIMIT", "0")) > 0


def invite_code(services: Services, code: str) -> dict | None:
    """Return an invite code's row: from the cache, else from Directus. A code that cannot be looked up is invalid."""
    cached = services.cache.get(f"invite_code:{code}")
    if isinstance(cached, dict):
        return cached
    try:
        found = services.directus.items("/items/invite_codes", {"code": {"_eq": code}})
    except Exception as error:
        log.error("Error connecting to CMS: %s", error)
        return None
    if not found:
        return None
    services.cache.set(f"invite_code:{code}", found[0])
    return found[0]


def consume_invite_code(services: Services, code: dict) -> None:
    """Take one use off an invite code. Raises CmsError."""
    path, uses = f"/items/invite_codes/{code['id']}", int(code.get("remaining_uses") or 1)
    if uses <= 1:
        response = services.directus.request("DELETE", path)
    else:
        response = services.directus.request("PATCH", path, json={"remaining_uses": uses - 1})
    if response.status_code not in (200, 204):
        raise CmsError(f"Directus answered {response.status_code} to the use of an invite code")
    services.cache.delete(f"invite_code:{code['code']}")


def find(services: Services, field: str, value: str, fields: str = "id,user_email_salt") -> dict | None:
    """Return the account with that value. Raises CmsError, also if the field does not exist."""
    found = services.directus.items("/users", {field: {"_eq": value}}, fields, 1)
    return found[0] if found else None


def create(services: Services, asked: dict) -> dict:
    """Make an account with a key of its own. Raises CmsError, VaultError."""
    vault = services.vault
    vault.ensure_keys()
    key = vault.create_user_key()
    email = directus_email(asked["hashed_email"])
    user = services.directus.create(
        "/users",
        {
            "email": email,
            "password": vault.digest(email),
            "status": "active",
            "vault_key_id": key,
            "encrypted_email_address": asked["encrypted_email"],
            "encrypted_username": vault.encrypt(asked["username"], key),
            "encrypted_credit_balance": vault.encrypt("0", key),
            "is_admin": False,
            "last_opened": "/signup/one_time_codes",
            "language": asked["language"],
            "darkmode": asked["darkmode"],
            "hashed_email": asked["hashed_email"],
            "hashed_username": digest(asked["username"].strip()),
            "user_email_salt": asked["user_email_salt"],
            "lookup_hashes": [asked["lookup_hash"]],
            "account_id": "".join(secrets.choice(ACCOUNT_ID) for _ in range(7)),
        },
    )
    services.directus.create(
        "/items/encryption_keys",
        {
            "hashed_user_id": hashlib.sha256(user["id"].encode()).hexdigest(),
            "login_method": "password",
            "encrypted_key": asked["encrypted_master_key"],
            "salt": asked["salt"],
            "key_iv": asked["key_iv"],
        },
    )
    return user


def log_in(services: Services, hashed_email: str) -> tuple[dict, dict[str, str]]:
    """Open a session in Directus for an account. Raises CmsError, VaultError."""
    email = directus_email(hashed_email)
    return services.directus.log_in(email, services.vault.digest(email))


def profile(services: Services, user: str) -> dict:
    """Read an account and decrypt what is encrypted. Raises CmsError, VaultError."""
    found = services.directus.items("/users", {"id": {"_eq": user}}, FIELDS, 1)[0]
    key = found["vault_key_id"]
    return found | {
        "username": services.vault.decrypt(found["encrypted_username"], key),
        "credits": int(services.vault.decrypt(found["encrypted_credit_balance"], key)),
    }


def encryption_key(services: Services, user: str) -> dict:
    """Return the master key of an account, as the client encrypted it. Raises CmsError, LookupError."""
    hashed = hashlib.sha256(user.encode()).hexdigest()
    filters = {"hashed_user_id": {"_eq": hashed}, "login_method": {"_eq": "password"}}
    found = services.directus.items("/items/encryption_keys", filters, "encrypted_key,salt,key_iv", 1)
    return found[0]


def public(profile: dict) -> dict:
    """Return what the client may see of an account."""
    return {name: profile.get(name) for name in SHOWN} | {"tfa_enabled": False}


def directus_email(hashed_email: str) -> str:
    """Return the address by which Directus knows an account: none that a mail could reach."""
    return f"{hashed_email[:64]}@example.com"

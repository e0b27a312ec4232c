"""Accounts, as far as a test of the whole stack needs them: invite code, e-mail code, sign-up, login, session, logout.

Paths, fields and answers are those of the real backend, so that one client can test both. Left out: second factors,
passkeys, devices, credits, mails.
"""

import hashlib
import logging
import os
from typing import Annotated

import httpx
from fastapi import APIRouter, Cookie, Depends, Request, Response
from pydantic import BaseModel

from backend.core.api.app import accounts, compliance, frontends
from backend.core.api.app.routes.common import allowed_origin, client_address, limited, services
from backend.core.api.app.services import Services
from backend.core.api.app.services.directus import CmsError
from backend.core.api.app.services.vault import VaultError
from backend.core.api.app.tasks import queues
from backend.core.api.app.tasks.celery_config import app as celery

SESSION_COOKIE = "auth_refresh_token"
DAY = 86_400  # seconds
FAILURES = (CmsError, VaultError, httpx.HTTPError, LookupError)

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/auth")
frontend_only = Depends(allowed_origin)


class InviteCode(BaseModel):
    invite_code: str


class EmailCodeRequest(BaseModel):
    email: str
    hashed_email: str
    invite_code: str | None = None
    language: str = "en"
    darkmode: bool = False


class EmailCode(BaseModel):
    code: str
    email: str
    username: str
    invite_code: str
    language: str
    darkmode: bool


class Password(BaseModel):
    hashed_email: str
    encrypted_email: str
    user_email_salt: str
    username: str
    invite_code: str
    encrypted_master_key: str
    key_iv: str
    salt: str
    lookup_hash: str
    language: str = "en"
    darkmode: bool = False


class Lookup(BaseModel):
    hashed_email: str
    stay_logged_in: bool = False


class Login(BaseModel):
    hashed_email: str
    lookup_hash: str
    session_id: str | None = None
    login_method: str | None = None
    stay_logged_in: bool = False


class Session(BaseModel):
    session_id: str | None = None


def refused(message: str, code: str | None = None) -> dict:
    return {"success": False, "message": message, "error_code": code}


@router.post("/check_invite_token_valid", dependencies=[frontend_only, Depends(limited(5))])
def check_invite_token_valid(asked: InviteCode, request: Request) -> dict:
    """Say whether an invite code exists."""
    code = accounts.invite_code(services(request), asked.invite_code)
    return {"valid": bool(code), "message": "Invite code is valid" if code else "Invalid invite code"}


@router.post("/request_confirm_email_code", dependencies=[frontend_only, Depends(limited(5))])
def request_confirm_email_code(asked: EmailCodeRequest, request: Request) -> dict:
    """Have the worker make a code for an address."""
    own = services(request)
    if accounts.invite_required() and not accounts.invite_code(own, asked.invite_code or ""):
        return refused("Invalid invite code. Please go back and start again.", "INVALID_INVITE_CODE")
    if not request.app.state.start.domain_checked:
        log.error("Domain security service unavailable: rejecting the request")
        return refused("Service temporarily unavailable. Please try again.", "SERVICE_UNAVAILABLE")
    try:
        if not accounts.find(own, "hashed_email", accounts.digest(asked.email)):
            arguments = {"email": asked.email, "invite_code": asked.invite_code}
            celery.send_task(queues.EMAIL_CODE, kwargs=arguments, queue="email")
    except FAILURES as error:
        log.error("Error requesting email verification code: %s", error)
        return refused("Unable to verify email availability. Please try again later.", "EMAIL_CHECK_ERROR")
    return {"success": True, "message": "Verification code will be sent to your email."}


@router.post("/check_confirm_email_code", dependencies=[frontend_only, Depends(limited(5))])
def check_confirm_email_code(asked: EmailCode, request: Request) -> dict:
    """Compare the code with the one in the cache."""
    own, key = services(request), f"email_verification:{asked.email}"
    stored = own.cache.get(key)
    if not stored:
        return refused("No verification code requested for this email or code expired.")
    if str(stored) != asked.code:
        return refused("Invalid verification code. Please try again.")
    own.cache.delete(key)
    own.cache.set(f"email_verified:{accounts.digest(asked.email)}", {"email": asked.email}, 1800)
    return {"success": True, "message": "Email verified successfully."}


@router.post("/setup_password", dependencies=[frontend_only, Depends(limited(5))])
def setup_password(asked: Password, request: Request, response: Response) -> dict:
    """Make the account, and log it in."""
    own = services(request)
    code = accounts.invite_code(own, asked.invite_code) if accounts.invite_required() else None
    if accounts.invite_required() and not code:
        return refused("Invalid invite code. Please go back and start again.")
    if not frontends.self_hosted(os.environ) and not own.cache.get(f"email_verified:{asked.hashed_email}"):
        return refused("Email verification required. Please verify your email first.")
    try:
        if accounts.find(own, "hashed_username", accounts.digest(asked.username.strip())):
            return refused("This username is already taken. Please choose another one.")
        if accounts.find(own, "hashed_email", asked.hashed_email):
            return refused("This email is already registered. Please log in instead.")
        user = accounts.create(own, asked.model_dump())
        if code:
            accounts.consume_invite_code(own, code)
        compliance.audit("user_creation", user["id"], status="success")
        compliance.audit("consent", user["id"], consent_type="privacy_policy", action="granted")
        _, cookies = accounts.log_in(own, asked.hashed_email)
        profile = accounts.profile(own, user["id"])
    except FAILURES as error:
        log.error("Error setting up password: %s", error)
        return refused("Failed to create your account. Please try again later.")
    _open_session(request, response, own, profile, cookies, DAY)
    return {
        "success": True,
        "message": "Password set up successfully. Account created.",
        "user": {"id": user["id"], "username": asked.username, "is_admin": False},
    }


@router.post("/lookup", dependencies=[frontend_only, Depends(limited(120))])
def lookup(asked: Lookup, request: Request) -> dict:
    """Return the salt of an account, or one that looks the same; the login reads what this puts into the cache."""
    own = services(request)
    salt = accounts.digest(f"decoy {asked.hashed_email}")
    try:
        if user := accounts.find(own, "hashed_email", asked.hashed_email):
            salt = user.get("user_email_salt") or salt
            own.cache.set(f"user_profile:{user['id']}", accounts.profile(own, user["id"]), DAY)
    except FAILURES as error:
        log.error("Error during lookup: %s", error)
    methods = {"login_method": "password", "available_login_methods": ["password", "recovery_key"]}
    return methods | {"user_email_salt": salt, "tfa_enabled": True, "stay_logged_in": asked.stay_logged_in}


@router.post("/login", dependencies=[frontend_only, Depends(limited(120))])
def login(asked: Login, request: Request, response: Response) -> dict:
    """Check the password's digest and open a session."""
    own = services(request)
    try:
        user = accounts.find(own, "hashed_email", asked.hashed_email, "id,lookup_hashes")
        if not user or asked.lookup_hash not in (user.get("lookup_hashes") or []):
            if user:
                address = client_address(request)
                compliance.audit("login_failed", user["id"], ip_address=address, status="failed")
            # The same answer whether there is such an account or not.
            return {"success": True, "message": "2FA required", "tfa_required": True, "user": None}
        _, cookies = accounts.log_in(own, asked.hashed_email)
        if not asked.session_id:
            return refused("Session ID required for login")
        profile = own.cache.get(f"user_profile:{user['id']}")
        if not isinstance(profile, dict):
            return refused("User profile not found. Please try logging in again.")
        key = accounts.encryption_key(own, user["id"])
    except FAILURES as error:
        log.error("An error occurred during login: %s", error)
        return refused("An error occurred during login")
    _open_session(request, response, own, profile, cookies, 30 * DAY if asked.stay_logged_in else DAY)
    compliance.audit("login", user["id"], status="success")
    user = accounts.public(profile) | key
    return {"success": True, "message": "Login successful", "tfa_required": False, "user": user}


@router.post("/session")
def session(
    asked: Session,
    request: Request,
    response: Response,
    token: Annotated[str | None, Cookie(alias=SESSION_COOKIE)] = None,
) -> dict:
    """Say who a session belongs to: by the cache, and where that has lost it, by Directus."""
    own = services(request)
    answer = {"require_invite_code": accounts.invite_required(), "token_refresh_needed": False}
    profile = own.cache.get(_session_key(token)) if token else None
    if token and not isinstance(profile, dict):
        try:
            user, cookies = own.directus.refresh(token)
            profile = accounts.profile(own, user["id"])
            _open_session(request, response, own, profile, cookies, DAY)
        except FAILURES as error:
            log.info("no session: %s", error)
    if not isinstance(profile, dict):
        compliance.audit("session_expired", None, status="failed")
        return {"success": False, "message": "Not logged in"} | answer
    if not asked.session_id:
        return {"success": False, "message": "Internal server error - session_id is missing"} | answer
    return {"success": True, "message": "Session valid", "user": accounts.public(profile)} | answer


@router.post("/logout", dependencies=[frontend_only])
def logout(
    request: Request, response: Response, token: Annotated[str | None, Cookie(alias=SESSION_COOKIE)] = None
) -> dict:
    """End a session."""
    own = services(request)
    if token:
        own.cache.delete(_session_key(token))
        try:
            own.directus.log_out(token)
        except httpx.HTTPError as error:
            log.error("Error during logout: %s", type(error).__name__)
    response.delete_cookie(SESSION_COOKIE, domain=_cookie_domain(request), secure=True, httponly=True, samesite="lax")
    return {"success": True, "message": "Logged out successfully"}


def signed_in(request: Request) -> dict | None:
    """Return the account whose session a request carries."""
    token = request.cookies.get(SESSION_COOKIE)
    profile = services(request).cache.get(_session_key(token)) if token else None
    return profile if isinstance(profile, dict) else None


def _cookie_domain(request: Request) -> str | None:
    return frontends.cookie_domain(os.environ, request.headers.get("origin"), request.app.state.allowed_origins)


def _session_key(token: str) -> str:
    return "session:" + hashlib.sha256(token.encode()).hexdigest()


def _open_session(
    request: Request, response: Response, own: Services, profile: dict, cookies: dict[str, str], seconds: int
) -> None:
    own.cache.set(f"user_profile:{profile['id']}", profile, DAY)
    for name, value in cookies.items():
        if name in ("directus_refresh_token", "refresh_token"):
            own.cache.set(_session_key(value), profile, seconds)
            response.set_cookie(
                SESSION_COOKIE,
                value,
                max_age=seconds,
                domain=_cookie_domain(request),
                secure=True,
                httponly=True,
                samesite="lax",
            )

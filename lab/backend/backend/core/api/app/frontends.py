"""What the backend makes of the frontends' addresses: origins, the domain check, the edition, the cookie's domain.

PRODUCTION_URL and FRONTEND_URLS are read in three ways that do not agree with each other, as in the real backend: a
comma-separated list for the origins, a single URL for the domain check. Only the standard library.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

OFFICIAL_DOMAIN = "openmates.org"
PLATFORM = "openmates"
LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104 - a name to compare with
# Characters that pass for a letter of the platform's name, or stand between its words.
DISGUISE = str.maketrans({"0": "o", "3": "e", "1": "i", "-": None, "_": None})


def is_development(environ: Mapping[str, str]) -> bool:
    """Whether SERVER_ENVIRONMENT says development, which is the default."""
    return environ.get("SERVER_ENVIRONMENT", "development").lower() == "development"


def allowed_origins(environ: Mapping[str, str]) -> list[str]:
    """Return the origins that CORS and the account routes accept, compared as written: a slash at the end matters."""
    if is_development(environ):
        text = environ.get("FRONTEND_URLS", f"http://localhost:5173, https://app.dev.{OFFICIAL_DOMAIN}")
    else:
        text = environ.get("PRODUCTION_URL", f"https://{OFFICIAL_DOMAIN}")
    return [origin.strip() for origin in text.split(",") if origin.strip()]


def hosting_domain(environ: Mapping[str, str]) -> str | None:
    """Return the host that the domain check judges; None stands for localhost.

    The whole of PRODUCTION_URL is taken for one URL, so that `https://a,https://b` is the host `a,https`. It counts in
    development too, and before FRONTEND_URLS, of which the first host that is not local counts.
    """
    for url in [environ.get("PRODUCTION_URL", "").strip(), *environ.get("FRONTEND_URLS", "").split(",")]:
        try:
            host = (urlsplit(url.strip()).hostname or "").lower()
        except ValueError:
            continue
        if host and host not in LOCAL:
            return host
    return None


def refused_domain(domain: str | None) -> bool:
    """Whether the server may not run for this host: it carries the platform's name and is not the official one."""
    if domain is None or domain == OFFICIAL_DOMAIN:
        return False
    return PLATFORM in domain.translate(DISGUISE)


def payment_enabled(environ: Mapping[str, str]) -> bool:
    """Whether the backend demands the payment provider's keys at its start."""
    domain = hosting_domain(environ)
    if domain is None:
        return is_development(environ)
    if domain == OFFICIAL_DOMAIN or domain.endswith("." + OFFICIAL_DOMAIN):
        return True
    return is_development(environ) and (".dev." in domain or domain.startswith("dev."))


def self_hosted(environ: Mapping[str, str]) -> bool:
    """Whether the edition is the self-hosted one; localhost is."""
    domain = hosting_domain(environ)
    return domain is None or not (domain == OFFICIAL_DOMAIN or domain.endswith("." + OFFICIAL_DOMAIN))


def cookie_domain(environ: Mapping[str, str], origin: str | None, origins: Sequence[str]) -> str | None:
    """Return the `Domain=` of the session cookie: the last two labels of the request's Origin, or COOKIE_DOMAIN."""
    if override := environ.get("COOKIE_DOMAIN"):
        return override
    for candidate in [origin or "", *origins]:
        host = urlsplit(candidate).hostname or ""
        if candidate == origin and (host in ("localhost", "127.0.0.1") or host.startswith("192.168.")):
            return None
        labels = host.split(".")
        if host not in ("localhost", "127.0.0.1") and len(labels) >= 2:
            return "." + ".".join(labels[-2:])
    return None

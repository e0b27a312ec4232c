"""How the checks speak HTTP."""

import httpx


def client(base_url: str, timeout: float, headers: dict[str, str] | None = None) -> httpx.Client:
    """Return a client that opens a connection for every request; ``timeout`` in seconds, for each step of it.

    A kept connection would prove less, and servers commonly close one after five idle seconds, which is just when
    the next check would use it. Proxies from the environment must not see what we send.
    """
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=base_url, timeout=timeout, headers=headers, limits=limits, trust_env=False)

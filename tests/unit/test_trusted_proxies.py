"""Caddy in front of the api: whose X-Forwarded-For is believed, and what of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible.template import trust_as_template
from rendering import ROOT, templar

PROXIES = ["203.0.113.5/32", "2001:db8:1::/48"]


def caddyfile(tmp_path: Path, proxies: list[str]) -> str:
    """The site of the api."""
    host = templar("prod", tmp_path, openmates_trusted_proxies=proxies)
    defaults = yaml.safe_load((ROOT / "roles/caddy/defaults/main.yml").read_text())
    host.available_variables = {**defaults, **host.available_variables}
    text = host.template(trust_as_template((ROOT / "roles/caddy/templates/Caddyfile.j2").read_text()))
    return text[text.index("(upstream) {") :]


def test_by_default_no_claim_about_a_client_is_believed(tmp_path: Path) -> None:
    site = caddyfile(tmp_path, [])
    assert "request_header -X-Forwarded-*" in site
    assert not re.search(r"trusted_proxies|@proxied|forwarded_for", site)


def test_only_the_last_address_of_a_trusted_proxy_is_passed_on(tmp_path: Path) -> None:
    """In `route`, since Caddy sorts the directives outside of it; tests/host proves the effect with Debian's Caddy."""
    site = caddyfile(tmp_path, PROXIES)
    assert f"@proxied remote_ip {' '.join(PROXIES)}\n" in site
    route = re.search(r"\troute {\n(.*?)\n\t}\n", site, re.DOTALL)[1].split("\n")
    steps = [line.strip() for line in route]
    assert steps[0] == "vars forwarded_for {http.request.header.X-Forwarded-For}"
    assert "request_header -X-Forwarded-*" in steps[1:-2] and "request_header -CF-Connecting-IP" in steps[1:-2]
    assert steps[-2] == "request_header @proxied X-Forwarded-For {vars.forwarded_for}"
    proxy = site[: site.index("api.example.test {")]
    assert f"\ttrusted_proxies {' '.join(PROXIES)}\n" in proxy
    # The two replacements, as Go's regexp does them: neither may be empty, which Caddy 2.6.2 takes for a value to set.
    first, second = (re.search(r'X-Forwarded-For "(.*)" "\$1"', text)[1] for text in (steps[-1], proxy))
    for claimed, client in (("a", "a"), ("forged, a", "a"), ("f, g,2001:db8::1", "2001:db8::1")):
        kept = re.sub(first, r"\1", claimed)
        assert re.sub(second, r"\1", f"{kept}, 203.0.113.5") == client


@pytest.mark.parametrize("proxies", [[], PROXIES])
def test_the_health_check_of_caddy_names_its_own_address(tmp_path: Path, proxies: list[str]) -> None:
    assert "health_headers {\n\t\t\tX-Forwarded-For 192.0.2.1\n" in caddyfile(tmp_path, proxies)

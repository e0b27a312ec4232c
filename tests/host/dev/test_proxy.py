"""Development without a domain has no proxy: its three services have published ports."""


def test_no_proxy_runs(server):
    assert not server.host.service("caddy").is_running

"""Development without a domain has no front door: its three services have ports of their own."""


def test_no_proxy_runs(server):
    assert not server.host.service("caddy").is_running

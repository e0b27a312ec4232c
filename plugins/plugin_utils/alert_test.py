# Copyright: the openmates.server contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test alert has shown, as text for an operator."""

from __future__ import annotations

from collections.abc import Mapping

SETTINGS = {
    "mail": "openmates_alerts_mail and openmates_alerts_mail_password",
    "ntfy": "openmates_alerts_ntfy_url and openmates_alerts_ntfy_token",
    "webhook": "openmates_alerts_webhook_url",
}


def report(found: Mapping) -> list[str]:
    """A line for each channel."""
    lines = [f"Test alert {found['test']}"]
    for name, result in found["channels"].items():
        if result["problem"]:
            state = f"FAILED: {result['problem']}"
        elif result["arrived"]:
            state = "arrived"
        elif result.get("not_seen"):
            state = f"sent; whether it arrived was not seen: {result['not_seen']}"
        else:
            state = "sent and accepted; look whether it has arrived"
        lines.append(f"  {name}: {state}")
    return lines


def problems(found: Mapping) -> list[str]:
    return [
        f"{name}: {result['problem']}. The channel is set by {SETTINGS.get(name, name)}; `logs.yml -e "
        "service=alertmanager` shows what it answers"
        for name, result in found.get("channels", {}).items()
        if result["problem"]
    ]

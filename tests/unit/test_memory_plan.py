"""The memory plan fits the smallest server, docs/resources.md shows it, and what was measured is below the limits."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.openmates.server.plugins.plugin_utils.services import memory as memory_plan
from ansible_collections.openmates.server.plugins.plugin_utils.services.memory import go_memory_limit

ROOT = Path(__file__).parents[2]
USABLE = 7700
CATALOGUE = yaml.safe_load((ROOT / "roles/settings/defaults/main/services.yml").read_text())["openmates_services"]
CATALOGUE["promtail"]["memory"] = "128M"  # that of the default: Alloy has more
# Typed in from runs of the real api, worker, scheduler and cms-setup, and of the genuine Loki, Promtail and Vault.
PEAKS = {
    **{"api": 403 + 60, "task-worker": 620, "task-scheduler": 256, "cms": 350, "cms-database": 100, "vault": 96},
    **{"loki": 277, "promtail": 55, "cadvisor": 22, "prometheus": 70, "cache": 512, "alertmanager": 25},
}


def test_the_defaults_fit_the_smallest_server_with_one_small_app() -> None:
    plan = memory_plan.make_plan(CATALOGUE, [{"name": "app-sample", "image": "a:1"}])
    assert plan.total <= USABLE
    assert plan.largest == "a second api and a second worker during a deploy"


def test_each_limit_leaves_a_fifth_above_what_was_measured() -> None:
    short = {
        name: peak for name, peak in PEAKS.items() if memory_plan.megabytes(CATALOGUE[name]["memory"]) < peak * 1.2
    }
    assert short == {}


def one_shot(memory: str) -> dict:
    return {"memory": memory, "one_shot": True}


def test_the_plan_by_hand() -> None:
    one_shots = {"cms-setup": one_shot("300M"), "vault-setup": one_shot("100M")}
    services = {"api": {"memory": "1G"}, "task-worker": {"memory": "512M"}, "cache": {"memory": "256M"}, **one_shots}
    apps = [{"name": "w", "kind": "worker", "memory": "700M"}, {"name": "v", "kind": "worker"}, {"name": "s"}]
    plan = memory_plan.make_plan(services, apps)
    assert plan.steady == 1024 + 512 + 256 + 700 + 1024 + 128
    assert plan.reserve == 1024 + 1024, "the largest worker, whichever it is"
    assert plan.total == memory_plan.SYSTEM_MB + plan.steady + plan.reserve
    small = memory_plan.make_plan(
        {"api": {"memory": "100M"}, "task-worker": {"memory": "100M"}, "cms-setup": one_shot("1G")}
    )
    assert small.reserve == 1024, "the largest, and not their sum"


def test_the_documentation_shows_this_plan() -> None:
    text = (ROOT / "docs/resources.md").read_text()
    shown = text.partition("<!-- memory plan -->\n")[2].partition("<!-- end -->")[0]
    expected = memory_plan.table(memory_plan.make_plan(CATALOGUE))
    assert shown == expected, f"put this between the marks in docs/resources.md:\n{expected}"


@pytest.mark.parametrize(("limit", "expected"), [("384M", "299MiB"), ("1G", "798MiB"), ("128m", "99MiB")])
def test_go_programs_get_their_limit(limit: str, expected: str) -> None:
    assert go_memory_limit(limit) == expected


def test_what_is_no_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="'much'"):
        go_memory_limit("much")

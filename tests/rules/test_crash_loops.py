"""A service that ends again and again: with the genuine promtool, how soon ServiceDown names it, and that it stays one
alert until it is repaired. The series are those of the watcher, for Docker's delays between two starts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from alerts import MINUTE
from test_rules import DECLARED, tool, written

#: Seconds: between two rounds of the watcher, between two scrapes, and until a service counts as running.
ROUND, SCRAPE, YOUNG = 10, 15, 10
BROKEN, END = 15 * MINUTE + 1, 40 * MINUTE  # when the loop begins, and the test ends
FIRST_DELAY, LAST_DELAY, RESET = 0.1, 60, 10  # of Docker, and after which life it begins anew
LABELS = {"severity": "critical", "service": "cms"}


class Seen(NamedTuple):
    """A service as the watcher's file has it, at each scrape."""

    up: list[int]
    starts: list[int]


def loop(life: float, repaired: float) -> list[tuple[float, float]]:
    """When it starts and ends: for a long time well, restarted with the fault, and in the end restarted without it."""
    lives, begin, delay = [(-3600.0, float(BROKEN))], BROKEN + 1.0, FIRST_DELAY
    while begin < repaired:
        lives.append((begin, min(begin + life, repaired)))
        delay = FIRST_DELAY if life >= RESET else delay
        begin += life + delay
        delay = min(2 * delay, LAST_DELAY)
    return [*lives, (repaired + 1, END + 3600.0)]


def seen(lives: list[tuple[float, float]]) -> Seen:
    up, starts = [], []
    for scrape in range(0, END + SCRAPE, SCRAPE):
        at = (scrape - 3) // ROUND * ROUND  # the file that was written last
        up.append(int(any(begin + YOUNG <= at < end for begin, end in lives)))
        starts.append(sum(0 < begin <= at for begin, _ in lives))
    return Seen(up, starts)


def firing(alert: str, found: Seen, folder: Path) -> list[bool]:
    """At each evaluation, whether the alert fires, as promtool says it."""
    group = {"groups": [{"name": "loops", "rules": [DECLARED["ServiceDown"], DECLARED["ServiceRestarts"]]}]}
    (folder / "rules.yml").write_text(yaml.safe_dump(group, sort_keys=False))
    series = [
        {"series": f'{name}{{service="cms"}}', "values": " ".join(map(str, values))}
        for name, values in (
            ("openmates_service_up", found.up),
            ("openmates_service_starts_total", found.starts),
        )
    ]
    moments = range(0, END, SCRAPE)
    expression = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
    # Nothing is expected at any moment: each at which it fires is reported.
    asked = [{"expr": expression, "eval_time": f"{moment}s", "exp_samples": []} for moment in moments]
    test = {"interval": f"{SCRAPE}s", "input_series": series, "promql_expr_test": asked}
    whole = {"rule_files": ["rules.yml"], "evaluation_interval": f"{SCRAPE}s", "tests": [test]}
    (folder / "test.yml").write_text(yaml.safe_dump(whole, sort_keys=False))
    done = tool("prometheus", "promtool", written({}, folder), "test", "rules", "test.yml")
    output = done.stdout + done.stderr
    assert done.returncode == 0 or alert in output, output
    reported = {line.split("time: ")[1].split(",")[0] for line in output.splitlines() if "time: " in line}
    return [as_duration(moment) in reported for moment in moments]


def as_duration(seconds: int) -> str:
    """As Prometheus prints it."""
    minutes, rest = divmod(seconds, MINUTE)
    return (f"{minutes}m" if minutes else "") + (f"{rest}s" if rest or not minutes else "")


def spells(fires: list[bool]) -> list[tuple[int, int]]:
    """When the alert begins and ends, as often as it does."""
    edges = [number * SCRAPE for number, now in enumerate(fires) if now != (fires[number - 1] if number else False)] + (
        [END] if fires[-1] else []
    )
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize("life", [0.5, 3, 5, 8, 9.9, 10, 12, 17, 25])
@pytest.mark.parametrize("minutes", [2, 12])
def test_a_crash_loop_is_one_alert_until_it_is_repaired(life: float, minutes: int, tmp_path: Path) -> None:
    repaired = BROKEN + minutes * MINUTE
    found = seen(loop(life, repaired))
    [(begun, ended)] = spells(firing("ServiceDown", found, tmp_path))
    # Of the 90 s besides `for`, ten are Alertmanager's. A loop of longer lives is known by four of them.
    assert begun - BROKEN <= 45 + max(80, 4 * life)
    assert repaired < ended <= repaired + 90
    assert spells(firing("ServiceRestarts", found, tmp_path)) == [], "it has been named already"


@pytest.mark.parametrize(
    "lives",
    [
        [(-3600, 900), (900.2, END * 2)],
        [(-3600, 900), (912, END * 2)],
        [(-3600, 900), (902, 960), (962, 1020), (1022, END * 2)],
        [(-3600, 960), (900, 990), (990, END * 2)],
        [(900, END * 2)],
    ],
    ids=["killed once", "recreated", "two deploys and a rollback", "a deploy by turns", "the server boots"],
)
def test_what_an_ordinary_day_has_is_no_alert(lives: list[tuple[float, float]], tmp_path: Path) -> None:
    found = seen(lives)
    if lives[0][0] == 900:  # before the boot nothing is stored
        boot = 900 // SCRAPE
        found = Seen(["_"] * boot + found.up[boot:], ["_"] * boot + found.starts[boot:])  # type: ignore[list-item]
    for alert in ("ServiceDown", "ServiceRestarts"):
        assert spells(firing(alert, found, tmp_path)) == []


def test_a_loop_of_long_lives_is_named_by_its_restarts(tmp_path: Path) -> None:
    found = seen(loop(115, BROKEN + 20 * MINUTE))
    assert spells(firing("ServiceDown", found, tmp_path)) == []
    [(begun, _)] = spells(firing("ServiceRestarts", found, tmp_path))
    assert begun - BROKEN <= 3 * 116 + 90

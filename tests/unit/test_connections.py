"""A login that is refused, seen from a container's table of connections."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.openmates.server.plugins.module_utils import connections

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
CACHE, OTHER = "09001EAC:18EB", "09001EAC:1F90"  # 172.30.0.9, ports 6379 and 8080
ESTABLISHED, SYN_SENT, FIN_WAIT2, TIME_WAIT, CLOSE_WAIT, LISTEN = "01", "02", "05", "06", "08", "0A"


def table(*lines: tuple[str, str]) -> str:
    numbers = itertools.count()
    return HEADER + "".join(
        f"   {next(numbers)}: 03001EAC:8154 {peer} {state} 00000000:00000000 03:0520 00000000 0 0 0 3 00\n"
        for peer, state in lines
    )


@pytest.mark.parametrize(
    ("lines", "refused"),
    [
        ([(CACHE, TIME_WAIT), (CACHE, TIME_WAIT), ("00000000:0000", LISTEN)], True),
        ([(CACHE, TIME_WAIT), (CACHE, ESTABLISHED)], False),
        ([(OTHER, TIME_WAIT), (OTHER, ESTABLISHED)], None),
        ([(CACHE, SYN_SENT)], None),
        ([(CACHE, FIN_WAIT2)], None),
        ([(CACHE, TIME_WAIT), (CACHE, CLOSE_WAIT)], None),
        ([], None),
    ],
    ids=["refused", "connected", "another port", "cut off", "the cache hangs", "the cache has restarted", "not tried"],
)
def test_what_the_connections_say(lines: list, refused: bool | None) -> None:
    assert connections.refused(table(*lines), "172.30.0.9", 6379) is refused


def test_of_several_containers_one_that_is_refused_counts() -> None:
    assert connections.worst([False, True, None]) is True
    assert connections.worst([False, None]) is False
    assert connections.worst([None]) is None

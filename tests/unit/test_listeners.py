"""The programs that accept connections are found as the kernel lists them."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from pathlib import Path

from ansible_collections.openmates.server.plugins.module_utils import listeners

HEADING = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def line(address: str, port: int, state: str, inode: int) -> str:
    """A line of the kernel's table: addresses are words of 32 bits in the order of the machine."""
    packed = ipaddress.ip_address(address).packed
    local = "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed)) + f":{port:04X}"
    return f"   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"


def test_listening_sockets_have_their_address_port_and_program(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(
        HEADING + line("127.0.0.1", 8000, "0A", 11) + line("127.0.0.1", 22, "01", 12) + line("0.0.0.0", 80, "0A", 13)
    )
    (tmp_path / "net/tcp6").write_text(HEADING + line("2001:db8::1", 443, "0A", 14))
    for pid, program, inodes in ((7, "caddy", (13,)), (300, "child", (13,)), (20, "docker-proxy", (11, 99))):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "comm").write_text(f"{program}\n")
        for number, inode in enumerate(inodes):
            (tmp_path / str(pid) / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
    assert listeners.found(tmp_path) == [
        {"port": 8000, "address": "127.0.0.1", "program": "docker-proxy", "pid": 20},
        {"port": 80, "address": "0.0.0.0", "program": "caddy", "pid": 7},
        {"port": 443, "address": "2001:db8::1", "program": "", "pid": 0},
    ]


def test_a_socket_of_this_process_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        [found] = [listener for listener in listeners.found(Path("/proc")) if listener["port"] == port]
    assert (found["address"], found["pid"]) == ("127.0.0.1", os.getpid())

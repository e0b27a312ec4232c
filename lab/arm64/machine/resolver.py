"""Passes the machine's questions on to Docker's resolver, which answers on the container's loopback only."""

from __future__ import annotations

import socket
import socketserver
import sys

DOCKER = ("127.0.0.11", 53)


class Datagram(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        question, own = self.request
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as docker:
            docker.settimeout(5)
            docker.sendto(question, DOCKER)
            try:
                own.sendto(docker.recv(65535), self.client_address)
            except TimeoutError:
                return  # the machine asks again


class Stream(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with socket.create_connection(DOCKER, timeout=5) as docker:
            docker.sendall(self.request.recv(65535))
            while answer := docker.recv(65535):
                self.request.sendall(answer)


class Datagrams(socketserver.ThreadingUDPServer):
    daemon_threads = True


class Streams(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


if __name__ == "__main__":
    import threading

    address = (sys.argv[1], 53)
    threading.Thread(target=Streams(address, Stream).serve_forever, daemon=True).start()
    Datagrams(address, Datagram).serve_forever()

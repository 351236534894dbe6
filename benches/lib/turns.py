"""Connections through a proxy that take turns, so that each finds its memory gone from the nearest caches, as with many users at once."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from machine import Missing
from stage import ENDPOINT, ROUTE, Program, Stage, connect
from steps import FRAME, LONGEST, PAUSE

RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(FRAME), FRAME)


@dataclass(frozen=True)
class Stream:
    """Both ends of a stream through a proxy, both held by this script."""

    client: socket.socket
    received: BinaryIO
    upstream: socket.socket

    def step(self) -> None:
        """Sends a frame and waits until it has arrived."""
        self.upstream.sendall(CHUNK)
        frame = read_chunks(self.received, len(FRAME))
        if frame != FRAME:
            raise Missing(f"the proxy sent {frame!r}, where {FRAME!r} was expected")
        # After a frame has arrived the proxy still looks for the next one and goes to sleep.
        time.sleep(PAUSE)

    def close(self) -> None:
        """Disconnects at both ends."""
        for end in (self.received, self.client, self.upstream):
            end.close()


@contextlib.contextmanager
def upstream() -> Iterator[socket.socket]:
    """A socket that listens for the proxy's connections."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.settimeout(LONGEST)
        yield listener


def streams(proxy: Program, listener: socket.socket, count: int, turns: int) -> None:
    """Opens so many streams, and then sends each a frame in turn, so many times."""
    opened: list[Stream] = []
    try:
        opened += (open_stream(proxy, listener) for _ in range(count))
        for _ in range(turns):
            for stream in opened:
                stream.step()
    finally:
        for stream in opened:
            stream.close()


def open_stream(proxy: Program, listener: socket.socket) -> Stream:
    """A stream whose first frame has arrived."""
    client = socket.create_connection(("127.0.0.1", proxy.plain), LONGEST)
    client.sendall(request(proxy))
    upstream, _ = listener.accept()
    upstream.settimeout(LONGEST)
    with upstream.makefile("rb") as asked:
        read_body(asked, read_head(asked))
    upstream.sendall(RESPONSE)
    stream = Stream(client, client.makefile("rb"), upstream)
    upstream.sendall(CHUNK)
    status, *_ = head = read_head(stream.received)
    if b" 200 " not in status:
        raise Missing(f"{proxy.name} answered {head}")
    if read_chunks(stream.received, len(FRAME)) != FRAME:
        raise Missing(f"{proxy.name} changed the first frame")
    return stream


def request(proxy: Program) -> bytes:
    """The request for a stream."""
    body = json.dumps({"model": "turns", "stream": True, "messages": [{"role": "user", "content": "x" * 900}]}).encode()
    head = f"POST {ROUTE}{ENDPOINT} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {proxy.key}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def read_head(received: BinaryIO) -> list[bytes]:
    """The lines of a head."""
    lines = []
    while (line := received.readline()) not in (b"\r\n", b""):
        lines.append(line)
    if not lines:
        raise Missing("a connection was closed before a head came")
    return lines


def read_body(received: BinaryIO, head: list[bytes]) -> bytes:
    """A body whose length is in the head."""
    lengths = [int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:")]
    return received.read(lengths[0])


def read_chunks(received: BinaryIO, size: int) -> bytes:
    """So many bytes of content, in as many chunks as the proxy likes."""
    content = b""
    while len(content) < size:
        line = received.readline()
        if not line:
            raise Missing(f"the stream ended after {len(content)} bytes of a frame")
        content += received.read(int(line.split(b";")[0], 16))
        received.readline()
    return content


def requests(made: Stage, proxy: Program, count: int, turns: int) -> None:
    """Opens so many connections, and then sends a JSON request of 1 KiB on each in turn, so many times and once before."""
    body = json.dumps({"model": "sim-f40-d1", "stream": False, "messages": [{"role": "user", "content": "x" * 900}]})
    with contextlib.ExitStack() as closing:
        connections = [closing.enter_context(contextlib.closing(connect(made, proxy, False))) for _ in range(count)]
        for _ in range(1 + turns):
            for connection in connections:
                ask(connection, proxy, body)
                time.sleep(PAUSE)


def ask(connection: http.client.HTTPConnection, proxy: Program, body: str) -> None:
    """Sends a request and checks that the answer is whole."""
    connection.request("POST", ROUTE + ENDPOINT, body, {"authorization": f"Bearer {proxy.key}", "content-type": "application/json"})
    answer = connection.getresponse()
    whole = answer.read()
    if answer.status != 200 or not whole.endswith((b"}", b"[DONE]\n\n")):
        raise Missing(f"{proxy.name} answered {answer.status}: {whole[-300:]!r}")

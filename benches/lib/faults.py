"""Requests whose answers fail in different ways, clients that disconnect, and how each must end."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from stage import CALLER_KEY, ENDPOINT, Program, Stage, connect

MODEL = "sim-f20-i1"


@dataclass(frozen=True)
class Answer:
    """An answer, and whether it was complete by the rules of HTTP."""

    status: int
    body: bytes
    whole: bool

    def events(self) -> tuple[list[bytes], bytes]:
        """Its complete events, without the parts that differ from answer to answer; and the rest after them."""
        *events, rest = self.body.split(b"\n\n")
        return [re.sub(rb'"(id|created)":("chatcmpl-sim)?\d+"?', b"", event) for event in events], rest


@dataclass(frozen=True)
class Fault:
    """What the simulator does, and what the client must get."""

    name: str
    simulate: str
    route: str
    stream: bool
    # The answer, and the events of an answer without a fault → whether the answer is as promised.
    promised: Callable[[Answer, list[bytes]], bool]


def refused(status: int, code: str) -> Callable[[Answer, list[bytes]], bool]:
    """A complete error response."""
    return lambda answer, _: answer.whole and answer.status == status and code in answer.body.decode()


def cut(length: int) -> Callable[[Answer, list[bytes]], bool]:
    """Everything before the cut. After a cut within an event the transport is aborted; between two, an error event follows."""

    def promised(answer: Answer, events: list[bytes]) -> bool:
        came, _ = answer.events()
        if answer.body[:length].endswith(b"\n\n"):
            return told("upstream_truncated")(answer, events)
        return not answer.whole and len(answer.body) == length and came == events[: len(came)]

    return promised


def told(code: str) -> Callable[[Answer, list[bytes]], bool]:
    """Some frames, an error event, an orderly end, and no `[DONE]`."""

    def promised(answer: Answer, events: list[bytes]) -> bool:
        (*came, last), rest = answer.events()
        in_order = len(came) > 1 and came == events[: len(came)]
        return answer.whole and in_order and not rest and b'"error"' in last and code.encode() in last

    return promised


def sound(answer: Answer, events: list[bytes]) -> bool:
    """A correct answer."""
    return answer.whole and answer.status == 200 and answer.events() == (events, b"")


def partial(answer: Answer, _: list[bytes]) -> bool:
    """A document shorter than its content-length."""
    return not answer.whole and answer.status == 200 and len(answer.body) == 300


def faults() -> list[Fault]:
    """All faults, in random order."""
    at = random.randrange(600, 3000)
    all_of_them = [
        *(Fault(f"cut by {by}", f"cut={at}; by={by}", "/faulty", True, cut(at)) for by in ("reset", "close", "chunk-error")),
        Fault("silence", "interval=1h", "/faulty", True, told("upstream_idle")),
        Fault("an error event", "error-event", "/faulty", True, told("server_error")),
        Fault("no answer", "cut=head", "/faulty", True, refused(502, "upstream_closed")),
        Fault("500", "status=500", "/faulty", True, refused(500, "server_error")),
        Fault("JSON cut", "cut=300", "/faulty", False, partial),
        Fault("cut, whole delivery", f"cut={at}", "/whole", True, refused(502, "upstream_truncated")),
        Fault("JSON cut, whole delivery", "cut=300", "/whole", False, refused(502, "upstream_truncated")),
        Fault("a dead upstream", "", "/again", True, sound),
        Fault("no fault", "split=7", "/v1", True, sound),
        Fault("no fault, TLS upstream", "", "/secure", True, sound),
    ]
    random.shuffle(all_of_them)
    return all_of_them


def ask(stage: Stage, program: Program, tls: bool, fault: Fault) -> Answer:
    """Requests the fault, and reads the answer."""
    with contextlib.closing(connect(stage, program, tls)) as connection:
        send(connection, fault.route, fault.simulate, fault.stream)
        answer = connection.getresponse()
        try:
            return Answer(answer.status, answer.read(), True)
        except http.client.IncompleteRead as incomplete:
            return Answer(answer.status, incomplete.partial, False)


def send(connection: http.client.HTTPConnection, route: str, simulate: str, stream: bool = True) -> None:
    body = json.dumps({"model": MODEL, "stream": stream, "messages": []})
    headers = {"authorization": f"Bearer {CALLER_KEY}", "content-type": "application/json", "x-simulate": simulate}
    connection.request("POST", route + ENDPOINT, body, headers)


def leave(stage: Stage, program: Program, tls: bool) -> None:
    """Starts a request and disconnects: before, within or after the request, at the answer's head, or in its body."""
    way = random.randrange(6)
    connection = connect(stage, program, tls)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.connect()
        if way == 1:
            head = f"POST /v1{ENDPOINT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {CALLER_KEY}\r\n"
            connection.sock.sendall(f"{head}content-type: application/json\r\ncontent-length: 9000\r\n\r\n{{".encode())
        if way == 2:
            send(connection, "/faulty", "delay=300ms")
        if way >= 3:
            send(connection, ("/v1", "/drain", "/again")[way - 3], "interval=20ms")
            connection.getresponse().read1(random.randrange(1, 2000))
        if random.random() < 0.5:
            # Closes with a reset.
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()

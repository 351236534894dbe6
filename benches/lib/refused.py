"""A client over its limit: what its refused requests cost, and what other clients notice of them."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import multiprocessing
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

import machine
import peers
from callgrind import total
from machine import Missing
from peers import Setup
from stage import ENDPOINT, ROUTE, Program, Stage, connect, stage
from steps import PAUSE
from table import cells

# The most that a refused request may cost, as a share of an admitted one.
MOST = 0.15

# Requests of one kind that are counted.
REQUESTS = 500

FLOOD, CALM = "sk-load-flood", "sk-load-calm"

# Requests a second that the limit admits, and how many times as many the client sends.
LIMIT, TIMES = 20, 20

# Requests a second of the other clients, all together.
OTHERS = 40


def digest(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def tables(limit: str) -> str:
    """A client over this limit, and one with a limit of the same kind that it never reaches."""
    return f"""
[client.flood]
key = "{digest(FLOOD)}"
limits = ["small"]
[limit.small]
{limit}
[client.calm]
key = "{digest(CALM)}"
limits = ["large"]
[limit.large]
requests = 1_000_000_000
per = "1m"
"""


def body() -> str:
    return json.dumps({"model": "sim-f40-d1", "messages": [{"role": "user", "content": "x" * 900}]})


def ask(connection: http.client.HTTPConnection, key: str, text: str) -> int:
    """Sends a request in one piece, as most clients do, and returns the status."""
    connection.request("POST", ROUTE + ENDPOINT, text.encode(), {"authorization": f"Bearer {key}", "content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


# Instructions.


def instructions(binary: Path, runs: int) -> int:
    """Prints what an admitted and a refused request cost; 1 if the refused one costs too much."""
    counts: dict[str, list[int]] = {"base": [], "admitted": [], "refused": []}
    with stage(binary) as made:
        for _ in range(runs):
            counts["base"].append(count(made, REQUESTS, REQUESTS))
            counts["admitted"].append(count(made, 2 * REQUESTS, REQUESTS))
            counts["refused"].append(count(made, REQUESTS, 2 * REQUESTS))
    base = min(counts["base"])
    admitted, refused = ((min(counts[kind]) - base) / REQUESTS for kind in ("admitted", "refused"))
    ratio = refused / admitted
    print(cells("user instructions of the worker", "admitted", "refused", "refused ÷ admitted"), "|---" * 4 + "|", sep="\n")
    print(cells("a request of 1 KiB", f"{admitted:,.0f}", f"{refused:,.0f}", f"{ratio:.3f}"))
    print(f"\nAt most {MOST}: {'met' if ratio <= MOST else '**missed**'}.")
    return 0 if ratio <= MOST else 1


def count(made: Stage, admitted: int, refused: int, keep: Path | None = None) -> int:
    """Instructions of the worker thread of a gateway that gets so many requests of both clients."""
    valgrind = machine.find("valgrind")
    if not valgrind:
        raise Missing("valgrind is not installed (Debian: apt-get install valgrind)")
    out = made.folder / "callgrind"
    under = (valgrind, "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}")
    setup = Setup(route='commit = "first_token"', more=tables('requests = 1\nper = "day"'), under=under)
    gateway = peers.proxy(made, "sluicegate", setup, "sluicegate-valgrind")
    with contextlib.closing(connect(made, gateway, False)) as calm, contextlib.closing(connect(made, gateway, False)) as flood:
        expect(ask(flood, FLOOD, body()), 200)
        for connection, key, status, times in ((calm, CALM, 200, admitted), (flood, FLOOD, 429, refused)):
            for _ in range(times):
                expect(ask(connection, key, body()), status)
                time.sleep(PAUSE)
    made.stop(gateway)
    threads = list(made.folder.glob("callgrind-*"))
    found = [path for path in threads if "proxy::handle" in path.read_text(errors="replace")]
    if len(found) != 1:
        raise Missing(f"callgrind's output shows {len(found)} worker threads; expected one")
    counted = total(found[0].read_text(errors="replace"))
    if keep:
        keep.write_bytes(found[0].read_bytes())
    for path in made.folder.glob("callgrind*"):
        path.unlink()
    return counted


def expect(status: int, expected: int) -> None:
    if status != expected:
        raise Missing(f"the gateway answered {status} where {expected} was expected")


# Time to first byte.


@dataclass
class Round:
    """What the other clients saw in one round, in milliseconds, and what became of the flood."""

    waits: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    def quantile(self, percent: int) -> float:
        return statistics.quantiles(self.waits, n=100)[percent - 1]


def flood(binary: Path, rounds: int, seconds: float) -> int:
    """Prints median and p90 of the time to first byte of other clients, without and with the flood, in turns."""
    limit = f'requests = {LIMIT * 60}\nper = "1m"\nburst = {{ requests = {LIMIT} }}'
    setup = Setup(more=tables(limit), pinned=False)
    with stage(binary) as made:
        gateway = peers.proxy(made, "sluicegate", setup)
        measured: list[tuple[Round, Round]] = []
        for number in range(rounds):
            alone = one_round(gateway, seconds, with_flood=False)
            beside = one_round(gateway, seconds, with_flood=True)
            measured.append((alone, beside))
            print(f"round {number + 1} of {rounds}", flush=True)
    print(cells("round", "median alone", "median beside", "ratio", "p90 alone", "p90 beside", "ratio", "flood"), "|---" * 8 + "|", sep="\n")
    for number, (alone, beside) in enumerate(measured):
        shown = [str(number + 1)]
        for percent in (50, 90):
            one, other = alone.quantile(percent), beside.quantile(percent)
            shown += [f"{one:.3f} ms", f"{other:.3f} ms", f"{other / one:.2f}"]
        print(cells(*shown, ", ".join(f"{count} × {status}" for status, count in sorted(beside.statuses.items()))))
    for percent, name in ((50, "median"), (90, "p90")):
        ratios = [beside.quantile(percent) / alone.quantile(percent) for alone, beside in measured]
        print(f"{name}: median of the ratios {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    return 0


def one_round(gateway: Program, seconds: float, with_flood: bool) -> Round:
    """Measures the other clients for so many seconds."""
    seen = Round()
    with contextlib.ExitStack() as open:
        told = open.enter_context(flooding(gateway.plain, seconds + 1)) if with_flood else None
        time.sleep(0.5)
        calm(gateway, seconds, seen)
        if told:
            seen.statuses = told.recv()
    return seen


def calm(gateway: Program, seconds: float, seen: Round) -> None:
    """Four other clients, each on a connection of its own, at a steady pace."""
    clients = 4
    pause = clients / OTHERS

    def one(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.plain, timeout=30)
        text = json.dumps({"model": "sim-f5-d1", "stream": True, "messages": [{"role": "user", "content": "x" * 900}]})
        begin = time.perf_counter() + number * pause / clients
        for turn in range(int(seconds / pause)):
            time.sleep(max(0.0, begin + turn * pause - time.perf_counter()))
            start = time.perf_counter()
            headers = {"authorization": f"Bearer {CALM}", "content-type": "application/json"}
            connection.request("POST", ROUTE + ENDPOINT, text.encode(), headers)
            answer = connection.getresponse()
            answer.read(1)
            seen.waits.append((time.perf_counter() - start) * 1000)
            answer.read()
            expect(answer.status, 200)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def flooding(port: int, seconds: float) -> Iterator[Connection]:
    """A process that floods the gateway, and tells the statuses that it got."""
    receives, sends = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=send_flood, args=(port, seconds, sends))
    process.start()
    try:
        yield receives
    finally:
        process.join(30)
        process.kill()


def send_flood(port: int, seconds: float, tell: Connection) -> None:
    """Sends TIMES as many requests as the limit admits, on connections that are kept."""
    clients = 8
    pause = clients / (LIMIT * TIMES)
    statuses: dict[int, int] = {}
    lock = threading.Lock()

    def one(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        begin = time.perf_counter() + number * pause / clients
        for turn in range(int(seconds / pause)):
            time.sleep(max(0.0, begin + turn * pause - time.perf_counter()))
            status = ask(connection, FLOOD, body())
            with lock:
                statuses[status] = statuses.get(status, 0) + 1

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell.send(statuses)

"""Counts the user instructions of the gateway's worker thread under valgrind: the figure that other load on the machine hardly changes."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import machine
import peers
from machine import Missing
from peers import Setup
from stage import Program, Stage, connect
from steps import PAUSE, steps
from turns import ask

# Counts by the names of callgrind's events.
Events = dict[str, int]

# How the gateway is set up where the cost of a request and of a frame is counted: everything that is on by default is on.
DEFAULTS = Setup(route='commit = "first_token"')

# The same with a limit in memory, on requests, tokens and requests at once, which admits every request.
LIMITED = replace(
    DEFAULTS,
    route=DEFAULTS.route + '\nlimits = ["fair-use"]',
    more='[limit.fair-use]\neach = "client"\nrequests = 100_000_000\ntokens = 100_000_000_000\nper = "1m"\nconcurrent = 100\n',
)


@dataclass(frozen=True)
class Work:
    """How many requests a gateway under valgrind gets: JSON requests, frames of one stream, streams of one frame."""

    requests: int = 1000
    frames: int = 2000
    streams: int = 100

    def doubled(self, kind: str) -> Work:
        """Twice as much of one kind."""
        return replace(self, **{f"{kind}s": 2 * self.amount(kind)})

    def amount(self, kind: str) -> int:
        """How much of one kind there is."""
        return int(getattr(self, f"{kind}s"))


BASE = Work()


@dataclass
class Counts:
    """The counts of several runs: of the base work, and of the work with twice as much of one kind."""

    base: list[int] = field(default_factory=list)
    doubled: dict[str, list[int]] = field(default_factory=dict)

    def run(self, made: Stage, setup: Setup, kinds: Iterable[str]) -> None:
        """Adds one run."""
        self.base.append(count(made, setup, BASE))
        for kind in kinds:
            self.doubled.setdefault(kind, []).append(count(made, setup, BASE.doubled(kind)))

    def least(self, kind: str) -> float:
        """What one unit costs: the minimum of the counts with twice as much, minus the minimum without. The start of the process cancels
        out. Work comes in step with the client, so that load on the machine adds wake-ups, and the minimum has the fewest of them."""
        return (min(self.doubled[kind]) - min(self.base)) / BASE.amount(kind)

    def each(self, kind: str) -> list[float]:
        """What one unit costs by each run alone."""
        return [(doubled - base) / BASE.amount(kind) for doubled, base in zip(self.doubled[kind], self.base)]

    def spread(self, kind: str) -> float:
        """How far the runs are apart, as a share of the least cost."""
        each = self.each(kind)
        return (max(each) - min(each)) / self.least(kind)


def count(made: Stage, setup: Setup, work: Work) -> int:
    """Instructions of the worker thread in the whole life of a gateway that does this work."""
    with doing(made, setup, work) as (setup, do):
        return total(counted(made, "sluicegate", setup, do))


@contextlib.contextmanager
def doing(made: Stage, setup: Setup, work: Work) -> Iterator[tuple[Setup, Callable[[Program], None]]]:
    """How a gateway is set up for this work, and what does it."""
    with steps() as upstream:

        def do(gateway: Program) -> None:
            with contextlib.closing(connect(made, gateway, False)) as connection:
                repeat(connection, gateway, "sim-f40-d1", work.requests)
                upstream.ask(connection, gateway, work.frames)
                repeat(connection, gateway, "sim-f1-i3", work.streams)

        yield replace(setup, more=setup.more + upstream.tables(setup.route)), do


def counted(made: Stage, kind: str, setup: Setup, work: Callable[[Program], None], options: tuple[str, ...] = ()) -> str:
    """Callgrind's output about the thread that proxies, in the whole life of a proxy that does this work; `options` are more of callgrind's."""
    found = threads(made, kind, setup, work, options)
    # Of the gateway, only the worker thread proxies; the count of the main thread varies with the start of the process.
    workers = [text for text in found if "proxy::handle" in text] if kind == "sluicegate" else found
    if kind == "sluicegate" and len(workers) != 1:
        raise Missing(f"callgrind's output shows {len(workers)} worker threads among {len(found)} threads; expected one")
    return max(workers, key=total)


def threads(made: Stage, kind: str, setup: Setup, work: Callable[[Program], None], options: tuple[str, ...] = ()) -> list[str]:
    """Callgrind's output about each thread."""
    valgrind = machine.find("valgrind")
    if not valgrind:
        raise Missing("valgrind is not installed (Debian: apt-get install valgrind)")
    out = made.folder / "callgrind"
    under = (valgrind, "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}", *options)
    proxy = peers.proxy(made, kind, replace(setup, under=under), f"{kind}-valgrind")
    try:
        work(proxy)
    finally:
        made.stop(proxy)
    found = [path.read_text(errors="replace") for path in made.folder.glob("callgrind-*")]
    for path in made.folder.glob("callgrind*"):
        path.unlink()
    if not found:
        raise Missing(f"callgrind has written nothing about {kind}")
    return found


def repeat(connection: http.client.HTTPConnection, gateway: Program, model: str, times: int) -> None:
    """Asks the simulator's model so many times: with an interval in its name for a stream, else for a JSON answer."""
    body = json.dumps({"model": model, "stream": "-i" in model, "messages": [{"role": "user", "content": "x" * 900}]})
    for _ in range(times):
        ask(connection, gateway, body)
        time.sleep(PAUSE)


def events(text: str) -> Events:
    """The totals of a callgrind file by the names of their events. Callgrind leaves out zeros at the end."""
    lines = text.splitlines()
    names = next(line for line in lines if line.startswith("events:")).split()[1:]
    totals = next(line for line in lines if line.startswith(("totals:", "summary:"))).split()[1:]
    return {name: int(total) for name, total in zip_longest(names, totals, fillvalue="0")}


def total(text: str) -> int:
    """The number of instructions in a callgrind file."""
    return events(text)["Ir"]

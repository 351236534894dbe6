"""What limits in Redis add to a request of the gateway: the worker thread's instructions, and those of the thread that holds the connection."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import machine
from callgrind import BASE, LIMITED, Counts, Events, doing, events, threads
from machine import Missing
from peers import Setup
from stage import Stage, free_ports, start

# A function of each thread, by which its counts are known.
THREADS = {"worker": "proxy::handle", "redis": "store::keeper"}


@contextlib.contextmanager
def redis() -> Iterator[int]:
    """A real server on a port of its own."""
    program = shutil.which("redis-server")
    if not program:
        raise Missing("redis-server is not installed (Debian: apt-get install redis-server)")
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with open(f"{folder}/log", "wb") as log:
            # Not on the proxy's core.
            server = start(command, log, machine.other_cpus(), Path(folder))
        try:
            while ask(port, "PING") != "PONG":
                time.sleep(0.05)
            yield port
        finally:
            server.kill()
            server.wait()


def ask(port: int, *command: str) -> str:
    """What the server says."""
    return subprocess.run(["redis-cli", "-p", str(port), *command], capture_output=True, text=True, check=False).stdout.strip()


def run(made: Stage, counts: dict[str, Counts]) -> None:
    """Adds one run of a gateway with limits in Redis, by thread."""
    with redis() as port:
        more = LIMITED.more + f'[redis]\nurl = "redis://127.0.0.1:{port}/0"\ntimeout = "1s"\n'
        setup = replace(LIMITED, more=more)
        for requests, add in ((BASE.requests, add_base), (2 * BASE.requests, add_doubled)):
            before = admissions(port)
            found = count(made, setup, requests)
            if admissions(port) - before < requests:
                raise Missing("the gateway did not ask Redis for each request")
            for name, of_thread in found.items():
                add(counts[name], of_thread["Ir"])


def add_base(counts: Counts, instructions: int) -> None:
    counts.base.append(instructions)


def add_doubled(counts: Counts, instructions: int) -> None:
    counts.doubled.setdefault("request", []).append(instructions)


def count(made: Stage, setup: Setup, requests: int) -> dict[str, Events]:
    """What each thread did in the whole life of a gateway that gets so many requests."""
    with doing(made, setup, replace(BASE, requests=requests, frames=10, streams=1)) as (setup, work):
        texts = threads(made, "sluicegate", setup, work)
    found = {}
    for name, function in THREADS.items():
        of_thread = [text for text in texts if function in text]
        if len(of_thread) != 1:
            raise Missing(f"callgrind's output shows {len(of_thread)} {name} threads among {len(texts)}; expected one")
        found[name] = events(of_thread[0])
    return found


def admissions(port: int) -> int:
    """Scripts that the server has run."""
    found = re.search(r"cmdstat_evalsha:calls=(\d+)", ask(port, "INFO", "commandstats"))
    return int(found[1]) if found else 0

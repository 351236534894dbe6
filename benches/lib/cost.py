"""What `commit = "first_token"`, retries and the breaker cost: the gateway with them and without, in turns; and, where valgrind is
installed, user instructions, which tell smaller differences than any clock."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import machine
import matrix
from build import released
from drive import Tools
from machine import Missing
from matrix import PACED, REQUESTS, STREAMS, Results
from stage import ENDPOINT, ROUTE, Program, Setup, Stage, connect, stage
from table import cells, shown

OFF = Setup(route='commit = "headers"', more='[defaults]\nbreaker = "off"\nretry = "off"')
ON = Setup(route='commit = "first_token"')
SETUPS = {"off": OFF, "on": ON}

KINDS = ("request", "frame", "stream")
# Of instructions, for a frame.
MOST_MORE = 500


@dataclass(frozen=True)
class Work:
    """How much is asked of a gateway under valgrind: JSON requests, frames of one stream, streams of one frame."""

    requests: int = 500
    frames: int = 4000
    streams: int = 100


def run(tools: Tools, binary: Path, rounds: int) -> int:
    """Prints both tables."""
    with stage(binary) as made:
        results = by_clock(tools, made, rounds)
    print("\n".join(f"- {name}: {value}" for name, value in machine.facts()), end="\n\n")
    print(cells("CPU µs", "off", "on", "on ÷ off"), "|---|---|---|---|", sep="\n")
    for scenario, label in (("1k", "per request, 1 KiB"), ("paced", "per frame, paced"), ("flood", "per frame, flood")):
        figures = [shown(results.median(scenario, name, "cpu_us")) for name in SETUPS]
        print(cells(label, *figures, shown(results.ratio(scenario, "on", "off", "cpu_us"), 2)))
    for wrong in results.wrong:
        print(f"WRONG: {wrong}")
    if not machine.find("valgrind"):
        print("\nvalgrind is not installed (Debian: apt install valgrind), so no instructions were counted")
        return 1 if results.wrong else 0
    within = instructions(released())
    return 1 if results.wrong or not within else 0


def by_clock(tools: Tools, made: Stage, rounds: int) -> Results:
    results = Results({}, [])
    programs = {name: made.proxy("sluicegate", setup, f"sluicegate-{name}") for name, setup in SETUPS.items()}
    wanted = [scenario for scenario in [*REQUESTS, *STREAMS] if scenario.name in ("1k", "flood")]
    matrix.interleave(results, tools, made, wanted, programs, rounds)
    made.give_way()
    matrix.interleave(results, tools, made, [PACED], programs, rounds)
    return results


def instructions(binary: Path) -> bool:
    """Prints what each kind of work costs with the features off and on."""
    with stage(binary) as made:
        per = {name: per_unit(made, setup, KINDS) for name, setup in SETUPS.items()}
    print("\n" + cells("user instructions of the worker", "off", "on", "more"), "|---|---|---|---|", sep="\n")
    more = {kind: per["on"][kind] - per["off"][kind] for kind in KINDS}
    for kind in KINDS:
        print(cells(f"per {kind}", *(f"{per[name][kind]:,.0f}" for name in SETUPS), f"{more[kind]:+,.0f}"))
    within = more["frame"] <= MOST_MORE
    print(f"\nAt most {MOST_MORE} more for a frame: {'met' if within else '**missed**'}. A stream here has one frame.")
    return within


def per_unit(made: Stage, setup: Setup, kinds: Iterable[str]) -> dict[str, float]:
    """Counts instructions with some work, and with twice as much of one kind: the difference is what that costs, without the start."""
    base = Work()
    first = count(made, setup, base)
    per = {}
    for kind in kinds:
        amount = getattr(base, f"{kind}s")
        per[kind] = (count(made, setup, replace(base, **{f"{kind}s": 2 * amount})) - first) / amount
    return per


def count(made: Stage, setup: Setup, work: Work) -> int:
    """Instructions of the worker, for all of a gateway's life."""
    valgrind = machine.find("valgrind")
    if not valgrind:
        raise Missing("valgrind is not installed")
    out = made.folder / "callgrind"
    under = (valgrind, "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}")
    gateway = made.proxy("sluicegate", replace(setup, under=under), "sluicegate-valgrind")
    with contextlib.closing(connect(made, gateway, False)) as connection:
        for model, stream, times in (
            ("sim-f40", False, work.requests),
            (f"sim-f{work.frames}-i2", True, 1),
            ("sim-f1-i3", True, work.streams),
        ):
            body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": "x" * 900}]})
            for _ in range(times):
                ask(connection, gateway, body)
    made.stop(gateway)
    threads = list(made.folder.glob("callgrind-*"))
    # The worker is the one thread that proxies; the main thread's count has the noise of the start in it.
    totals = [total(text) for path in threads if "proxy::handle" in (text := path.read_text(errors="replace"))]
    for path in made.folder.glob("callgrind*"):
        path.unlink()
    if len(totals) != 1:
        raise Missing(f"callgrind's output has {len(totals)} workers in {len(threads)} threads, where one was expected")
    return totals[0]


def ask(connection: http.client.HTTPConnection, gateway: Program, body: str) -> None:
    connection.request("POST", ROUTE + ENDPOINT, body, {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"})
    answer = connection.getresponse()
    whole = answer.read()
    if answer.status != 200 or not whole.endswith((b"}", b"[DONE]\n\n")):
        raise Missing(f"the gateway under valgrind says {answer.status}: {whole[-300:]!r}")


def total(text: str) -> int:
    """Of a callgrind file."""
    return int(next(line for line in text.splitlines() if line.startswith(("totals:", "summary:"))).split()[1])

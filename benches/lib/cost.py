"""What `commit = "first_token"`, retries and the circuit breaker cost: the gateway with them and without them, in turns. Where valgrind is
installed, their user instructions are counted as well, which show smaller differences than any clock."""

from __future__ import annotations

from pathlib import Path

import host
import machine
import matrix
import peers
from build import released
from callgrind import DEFAULTS, Counts
from drive import Tools
from matrix import PACED, REQUESTS, STREAMS, Results, median
from peers import Setup
from stage import Stage, stage
from table import cells, marked, shown, span

OFF = Setup(route='commit = "headers"', more='[defaults]\nbreaker = "off"\nretry = "off"')
SETUPS = {"off": OFF, "on": DEFAULTS}

KINDS = ("request", "frame", "stream")
# Limit of what the features may add to a frame, in instructions.
MOST_MORE = 500


def run(tools: Tools, binary: Path, rounds: int) -> int:
    """Prints both tables."""
    with stage(binary) as made:
        results = by_clock(tools, made, rounds)
    results.derive()
    known = [*machine.facts(), *host.facts(results.runs(), {})]
    print("\n".join(f"- {name}: {value}" for name, value in known), end="\n\n")
    print(cells("CPU µs", "off", "on", "on ÷ off", "in all rounds", "busy rounds"), "|---" * 6 + "|", sep="\n")
    for scenario, label in (("1k", "per request, 1 KiB"), ("paced", "per frame, paced"), ("flood", "per frame, flood")):
        figures = [shown(results.median(scenario, name, "cpu_us")) for name in SETUPS]
        ratios = results.ratios(scenario, "on", "off", "cpu_us")
        print(cells(label, *figures, shown(median(ratios), 2), span(ratios), marked(results.busy(scenario))))
    for wrong in results.wrong:
        print(f"WRONG: {wrong}")
    if not machine.find("valgrind"):
        print("\nvalgrind is not installed (Debian: apt-get install valgrind), so no instructions were counted")
        return 1 if results.wrong else 0
    within = instructions(released())
    return 1 if results.wrong or not within else 0


def by_clock(tools: Tools, made: Stage, rounds: int) -> Results:
    results = Results({}, [])
    programs = {name: peers.proxy(made, "sluicegate", setup, f"sluicegate-{name}") for name, setup in SETUPS.items()}
    wanted = [scenario for scenario in [*REQUESTS, *STREAMS] if scenario.name in ("1k", "flood")]
    matrix.interleave(results, tools, made, wanted, programs, rounds)
    made.give_way()
    matrix.interleave(results, tools, made, [PACED], programs, rounds)
    return results


def instructions(binary: Path) -> bool:
    """Prints what each kind of work costs with the features off and on."""
    counts = {name: Counts() for name in SETUPS}
    with stage(binary) as made:
        for name, setup in SETUPS.items():
            counts[name].run(made, setup, KINDS)
    per = {name: {kind: counts[name].least(kind) for kind in KINDS} for name in SETUPS}
    print("\n" + cells("user instructions of the worker", "off", "on", "more"), "|---|---|---|---|", sep="\n")
    more = {kind: per["on"][kind] - per["off"][kind] for kind in KINDS}
    for kind in KINDS:
        print(cells(f"per {kind}", *(f"{per[name][kind]:,.0f}" for name in SETUPS), f"{more[kind]:+,.0f}"))
    within = more["frame"] <= MOST_MORE
    print(f"\nAt most {MOST_MORE} more for a frame: {'met' if within else '**missed**'}. A stream here has one frame.")
    return within

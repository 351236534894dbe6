"""What `commit = "first_token"`, retries and the circuit breaker cost: the gateway with them and without them, in turns. Where valgrind is
installed, their user instructions are counted as well, which show smaller differences than any clock."""

from __future__ import annotations

from pathlib import Path

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


def table(results: Results) -> str:
    """CPU time with the features off and on, as Markdown."""
    lines = [cells("CPU µs", "off", "on", "on ÷ off", "in all rounds", "busy rounds"), "|---" * 6 + "|"]
    for scenario, label in (("1k", "per request, 1 KiB"), ("paced", "per frame, paced"), ("flood", "per frame, flood")):
        figures = [shown(results.median(scenario, name, "cpu_us")) for name in SETUPS]
        ratios = results.ratios(scenario, "on", "off", "cpu_us")
        lines.append(cells(label, *figures, shown(median(ratios), 2), span(ratios), marked(results.busy(scenario))))
    return "\n".join(lines)


def by_clock(tools: Tools, made: Stage, rounds: int) -> Results:
    """CPU time with the features off and on, in turns."""
    results = Results({}, [])
    programs = {name: peers.proxy(made, "sluicegate", setup, f"sluicegate-{name}") for name, setup in SETUPS.items()}
    wanted = [scenario for scenario in [*REQUESTS, *STREAMS] if scenario.name in ("1k", "flood")]
    matrix.interleave(results, tools, made, wanted, programs, rounds)
    made.give_way()
    matrix.interleave(results, tools, made, [PACED], programs, rounds)
    results.derive()
    return results


def instructions_within() -> bool:
    """Counts instructions with the features off and on, where valgrind is installed, and prints them. Whether they are within the limit."""
    if machine.find("valgrind"):
        return instructions(released())
    print("valgrind is not installed (Debian: apt-get install valgrind), so no instructions were counted")
    return True


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

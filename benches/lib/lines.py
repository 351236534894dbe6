"""Counts what a request and a frame cost the gateway and the other proxies in instructions and in cache lines, with many connections in
turns. Both are counted by callgrind, whose caches are always the same, so that other load on the machine hardly changes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import turns
from callgrind import DEFAULTS, counted, events
from peers import Setup
from stage import Stage
from table import cells

# The caches of a small machine: bytes, ways, bytes of a line.
CACHES = ("--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=1048576,16,64")


@dataclass(frozen=True)
class Kind:
    """What takes turns: on how many connections, and how often."""

    name: str
    connections: int
    turns: int


# So many streams that what a proxy keeps of them does not fit into 1 MiB.
FRAME = Kind("frame", 1000, 3)
REQUEST = Kind("request", 256, 4)
KINDS = (REQUEST, FRAME)


@dataclass(frozen=True)
class Cost:
    """What one request or frame costs."""

    instructions: float
    # Lines of code and of data that were not in a cache of 32 KiB,
    code: float
    data: float
    # and lines of data that were not in one of 1 MiB either: those of this connection, which nothing else has used since its last turn.
    own: float

    @classmethod
    def between(cls, few: Mapping[str, float], many: Mapping[str, float], units: int) -> Cost:
        """From the counts of two processes, of which the second did so many units more. What a process does otherwise cancels out."""

        def each(*names: str) -> float:
            return sum(many.get(name, 0) - few.get(name, 0) for name in names) / units

        return cls(each("Ir"), each("I1mr"), each("D1mr", "D1mw"), each("DLmr", "DLmw"))


TITLES = {"minimal": "minimal proxy of hyper"}
Costs = dict[str, dict[str, Cost]]


def count(made: Stage, names: list[str], minimal: Path, report: Callable[[str], None]) -> Costs:
    """The costs of each kind, for each program, and for the minimal proxy."""
    setup = replace(DEFAULTS, minimal=minimal)
    costs: Costs = {}
    for kind in KINDS:
        for name in [*names, "minimal"]:
            few, many = (run(made, name, setup, replace(kind, turns=times * kind.turns)) for times in (1, 2))
            cost = Cost.between(events(few), events(many), kind.connections * kind.turns)
            costs.setdefault(kind.name, {})[name] = cost
            missed = f"{cost.code:.0f} lines of code, {cost.data:.0f} of data, {cost.own:.0f} of its own"
            report(f"{name}, a {kind.name}: {cost.instructions:,.0f} instructions, {missed}")
    return costs


def run(made: Stage, name: str, setup: Setup, kind: Kind) -> str:
    """Callgrind's output about a proxy that does this."""
    if kind.name == "request":
        return counted(made, name, setup, lambda proxy: turns.requests(made, proxy, kind.connections, kind.turns), CACHES)
    with turns.upstream() as listener:
        setup = replace(setup, upstream=listener.getsockname()[1])
        return counted(made, name, setup, lambda proxy: turns.streams(proxy, listener, kind.connections, kind.turns), CACHES)


def table(costs: Costs) -> str:
    """All costs, as Markdown."""
    names = list(next(iter(costs.values())))
    lines = [cells("", *(TITLES.get(name, name) for name in names)), "|---" * (len(names) + 1) + "|"]
    for kind in KINDS:
        found = costs[kind.name].values()
        about = f"per {kind.name}, {kind.connections:,} connections in turns"
        lines.append(cells(f"user instructions {about}", *(shown(cost.instructions) for cost in found)))
        lines.append(cells("… lines of code not in 32 KiB", *(shown(cost.code) for cost in found)))
        lines.append(cells("… lines of data not in 32 KiB", *(shown(cost.data) for cost in found)))
        lines.append(cells("… lines of data not in 1 MiB", *(shown(cost.own) for cost in found)))
    return "\n".join(lines)


def shown(value: float) -> str:
    """A count. Where a program misses nothing, two of its processes differ by a few lines in either direction."""
    return f"{max(0, round(value)):,}"

"""Compares what a request and a frame cost with what they cost at another commit."""

from __future__ import annotations

import sys
from dataclasses import replace

import versions
from callgrind import DEFAULTS, Counts
from stage import stage
from table import cells
from versions import Version

KINDS = ("request", "frame")
RUNS = 3
# The most that a request or a frame may cost more, as a share of what it costs at the commit.
MOST_MORE = 0.02


def run(commit: str, runs: int) -> int:
    """Builds both versions, counts them in turns, and prints a table. Returns 1 if the working tree's version costs too much more."""
    old, new = versions.both(commit)
    old_counts, new_counts = counted(old, new, runs)
    title = f"user instructions, the least of {runs} runs"
    print(cells(title, old.name, new.name, "ratio", "spread of the runs", ""), "|---" * 6 + "|", sep="\n")
    failed = False
    for kind in KINDS:
        before, after = old_counts.least(kind), new_counts.least(kind)
        ratio = after / before
        failed |= ratio > 1 + MOST_MORE
        verdict = "ok" if ratio <= 1 + MOST_MORE else f"**more than {MOST_MORE:.0%} more**"
        spread = f"{old_counts.spread(kind):.2%}, {new_counts.spread(kind):.2%}"
        print(cells(f"per {kind}", f"{before:,.0f}", f"{after:,.0f}", f"{ratio:.4f}", spread, verdict))
    return 1 if failed else 0


def counted(old: Version, new: Version, runs: int) -> tuple[Counts, Counts]:
    """Counts both in turns, before one simulator: A B, then B A, so that neither always comes first."""
    counts = {old: Counts(), new: Counts()}
    with stage(new.binary) as made:
        order = [old, new]
        for number in range(runs):
            for version in order:
                counts[version].run(replace(made, binary=version.binary), DEFAULTS, KINDS)
                shown = ", ".join(f"{counts[version].each(kind)[-1]:,.0f} a {kind}" for kind in KINDS)
                print(f"run {number + 1} of {runs}, {version.name}: {shown}", file=sys.stderr, flush=True)
            order.reverse()
    return counts[old], counts[new]

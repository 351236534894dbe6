"""What `[otlp]` adds to a request, through a whole gateway: a request with one attempt that is exported, and one that is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from callgrind import DEFAULTS, Counts
from stage import stage

# No collector is needed: encoded spans wait in the queue, and the worker does the same as if they were taken.
COLLECTOR = '[otlp]\nendpoint = "http://127.0.0.1:9"\nslow = "off"\nsample = '
SETUPS = {"off": DEFAULTS, "not exported": replace(DEFAULTS, more=COLLECTOR + "0"), "exported": replace(DEFAULTS, more=COLLECTOR + "1")}
# Limits in instructions.
MOST = {"not exported": 1_500, "exported": 25_000}


def run(binary: Path, runs: int) -> int:
    """Prints the cost of a request and what is added; returns 1 if a limit is exceeded."""
    counts = {name: Counts() for name in SETUPS}
    with stage(binary) as made:
        for _ in range(runs):
            for name, setup in SETUPS.items():
                counts[name].run(made, setup, ["request"])
    costs = {name: counts[name].least("request") for name in SETUPS}
    added = {name: costs[name] - costs["off"] for name in MOST}
    print(json.dumps({"request": round(costs["off"]), **{name: round(cost) for name, cost in added.items()}}))
    return int(any(added[name] > most for name, most in MOST.items()))

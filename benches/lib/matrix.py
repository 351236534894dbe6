"""The scenarios, and the measurements of each."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import drive
import host
import machine
import peers
from drive import Scenario, Tools, Wrong
from host import Figures
from peers import Setup
from stage import Program, Stage

ENDLESS = 100_000_000

REQUESTS = [
    Scenario("1k", "16 connections, JSON, request and answer of 1 KiB", "requests", "sim-f40", 40, 16, padding=940),
    Scenario("1k-tls", "the same over TLS", "requests", "sim-f40", 40, 16, tls=True, padding=940),
    Scenario("32k", "requests of 32 KiB, as with a long conversation", "requests", "sim-f40", 40, 16, padding=32 * 1024 - 84),
    Scenario("256k", "requests of 256 KiB", "requests", "sim-f40", 40, 16, padding=256 * 1024 - 84),
    Scenario("connect", "a connection for each request", "handshakes", "sim-f40", 40, 4, padding=940),
    Scenario("connect-tls", "a TLS 1.3 handshake for each request, none resumed", "handshakes", "sim-f40", 40, 4, tls=True, padding=940),
    Scenario("flood", "32 streams of 500 frames, as fast as the upstream can", "streams", "sim-f500-i0-t", 500, 32),
]
PACED = Scenario(
    "paced", "1,000 streams, 20 frames a second each", "streams", f"sim-f{ENDLESS}-i50-t", ENDLESS, 1000, warm=1, rate=20_000
)
# Scenarios that measure delays: the simulator yields to the client.
STREAMS = [
    PACED,
    replace(PACED, name="paced-tls", about="the same, TLS on the client's side", tls=True),
    Scenario("first", "16 streams of 20 frames, one each 5 ms, started again when they end", "streams", "sim-f20-i5", 20, 16),
]
TWO = Scenario("two", "1 KiB requests, two workers, nothing pinned", "requests", "sim-f40", 40, 16, padding=940, pinned=False)
IDLE = [
    Scenario("idle", "2,000 streams that are silent after their first frame", "streams", f"sim-f{ENDLESS}-i600000", ENDLESS, 2000),
    Scenario("idle-tls", "the same, TLS on the client's side", "streams", f"sim-f{ENDLESS}-i600000", ENDLESS, 2000, tls=True),
]

# Scenario → program → figures of each round; None where an answer was wrong.
Samples = dict[str, dict[str, list[Figures | None]]]


@dataclass
class Results:
    """All figures of a run, and what went wrong in it."""

    samples: Samples
    wrong: list[str]

    def add(self, scenario: str, program: str, measure: Callable[[], Figures]) -> None:
        """Takes one measurement."""
        try:
            figures: Figures | None = measure()
        except Wrong as wrong:
            figures = None
            self.wrong.append(f"{scenario}, {program}: {wrong}")
        self.samples.setdefault(scenario, {}).setdefault(program, []).append(figures)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in figures.items()) if figures else f"WRONG: {self.wrong[-1]}"
        print(f"{time.strftime('%T')} {scenario:12} {program:10} {shown}", file=sys.stderr, flush=True)

    def derive(self) -> None:
        """Figures that are differences: the delay added to a direct request, and the cost of a handshake over that of a plain connection."""
        for scenario in self.samples.values():
            direct = scenario.get("direct", [])
            for runs in scenario.values():
                for figures, base in zip(runs, direct):
                    for name in ("delay_p50", "wait_p50"):
                        if figures and base and name in figures and name in base:
                            figures[f"added_{name}"] = figures[name] - base[name]
        plain = self.samples.get("connect", {})
        for program, runs in self.samples.get("connect-tls", {}).items():
            for figures, base in zip(runs, plain.get(program, [])):
                if figures and base:
                    figures["handshake_us"] = figures["cpu_us"] - base["cpu_us"]
        host.judge(self.runs())

    def runs(self) -> list[Figures]:
        """The figures of all runs that have some."""
        return [run for scenario in self.samples.values() for runs in scenario.values() for run in runs if run]

    def busy(self, scenario: str) -> list[bool]:
        """For each round, whether the host was too busy in one of its runs. Empty where nobody looked."""
        rounds = list(zip(*self.samples.get(scenario, {}).values()))
        if not any(run and "stolen" in run for round in rounds for run in round):
            return []
        return [any(run and host.busy(run) for run in round) for round in rounds]

    def median(self, scenario: str, program: str, figure: str) -> float | None:
        """The median of all rounds."""
        return median(self.values(scenario, program, figure))

    def values(self, scenario: str, program: str, figure: str) -> list[float]:
        """A figure in each round that has it."""
        runs = self.samples.get(scenario, {}).get(program, [])
        return [run[figure] for run in runs if run and figure in run]

    def ratios(self, scenario: str, program: str, other: str, figure: str) -> list[float]:
        """The ratio within each round that has both figures."""
        runs = self.samples.get(scenario, {})
        pairs = zip(runs.get(program, []), runs.get(other, []))
        return [one[figure] / two[figure] for one, two in pairs if one and two and figure in one and two.get(figure, 0) > 0]


def median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def measure(tools: Tools, stage: Stage, setup: Setup, names: list[str], rounds: int, only: set[str]) -> Results:
    """The whole matrix: A B A B, never all of one and then all of another."""
    results = Results({}, [])

    def wanted(scenarios: list[Scenario]) -> list[Scenario]:
        return [scenario for scenario in scenarios if not only or scenario.name in only]

    if wanted([TWO]):
        both = [peers.proxy(stage, name, replace(setup, threads=2, pinned=False), f"{name}-2") for name in names]
        interleave(results, tools, stage, [TWO], dict(zip(names, both)), rounds)
        for program in both:
            stage.stop(program)
    programs = {"direct": stage.direct, **{name: peers.proxy(stage, name, setup) for name in names}}
    interleave(results, tools, stage, wanted(REQUESTS), programs, rounds)
    stage.give_way()
    interleave(results, tools, stage, wanted(STREAMS), programs, rounds)
    measure_memory(results, tools, stage, setup, names, wanted(IDLE))
    results.derive()
    return results


def interleave(
    results: Results, tools: Tools, stage: Stage, scenarios: list[Scenario], programs: dict[str, Program], rounds: int
) -> None:
    """Runs of all programs in turns. The memory-bound kernel is read before and after each round, and the longer time is noted with its runs."""
    order = list(programs.items())
    read = tools.probe.read if tools.probe else dict
    before = read()
    for scenario in scenarios:
        for _ in range(rounds):
            # Rotated, so that no program is always the first.
            order.append(order.pop(0))
            for name, program in order:
                results.add(scenario.name, name, lambda: drive.run(tools, stage, program, scenario))
            after = read()
            for name, _ in order:
                if run := results.samples[scenario.name][name][-1]:
                    run |= host.worse(before, after)
            before = after


def measure_memory(
    results: Results, tools: Tools, stage: Stage, setup: Setup, names: list[str], scenarios: list[Scenario]
) -> None:
    """A fresh process for each scenario and proxy: before, with the streams, and (all at once) 30 s after they have closed."""
    pause = 30 if tools.seconds >= 1 else 5
    held: list[tuple[Scenario, str, Program, int, int]] = []
    for scenario in scenarios:
        for name in names:
            program = peers.proxy(stage, name, setup, f"{name}-{scenario.name}")
            try:
                held.append((scenario, name, program, *hold(tools, stage, program, scenario)))
            except Wrong as wrong:
                results.wrong.append(f"{scenario.name}, {name}: {wrong}")
    time.sleep(pause if held else 0)
    for scenario, name, program, before, during in held:
        if machine.descriptors(program.pid) > scenario.count / 2:
            results.wrong.append(f"{scenario.name}, {name}: the connections are still open")
        after = machine.pss_kib(program.pid)
        grown = during - before
        figures = {"kib": grown / scenario.count, "given_back": 100 * (during - after) / grown, "base_mib": before / 1024}
        results.add(scenario.name, name, lambda: figures)
        stage.stop(program)


def hold(tools: Tools, stage: Stage, program: Program, scenario: Scenario) -> tuple[int, int]:
    """Memory before, and with all streams open."""
    before = machine.pss_kib(program.pid)
    with drive.client(tools, stage, program, scenario):
        time.sleep(2)
        return before, machine.pss_kib(program.pid)

"""One run of a scenario against one program: sends the load, checks the answers, and reads the proxy's CPU time at start and end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import host
import machine
from host import MOST_STOLEN, Figures, Moment
from stage import ROUTE, Program, Stage, ask, content

# A run in which the hypervisor took more than MOST_STOLEN is repeated, up to so many times in all. The last one counts, and is marked.
TRIES = 3
# The longest that the load client may take for a report, in seconds; the first one comes when all streams or connections are open.
LONGEST = 120


class Wrong(Exception):
    """A wrong answer. Its run has no figure."""


@dataclass(frozen=True)
class Scenario:
    """What is requested, on how many connections, and for how long."""

    name: str
    about: str
    mode: str  # streams | requests | handshakes, as the load client calls them
    model: str
    frames: int
    count: int
    tls: bool = False
    padding: int = 0
    pinned: bool = True
    warm: float = 0.5
    route: str = ROUTE
    rate: float = 0  # frames per second that must arrive, if the upstream sends at a fixed rate


@dataclass(frozen=True)
class Tools:
    """The programs that send the load."""

    client: Path
    oha: str | None
    seconds: float
    usage: bool = False
    # The memory-bound kernel that shows how busy the host is; without it, only CPU time is looked at.
    probe: host.Probe | None = None


class Client:
    """The load client. It reports what it saw whenever it gets a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def tell(self) -> dict[str, Any]:
        """What happened since the last report."""
        print(file=self.input, flush=True)
        return self.hear()

    def hear(self) -> dict[str, Any]:
        if not select.select([self.output], [], [], LONGEST)[0]:
            raise Wrong(f"the load client said nothing for {LONGEST} s: the machine is too slow, or a proxy does not answer")
        line = self.output.readline()
        if not line:
            raise Wrong(f"the load client exited with {self.process.wait()}")
        seen = cast(dict[str, Any], json.loads(line))
        if seen["errors"]:
            raise Wrong(f"{seen['errors']} wrong answers, the first: {seen['first_error']}")
        return seen

    @property
    def input(self) -> IO[str]:
        assert self.process.stdin
        return self.process.stdin

    @property
    def output(self) -> IO[str]:
        assert self.process.stdout
        return self.process.stdout


@contextlib.contextmanager
def client(tools: Tools, stage: Stage, program: Program, scenario: Scenario, pinned: bool = True) -> Iterator[Client]:
    """A running load client: all its streams or connections are open."""
    command: list[str] = [str(tools.client), scenario.mode, "--url", program.url(scenario.tls, scenario.route), "--key", program.key]
    command += ["--model", scenario.model, "--frames", str(scenario.frames), "--count", str(scenario.count)]
    command += ["--padding", str(scenario.padding)]
    if scenario.tls:
        command += ["--ca", str(stage.ca)]
    if tools.usage:
        command += ["--usage"]
    cpus = machine.other_cpus() if pinned else set(machine.CPUS)
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )
    try:
        one = Client(process)
        one.hear()
        yield one
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()


def run(tools: Tools, stage: Stage, program: Program, scenario: Scenario) -> Figures:
    """One run, repeated when the hypervisor took too much CPU time. `tries` says how often it ran."""
    figures: Figures = {}
    for tries in range(1, TRIES + 1):
        before = Moment.now()
        oha = scenario.mode == "requests" and tools.oha
        figures = (by_oha if oha else by_client)(tools, stage, program, scenario)
        figures |= {**Moment.now().since(before), "tries": tries}
        stage.empty_logs()
        if figures["stolen"] <= MOST_STOLEN:
            break
        print(f"  {figures['stolen']:.0%} of the CPU time was stolen (try {tries} of {TRIES})", file=sys.stderr)
    return figures


def by_client(tools: Tools, stage: Stage, program: Program, scenario: Scenario) -> Figures:
    with client(tools, stage, program, scenario, scenario.pinned) as one:
        time.sleep(scenario.warm)
        one.tell()
        before = spent(stage, program)
        time.sleep(tools.seconds)
        seen = one.tell()
        cpu = spent(stage, program) - before
    units = seen["frames"] if scenario.mode == "streams" else seen["answers"]
    if not units:
        raise Wrong("no answer arrived")
    if units / seen["seconds"] < 0.95 * scenario.rate:
        raise Wrong(f"{units / seen['seconds']:,.0f} frames a second instead of {scenario.rate:,.0f}: the machine is too slow, or not idle")
    figures = {"cpu_us": cpu / 1000 / units, "rate": units / seen["seconds"], "per_read": units / max(1, seen["reads"])}
    for name, quantiles in (("delay", seen["delay_us"]), ("wait", seen["wait_us"])):
        if quantiles:
            figures |= {f"{name}_p50": quantiles[0], f"{name}_p99": quantiles[1]}
    return figures


def by_oha(tools: Tools, stage: Stage, program: Program, scenario: Scenario) -> Figures:
    assert tools.oha
    body = json.dumps({"model": scenario.model, "messages": [{"role": "user", "content": "x" * scenario.padding}]})
    path = stage.folder / "request.json"
    path.write_text(body)
    command = [tools.oha, "--no-tui", "--output-format", "json", "-w", "-z", f"{tools.seconds + scenario.warm}s", "-c", str(scenario.count)]
    command += ["--worker-threads", "1", "-m", "POST", "-T", "application/json", "-H", f"authorization: Bearer {program.key}"]
    command += ["-D", str(path), "--cacert", str(stage.ca), program.url(scenario.tls, scenario.route)]
    cpus = machine.other_cpus() if scenario.pinned else set(machine.CPUS)
    expected = ask(stage, program, scenario.tls, scenario.model)[1]
    before = spent(stage, program)
    said = subprocess.run(
        command, capture_output=True, text=True, check=False, process_group=0, preexec_fn=lambda: os.sched_setaffinity(0, cpus)
    )
    cpu = spent(stage, program) - before
    if said.returncode:
        raise Wrong(f"oha exited with {said.returncode}: {said.stderr[-500:]}")
    return oha_figures(json.loads(said.stdout), cpu, expected)


def oha_figures(seen: dict[str, Any], cpu: int, expected: bytes) -> Figures:
    """The figures of oha. It does not look at bodies, so their length must be that of a checked one, but for the digits of its number."""
    statuses = {status: count for status, count in seen["statusCodeDistribution"].items() if count}
    if list(statuses) != ["200"] or seen["errorDistribution"]:
        raise Wrong(f"statuses {statuses}, errors {seen['errorDistribution']}")
    if not content(expected) or abs(seen["summary"]["sizePerRequest"] - len(expected)) > 8:
        raise Wrong(f"answers of {seen['summary']['sizePerRequest']} bytes instead of {len(expected)}")
    quantiles = seen["latencyPercentiles"]
    return {
        "cpu_us": cpu / 1000 / statuses["200"],
        "rate": seen["summary"]["requestsPerSec"],
        "wait_p50": quantiles["p50"] * 1e6,
        "wait_p99": quantiles["p99"] * 1e6,
    }


def spent(stage: Stage, program: Program) -> int:
    """CPU time of the proxy. Zero if the simulator is asked directly, without a proxy."""
    return 0 if program is stage.direct else machine.cpu_ns(program.pid)

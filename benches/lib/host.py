"""How busy the host is with other things than the measurement: CPU time that the hypervisor took, CPU time of other processes, and how long
a fixed memory-bound kernel takes (`benches/tools/memory.rs`)."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import machine

Figures = dict[str, float]

# A run is called busy where the hypervisor took more than this share of the CPU time of the cores,
MOST_STOLEN = 0.04
# or other processes took more than this share,
MOST_OTHERS = 0.05
# or the memory-bound kernel took so many times its least time.
MOST_MEMORY = 1.25

# The figures of the kernel, in nanoseconds a step: in 8 MiB, which fit into a cache that cores share, and in 64 MiB, which seldom do.
KERNELS = {"shared_ns": "8 MiB", "memory_ns": "64 MiB"}

# The cores on which neighbours run, by the name of the background load: none, all but that of the proxies, or all.
BACKGROUNDS: dict[str, set[int]] = {"none": set(), "neighbour": machine.other_cpus(), "everywhere": set(machine.CPUS)}
MOST_NEIGHBOURS = 4


@dataclass(frozen=True)
class Moment:
    """CPU time since the machine was started, in ticks, on the cores that this script uses."""

    stolen: int
    # By anybody, the host not counted.
    used: int
    all: int
    # By this script and the processes that it has started.
    own: int

    @classmethod
    def now(cls) -> Moment:
        """This moment."""
        stolen, used, ticks = times(machine.read(machine.PROC / "stat"), machine.CPUS, interrupts_apart())
        own = sum(process_ticks(machine.read(machine.PROC / f"{pid}/stat")) for pid in machine.family(os.getpid()))
        return cls(stolen, used, ticks, own)

    def since(self, before: Moment) -> Figures:
        """The shares of the CPU time that the hypervisor and that other processes took since then."""
        ticks = max(1, self.all - before.all)
        others = (self.used - before.used) - (self.own - before.own)
        return {"stolen": (self.stolen - before.stolen) / ticks, "others": max(0.0, others / ticks)}


def times(stat: str, cpus: list[int], apart: bool) -> tuple[int, int, int]:
    """From /proc/stat: stolen, used and all ticks of these CPUs. Interrupts count as used unless the kernel accounts for them apart."""
    stolen = used = ticks = 0
    for line in stat.splitlines():
        name, *words = line.split()
        if not name.startswith("cpu") or name[3:] not in map(str, cpus):
            continue
        user, nice, system, _idle, _iowait, irq, softirq, steal = (int(word) for word in words[:8])
        stolen += steal
        used += user + nice + system + (0 if apart else irq + softirq)
        ticks += sum(int(word) for word in words[:8])
    return stolen, used, ticks


def process_ticks(stat: str) -> int:
    """From /proc/PID/stat: the CPU time of a process and of its children that have ended."""
    # The name before the last bracket may contain anything. The third field comes after it; the times are the fields 14 to 17.
    fields = stat.rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


def interrupts_apart() -> bool:
    """Whether the kernel keeps the time of interrupts out of the time of the process that they interrupt (IRQ_TIME_ACCOUNTING). Most of
    them are those of the measurement's own network traffic, which must not count as that of others."""
    with contextlib.suppress(OSError):
        return b"CONFIG_IRQ_TIME_ACCOUNTING=y" in gzip.decompress(Path("/proc/config.gz").read_bytes())
    with contextlib.suppress(OSError):
        return "CONFIG_IRQ_TIME_ACCOUNTING=y" in Path(f"/boot/config-{platform.release()}").read_text()
    return True


class Probe:
    """The memory-bound kernel: a process on the core of the proxies that waits until it is asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def read(self) -> Figures:
        """The time of a step in each buffer."""
        assert self.process.stdin and self.process.stdout
        print(file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise machine.Missing(f"benches/tools/memory.rs exited with {self.process.wait()}")
        return dict(zip(KERNELS, json.loads(line)))


@contextlib.contextmanager
def probe(program: Path) -> Iterator[Probe]:
    """The kernel, for as long as it is needed."""
    with running([str(program), "probe"], machine.proxy_cpus()) as process:
        one = Probe(process)
        # The first answer comes when the buffers have been made.
        one.read()
        yield one


class Neighbours:
    """Processes that write 64 MiB over and over, one on each of some cores, whenever nothing else runs there: they are to take cache and memory
    from the proxies, not CPU time."""

    def __init__(self) -> None:
        self.pids: dict[int, int] = {}
        self.begun = time.monotonic()

    def about(self) -> str:
        """What they are, and the share of their cores that they got."""
        if not self.pids:
            return "none"
        cores = ", ".join(map(str, self.pids))
        share = sum(map(machine.cpu_ns, self.pids.values())) / 1e9 / (time.monotonic() - self.begun) / len(self.pids)
        return f"64 MiB written over and over on core {cores} in its idle time, which was {share:.0%} of the run"


@contextlib.contextmanager
def neighbours(program: Path, cores: set[int]) -> Iterator[Neighbours]:
    """The neighbours on these cores, the first four at most, for as long as they are needed."""
    with contextlib.ExitStack() as processes:
        started = Neighbours()
        for core in sorted(cores)[:MOST_NEIGHBOURS]:
            process = processes.enter_context(running([str(program), "neighbour"], {core}, os.SCHED_IDLE))
            started.pids[core] = process.pid
        yield started


@contextlib.contextmanager
def running(command: list[str], cpus: set[int], policy: int = os.SCHED_OTHER) -> Iterator[subprocess.Popen[str]]:
    """A process on these CPUs. It ends with its stdin, so it cannot outlive this script."""

    def prepare() -> None:
        os.sched_setaffinity(0, cpus)
        os.sched_setscheduler(0, policy, os.sched_param(0))

    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0, preexec_fn=prepare
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def worse(one: Figures, other: Figures) -> Figures:
    """The longer time of each kernel."""
    return {name: max(value, other.get(name, value)) for name, value in one.items()}


def judge(runs: list[Figures]) -> None:
    """Adds to each run how many times the least time of all runs the kernel took, the slower one of both."""
    best = {name: min((run[name] for run in runs if name in run), default=0.0) for name in KERNELS}
    for run in runs:
        ratios = [run[name] / best[name] for name in KERNELS if name in run and best[name] > 0]
        if ratios:
            run["memory"] = max(ratios)


def busy(run: Figures) -> bool:
    """Whether the host was too busy in this run for its figures to say much."""
    return (
        run.get("stolen", 0) > MOST_STOLEN or run.get("others", 0) > MOST_OTHERS or run.get("memory", 1) > MOST_MEMORY
    )


def facts(runs: list[Figures], idle: Figures) -> list[tuple[str, str]]:
    """How busy the host was, for the head of a table. `idle` is a reading of the kernel before anything was started."""
    watched = [run for run in runs if "stolen" in run]
    if not watched:
        return []
    found = [("stolen by the hypervisor", shares(run["stolen"] for run in watched))]
    found.append(("used by other processes", shares(run["others"] for run in watched)))
    for name, size in KERNELS.items():
        times = sorted(run[name] for run in watched if name in run)
        if times:
            span = f"{times[0]:.1f} to {times[-1]:.1f}"
            before = f"; {idle[name]:.1f} before the first round" if name in idle else ""
            found.append((f"memory kernel, {size}", f"{span} ns a step{before}"))
    count = sum(map(busy, watched))
    limits = f"{MOST_STOLEN:.0%} stolen, {MOST_OTHERS:.0%} used by others, or {MOST_MEMORY:g} × the kernel's least time"
    found.append(("busy runs", f"{count} of {len(watched)} (more than {limits})"))
    return found


def shares(values: Iterable[float]) -> str:
    """The mean and the largest of some shares."""
    known = list(values)
    return f"{sum(known) / len(known):.1%} of the cores' time, at most {max(known):.1%} in a run"

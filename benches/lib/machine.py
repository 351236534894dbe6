"""What the kernel reports about a process and about the machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CPUS: list[int] = sorted(os.sched_getaffinity(0))


class Missing(Exception):
    """Something that is needed is not there, or did not work; the text says what, and what to do."""


def proxy_cpus() -> set[int]:
    """The core on which a proxy is measured; nothing else runs on it if there are two."""
    return {CPUS[0]}


def other_cpus() -> set[int]:
    """The cores for everything else: the simulator, the load, this script."""
    return set(CPUS[1:] or CPUS)


def family(pid: int) -> Iterator[int]:
    """A process and all its descendants."""
    yield pid
    for children in PROC.glob(f"{pid}/task/*/children"):
        for child in read(children).split():
            yield from family(int(child))


def cpu_ns(pid: int) -> int:
    """CPU time of all threads and children, in nanoseconds. On many kernels it includes stolen time, so runs with much of that are repeated."""
    found = [schedstat for one in family(pid) for schedstat in PROC.glob(f"{one}/task/*/schedstat")]
    if not found:
        raise Missing(f"no /proc/{pid}/task/*/schedstat: the process has ended, or the kernel was built without CONFIG_SCHED_INFO")
    return sum(int((read(schedstat).split() or ["0"])[0]) for schedstat in found)


def pss_kib(pid: int) -> int:
    """Memory in KiB, shared pages counted in proportion (PSS)."""
    lines = (line for one in family(pid) for line in read(PROC / f"{one}/smaps_rollup").splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def descriptors(pid: int) -> int:
    """Open files and sockets."""
    return sum(len(os.listdir(PROC / f"{one}/fd")) for one in family(pid))


def read(path: Path) -> str:
    """The content of a file; nothing if it is gone, as that of a process may be at any time."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def facts() -> list[tuple[str, str]]:
    """Facts about the machine that belong to the figures."""
    models = [line.split(":", 1)[1].strip() for line in read(PROC / "cpuinfo").splitlines() if line.startswith("model name")]
    return [
        ("machine", f"{len(CPUS)} × {models[0] if models else platform.machine()}, Linux {platform.release()}"),
        ("load average after", load_average()),
        *((name, version) for name, *command in VERSIONS if (version := first_line(command))),
    ]


def load_average() -> str:
    """The load average of 1, 5 and 15 minutes."""
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


VERSIONS = [("nginx", "nginx", "-v"), ("HAProxy", "haproxy", "-v"), ("rustc", "rustc", "--version"), ("oha", "oha", "--version")]


def first_line(command: list[str]) -> str:
    """The first line of a command's output; nothing if there is no such command."""
    program = find(command[0])
    if not program:
        return ""
    said = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).strip().split("\n")[0]


def find(program: str) -> str | None:
    """The path of a program, if it is installed."""
    homes = [os.environ.get("PATH", ""), "/usr/sbin", str(Path.home() / ".cargo/bin")]
    return shutil.which(program, path=os.pathsep.join(homes))

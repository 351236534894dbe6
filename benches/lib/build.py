"""Builds what is measured, and what measures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from machine import Missing
from stage import ROOT

# As cargo and deploy/build take it, which are run from there.
TARGET = (ROOT / os.environ.get("CARGO_TARGET_DIR", "target")).resolve()


def shipped() -> Path:
    """The program as it ships."""
    run([str(ROOT / "deploy/build")], "building the program as it ships; 13 minutes on two cores (--binary FILE takes one that is there)")
    return TARGET / "shipped/sluicegate"


def released() -> Path:
    """The program in cargo's `release` profile: without LTO, so that valgrind tells functions apart, and the same on each machine."""
    cargo("--bin", "sluicegate")
    return TARGET / "release/sluicegate"


def load_client() -> Path:
    """What drives the load."""
    cargo("--example", "load-client")
    return TARGET / "release/examples/load-client"


def cargo(*what: str) -> None:
    run(["cargo", "build", "--locked", "--release", *what], f"building {what[-1]}; 3 minutes on two cores the first time")


def run(command: list[str], about: str) -> None:
    print(about, file=sys.stderr)
    try:
        # What it says is not what was measured. A group of its own, so that all that it has started ends with it.
        building = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr, process_group=0)
    except FileNotFoundError as error:
        raise Missing(f"{command[0]} is not installed (cargo: https://rustup.rs)") from error
    try:
        code = building.wait()
    except BaseException:
        os.killpg(building.pid, signal.SIGTERM)
        building.wait()
        raise
    if code:
        raise Missing("the build failed")

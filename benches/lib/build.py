"""Builds what is measured, and what measures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from machine import Missing
from stage import ROOT

# Where deploy/build puts it, which is run from there.
SHIPPED = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "shipped/sluicegate"


def shipped() -> Path:
    """The program as it ships."""
    run([str(ROOT / "deploy/build")], "building the program as it ships; 13 minutes on two cores (--binary FILE takes one that is there)")
    return SHIPPED.resolve()


def released() -> Path:
    """The program in cargo's `release` profile: without LTO, so that valgrind tells functions apart, and the same on each machine."""
    return cargo("--bin", "sluicegate")


def load_client() -> Path:
    """What drives the load."""
    return cargo("--example", "load-client")


def cargo(kind: str, name: str) -> Path:
    """Builds it, and has cargo say where it is: `build.target` in anybody's configuration puts it elsewhere."""
    command = ["cargo", "build", "--locked", "--release", kind, name, "--message-format=json-render-diagnostics"]
    said = run(command, f"building {name}; 3 minutes on two cores the first time")
    messages = [json.loads(line) for line in said.splitlines()]
    return next(Path(message["executable"]) for message in messages if message.get("executable"))


def run(command: list[str], about: str) -> bytes:
    """What the command writes to its standard output."""
    print(about, file=sys.stderr)
    try:
        # A group of its own, so that all that it has started ends with it.
        building = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, process_group=0)
    except FileNotFoundError as error:
        raise Missing(f"{command[0]} is not installed (cargo: https://rustup.rs)") from error
    try:
        said, _ = building.communicate()
    except BaseException:
        os.killpg(building.pid, signal.SIGTERM)
        building.wait()
        raise
    if building.returncode:
        raise Missing("the build failed")
    return said

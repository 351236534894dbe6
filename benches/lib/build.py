"""Builds the programs that are measured, and the client that puts load on them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from machine import Missing
from stage import ROOT

TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")

# How long a package takes to build.
MINUTES = {"sluicegate": "3 minutes", "sluicegate-benches": "1 minute"}


def shipped() -> Path:
    """The program as it ships, where deploy/build puts it."""
    run([str(ROOT / "deploy/build")], "building the program as it ships; 12 minutes on two cores (--binary FILE uses an existing one)")
    return (TARGET / "shipped/sluicegate").resolve()


def released(tree: Path = ROOT) -> Path:
    """The program in cargo's `release` profile: without LTO, so that valgrind can tell functions apart, and the same on each machine."""
    return cargo("--bin", "sluicegate", tree)


def load_client(folder: Path | None = None) -> Path:
    """The client that puts load on a proxy."""
    return tool("load-client", folder)


def memory(folder: Path | None) -> Path:
    """The memory-bound kernel, and the neighbour."""
    return tool("memory", folder)


def minimal(folder: Path | None) -> Path:
    """The minimal proxy of hyper."""
    return tool("minimal-proxy", folder)


def tool(name: str, folder: Path | None) -> Path:
    """A program of benches/tools: from this folder, or built."""
    return (folder / name).resolve() if folder else cargo("--bin", name, ROOT, "sluicegate-benches")


def cargo(kind: str, name: str, tree: Path, package: str = "sluicegate") -> Path:
    """Builds a binary, and takes its path from cargo's messages, since `build.target` in a user's configuration changes it."""
    command = ["cargo", "build", "--locked", "--release", "--package", package, kind, name, "--message-format=json-render-diagnostics"]
    about = f"building {name}; {MINUTES[package]} on two cores the first time"
    said = run([*command, "--target-dir", str(TARGET)], about, tree)
    messages = [json.loads(line) for line in said.splitlines()]
    return next(Path(message["executable"]) for message in messages if message.get("executable"))


def run(command: list[str], about: str, folder: Path = ROOT) -> bytes:
    """Runs a command that builds something, and returns its standard output."""
    print(about, file=sys.stderr)
    try:
        # A process group of its own, so that everything it has started ends with it.
        building = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, process_group=0)
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

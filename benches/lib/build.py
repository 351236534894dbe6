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


def shipped() -> Path:
    """The program as it ships, where deploy/build puts it."""
    run([str(ROOT / "deploy/build")], "building the program as it ships; 13 minutes on two cores (--binary FILE uses an existing one)")
    return (TARGET / "shipped/sluicegate").resolve()


def released(tree: Path = ROOT) -> Path:
    """The program in cargo's `release` profile: without LTO, so that valgrind can tell functions apart, and the same on each machine."""
    return cargo("--bin", "sluicegate", tree)


def load_client(folder: Path | None = None) -> Path:
    """The client that puts load on a proxy."""
    return example("load-client", folder)


def memory(folder: Path | None) -> Path:
    """The memory-bound kernel, and the neighbour."""
    return example("memory", folder)


def minimal(folder: Path | None) -> Path:
    """The minimal proxy of hyper."""
    return example("minimal-proxy", folder)


def example(name: str, folder: Path | None) -> Path:
    """A program that goes with the scripts: from this folder, or built."""
    return (folder / name).resolve() if folder else cargo("--example", name, ROOT)


def cargo(kind: str, name: str, tree: Path) -> Path:
    """Builds a binary, and takes its path from cargo's messages, since `build.target` in a user's configuration changes it."""
    command = ["cargo", "build", "--locked", "--release", kind, name, "--message-format=json-render-diagnostics"]
    said = run([*command, "--target-dir", str(TARGET)], f"building {name}; 3 minutes on two cores the first time", tree)
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

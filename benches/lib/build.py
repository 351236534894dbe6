"""Builds what is measured, and what measures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from machine import Missing
from stage import ROOT

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def shipped() -> Path:
    """The program as it ships."""
    run([str(ROOT / "deploy/build")], "building the program as it ships; 12 minutes on two cores (--binary FILE takes one that is there)")
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
        # What it says is not what was measured.
        built = subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr)
    except FileNotFoundError as error:
        raise Missing(f"{command[0]} is not installed (cargo: https://rustup.rs)") from error
    if built.returncode:
        raise Missing("the build failed")

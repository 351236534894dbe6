"""Builds what is measured, and what measures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from machine import Missing
from stage import ROOT


def build(profile: str, load_client: bool = True) -> Path:
    """Builds the program, and the load client; where they are."""
    command = ["cargo", "build", "--locked", "--profile", profile, "--bin", "sluicegate"]
    command += ["--example", "load-client"] if load_client else []
    print("building; 5 minutes on two cores the first time", file=sys.stderr)
    try:
        built = subprocess.run(command, cwd=ROOT, check=False)
    except FileNotFoundError as error:
        raise Missing("cargo is not installed (https://rustup.rs)") from error
    if built.returncode:
        raise Missing("the build failed")
    return target(profile)


def target(profile: str) -> Path:
    """Where cargo puts what it builds."""
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / profile

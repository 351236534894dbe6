"""Builds two versions of the program so that they can be compared: with the same profile, flags and dependencies' build, and in the same
folder, because cargo makes the path of a package a part of its symbols' hashes, and the compiler orders code by these.

The folder is a git worktree under target/. No branch, index or file of the repository changes."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from build import TARGET, released
from machine import Missing
from stage import ROOT

FOLDER = TARGET / "versions"
TREE = FOLDER / "tree"


@dataclass(frozen=True)
class Version:
    """A built version."""

    name: str
    binary: Path


def both(commit: str) -> tuple[Version, Version]:
    """The commit, and what is in the working tree. Their binaries have paths of the same length, so that their stacks begin alike."""
    baseline = git("rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}")
    prepare()
    return built(baseline, baseline[:12], "old"), built(working_tree(), "working tree", "new")


def prepare() -> None:
    """Makes the worktree, if there is none from an earlier run."""
    if (TREE / ".git").exists() and git("rev-parse", "--show-toplevel", folder=TREE) == str(TREE.resolve()):
        return
    shutil.rmtree(TREE, ignore_errors=True)
    git("worktree", "prune")
    git("worktree", "add", "--quiet", "--force", "--detach", "--no-checkout", str(TREE), "HEAD")


def working_tree() -> str:
    """A tree object of all files in the working tree that git does not ignore, whether they are committed or not."""
    index = FOLDER / "index"
    index.unlink(missing_ok=True)
    git("read-tree", "HEAD", index=index)
    git("add", "--all", index=index)
    return git("write-tree", index=index)


def built(tree: str, name: str, short: str) -> Version:
    """Builds a tree. Only the files that differ from the last one are written, so that cargo sees by their time what to build."""
    git("read-tree", "--reset", "-u", tree, folder=TREE)
    binary = FOLDER / short / "sluicegate"
    binary.parent.mkdir(exist_ok=True)
    # By rename: the file may be that of a running program.
    shutil.copy2(released(TREE), binary.with_suffix(".new"))
    binary.with_suffix(".new").rename(binary)
    return Version(name, binary.resolve())


def git(*arguments: str, folder: Path = ROOT, index: Path | None = None) -> str:
    """What git says."""
    environment = dict(os.environ)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        environment.pop(name, None)
    if index:
        environment["GIT_INDEX_FILE"] = str(index)
    try:
        said = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Missing("git is not installed (Debian: apt-get install git)") from error
    if said.returncode:
        raise Missing(f"git {arguments[0]}: {said.stderr.strip()}")
    return said.stdout.strip()

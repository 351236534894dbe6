"""Divides what callgrind counted between the rooms of the program: the folders and files below `src`, and the libraries that are rooms of their own.

A line of code that the compiler has moved into another function still counts to its own file. What other libraries do counts to the rooms that
called them, in proportion to what they did for each."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from callgrind import DEFAULTS
from lines import KINDS, Cost, run, shown
from stage import Stage
from table import cells

# Counts by the names of callgrind's events. They are no longer whole where rooms share a library.
Events = dict[str, float]

# Libraries that are rooms of their own: hyper's and tokio's, and what is below them.
LIBRARIES = {"hyper": "hyper", "hyper-util": "hyper", "httparse": "hyper", "h2": "hyper", "tokio": "tokio", "mio": "tokio"}
NOBODY = "(nobody)"
# A room with fewer instructions than this in each kind of work has no row.
LEAST = 100
# How often shares are passed on from callers to what they call. Chains of library functions between two rooms are shorter.
STEPS = 40

LIBRARY = re.compile(r"/registry/src/[^/]+/(.+?)-\d")
OURS = re.compile(r"(?:^|/)src/(\w+)(?:/.+)?\.rs$")


@dataclass
class Profile:
    """A callgrind file: what each function did in lines of each file, and what it had done by others."""

    own: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    # Caller and callee → instructions, with all that the callee called.
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    # The file in which a function begins.
    home: dict[str, str] = field(default_factory=dict)


def room(file: str) -> str | None:
    """The room of a source file; none if it is a library that works for rooms."""
    if found := LIBRARY.search(file):
        return LIBRARIES.get(found[1])
    # The standard library, what it is made of, and what a build script has compiled.
    if any(part in file for part in ("/rustc/", "/library/", "/rust/deps/", "/build/")):
        return None
    found = OURS.search(file)
    return found[1] if found else None


def divide(text: str) -> dict[str, Events]:
    """What each room did, by the output of callgrind."""
    profile = read(text)
    shares = shares_of(profile)
    rooms: dict[str, Events] = defaultdict(lambda: defaultdict(float))
    for (function, file), events in profile.own.items():
        owner = room(file)
        for name, share in ({owner: 1.0} if owner else shares.get(function, {NOBODY: 1.0})).items():
            for event, count in events.items():
                rooms[name][event] += count * share
    return rooms


def shares_of(profile: Profile) -> dict[str, dict[str, float]]:
    """For which rooms each function works: its own, or those of its callers."""
    owned = {function: {name: 1.0} for function, file in profile.home.items() if (name := room(file))}
    callers: dict[str, dict[str, int]] = defaultdict(dict)
    for (caller, callee), count in profile.calls.items():
        if callee not in owned and caller != callee:
            callers[callee][caller] = count
    shares = dict(owned)
    for _ in range(STEPS):
        shares = {**owned, **{callee: mixed(shares, found) for callee, found in callers.items()}}
    return {function: share or {NOBODY: 1.0} for function, share in shares.items()}


def mixed(shares: dict[str, dict[str, float]], callers: dict[str, int]) -> dict[str, float]:
    """The shares of callers together, in proportion to their calls. A caller that nobody is known to have called says nothing."""
    known = {caller: count for caller, count in callers.items() if shares.get(caller)}
    total = sum(known.values())
    together: dict[str, float] = defaultdict(float)
    for caller, count in known.items():
        for name, share in shares[caller].items():
            together[name] += share * (count / total if total else 1 / len(known))
    return dict(together)


def read(text: str) -> Profile:
    """Reads the output of callgrind."""
    profile = Profile()
    names: dict[tuple[str, str], str] = {}
    events: list[str] = []
    function = file = callee = ""
    for line, is_call in lines(text):
        key, separator, value = line.partition("=")
        if line.startswith("events:"):
            events = line.split()[1:]
        elif key in ("fl", "fi", "fe"):
            file = named(names, "file", value)
            if key == "fl":
                # The function follows.
                function = ""
        elif key == "fn":
            function = named(names, "function", value)
            profile.home.setdefault(function, file)
        elif key == "cfn":
            callee = named(names, "function", value)
        elif key in ("cfi", "cfl"):
            named(names, "file", value)
        elif not separator and line[:1] in "+-*0123456789" and line:
            counts = [int(word) for word in line.split()[1:]]
            if is_call:
                profile.calls[function, callee] += counts[0] if counts else 0
            else:
                profile.own[function, file].update(dict(zip(events, counts)))
    return profile


def lines(text: str) -> Iterator[tuple[str, bool]]:
    """The lines, and for each whether it has the costs of a call: it follows the line of the call."""
    is_call = False
    for line in text.splitlines():
        if line.startswith("calls="):
            is_call = True
            continue
        yield line, is_call
        is_call = False


def named(names: dict[tuple[str, str], str], kind: str, value: str) -> str:
    """The name in `(7) name`, which later is written `(7)`."""
    number, _, name = value.partition(" ")
    if name:
        names[kind, number] = name
    return names.get((kind, number), value)


@dataclass(frozen=True)
class Division:
    """What each room does for one request or frame."""

    rooms: dict[str, Cost]

    @classmethod
    def between(cls, few: str, many: str, units: int) -> Division:
        """From the outputs of two processes, of which the second did so many units more."""
        before, after = divide(few), divide(many)
        return cls({name: Cost.between(before.get(name, {}), after.get(name, {}), units) for name in before.keys() | after.keys()})


def count(made: Stage, report: Callable[[str], None]) -> dict[str, Division]:
    """What each room does for each kind of work."""
    divisions = {}
    for kind in KINDS:
        few, many = (run(made, "sluicegate", DEFAULTS, replace(kind, turns=times * kind.turns)) for times in (1, 2))
        divisions[kind.name] = Division.between(few, many, kind.connections * kind.turns)
        report(f"counted: a {kind.name}")
    return divisions


def table(divisions: dict[str, Division]) -> str:
    """All rooms, as Markdown; those that do next to nothing in one row."""
    head = [f"{what} per {kind}" for kind in divisions for what in ("instructions", "lines of code", "lines of data")]
    rows: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(head))
    for column, division in enumerate(divisions.values()):
        for name, cost in division.rooms.items():
            for at, value in enumerate((cost.instructions, cost.code, cost.data)):
                rows[name][3 * column + at] += value
    small = [name for name in rows if all(rows[name][at] < LEAST for at in range(0, len(head), 3))]
    rest = [sum(values) for values in zip(*(rows.pop(name) for name in small))] or [0.0] * len(head)
    ordered = sorted(rows.items(), key=lambda row: -row[1][0])
    all_rows = [*ordered, ("the rest", rest), ("**all**", [sum(values) for values in zip(rest, *rows.values())])]
    text = [cells("room", *head), "|---" * (len(head) + 1) + "|"]
    return "\n".join(text + [cells(name, *map(shown, values)) for name, values in all_rows])

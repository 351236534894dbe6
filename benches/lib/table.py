"""The table that benches/load prints: figures, ratios to nginx, goals and whether they were met."""

from __future__ import annotations

from dataclasses import dataclass

from matrix import Results, median

OURS = "sluicegate"


@dataclass(frozen=True)
class Goal:
    """A limit that must be kept, and an aim beyond it."""

    must: float
    aim: float
    against: str = "nginx"  # the program to compare with; empty: the figure itself
    least: bool = False  # more is better

    def reached(self, value: float, bound: float) -> bool:
        """Whether a value is on the right side of a bound."""
        return value >= bound if self.least else value <= bound


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    label: str
    scenario: str
    figure: str
    goal: Goal | None = None


ROWS = [
    Row("CPU µs per frame, paced", "paced", "cpu_us", Goal(1.05, 1.0)),
    Row("CPU µs per frame, paced, TLS", "paced-tls", "cpu_us", Goal(0.95, 0.9)),
    Row("CPU µs per frame, flood", "flood", "cpu_us", Goal(1.1, 1.0)),
    Row("delay of a frame, flood, p50 µs", "flood", "delay_p50", Goal(2.0, 2.0, "direct")),
    Row("frames per read of the client, flood", "flood", "per_read", Goal(2.5, 2.5, "", least=True)),
    Row("added delay of a frame, paced, p50 µs", "paced", "added_delay_p50", Goal(1.15, 1.1)),
    Row("added delay of a frame, paced, TLS, p50 µs", "paced-tls", "added_delay_p50"),
    Row("time to first token, p50 µs", "first", "wait_p50", Goal(1.4, 1.0)),
    Row("CPU µs per request, 1 KiB", "1k", "cpu_us", Goal(1.25, 1.1)),
    Row("CPU µs per request, 1 KiB, TLS", "1k-tls", "cpu_us"),
    Row("CPU µs per request, 32 KiB", "32k", "cpu_us", Goal(1.05, 1.0)),
    Row("CPU µs per request, 256 KiB", "256k", "cpu_us", Goal(1.25, 1.1)),
    Row("added to a request, 1 KiB, p50 µs", "1k", "added_wait_p50"),
    Row("CPU µs per new connection and request", "connect", "cpu_us"),
    Row("CPU µs per new TLS connection and request", "connect-tls", "cpu_us"),
    Row("CPU µs per TLS handshake (the difference)", "connect-tls", "handshake_us", Goal(0.5, 0.45)),
    Row("requests per second, two workers", "two", "rate", Goal(0.9, 1.1, least=True)),
    Row("KiB per idle stream", "idle", "kib", Goal(32, 24, "")),
    Row("… % given back 30 s after closing", "idle", "given_back", Goal(75, 75, "", least=True)),
    Row("KiB per idle stream, TLS", "idle-tls", "kib", Goal(40, 30, "")),
    Row("… % given back 30 s after closing", "idle-tls", "given_back", Goal(75, 75, "", least=True)),
]


def table(results: Results, peers: list[str]) -> str:
    """All measured rows, as Markdown."""
    programs = ["direct", *peers, OURS]
    lines = [cells("", *programs, "× nginx", "in all rounds", "must / aim", "", "busy rounds"), "|---" * (len(programs) + 6) + "|"]
    for row in ROWS:
        if row.scenario in results.samples:
            figures = [shown(results.median(row.scenario, program, row.figure)) for program in programs]
            ratios = results.ratios(row.scenario, OURS, "nginx", row.figure)
            lines.append(cells(row.label, *figures, shown(median(ratios), 2), span(ratios), *judged(results, row), marked(results.busy(row.scenario))))
    return "\n".join(lines)


def summary(runs: dict[str, Results]) -> str:
    """The ratios to nginx in several runs with different background load: the median and the range of each, bold where the goal was missed."""
    lines = [cells("× nginx, with this background load:", *runs, "must"), "|---" * (len(runs) + 2) + "|"]
    for row in ROWS:
        found = [results.ratios(row.scenario, OURS, "nginx", row.figure) for results in runs.values()]
        if not any(found):
            continue
        goal = row.goal if row.goal and row.goal.against == "nginx" else None
        must = f"{'≥' if goal.least else '≤'} {goal.must:g}" if goal else ""
        lines.append(cells(row.label, *(ratio(ratios, goal) for ratios in found), must))
    return "\n".join(lines)


def ratio(ratios: list[float], goal: Goal | None) -> str:
    """The median and the range of a ratio."""
    value = median(ratios)
    if value is None:
        return "–"
    text = f"{shown(value, 2)} ({span(ratios)})"
    return f"**{text}**" if goal and not goal.reached(value, goal.must) else text


def judged(results: Results, row: Row) -> tuple[str, str]:
    """The goal, and whether the median of the rounds met it; if so, whether each round did."""
    goal = row.goal
    if not goal:
        return "", ""
    sign = "≥" if goal.least else "≤"
    against = f" × {goal.against}" if goal.against else ""
    text = f"{sign} {goal.must:g}{against}" if goal.must == goal.aim else f"{sign} {goal.must:g} / {goal.aim:g}{against}"
    values = (
        results.ratios(row.scenario, OURS, goal.against, row.figure)
        if goal.against
        else results.values(row.scenario, OURS, row.figure)
    )
    value = median(values)
    if value is None:
        return text, "not measured"
    verdict = "aim met" if goal.reached(value, goal.aim) else "met" if goal.reached(value, goal.must) else "**missed**"
    missed = [each for each in values if not goal.reached(each, goal.must)]
    if missed and goal.reached(value, goal.must):
        verdict += f", missed in {len(missed)} of {len(values)} rounds"
    return text, f"{verdict} ({value:.2f}, {span(values)})" if goal.against == "direct" else verdict


def span(values: list[float]) -> str:
    """The least and the largest value."""
    return f"{shown(min(values), 2)} to {shown(max(values), 2)}" if values else "–"


def marked(busy: list[bool]) -> str:
    """In how many rounds the host was too busy."""
    return f"{sum(busy)} of {len(busy)}" if busy else "–"


def shown(value: float | None, digits: int | None = None) -> str:
    if value is None:
        return "–"
    if digits is None:
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def cells(*texts: str) -> str:
    return "| " + " | ".join(texts) + " |"

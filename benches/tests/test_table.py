"""Ratios, their range over the rounds, and what the table says about goals and busy rounds."""

from __future__ import annotations

import unittest

import setting  # noqa: F401  (first: it makes the others importable)
import table
from host import Figures
from matrix import Results


def results(ours: list[float | None], nginx: list[float | None], **more: float) -> Results:
    """Rounds of `1k` in which the CPU time of a request was this; None where the answer was wrong."""

    def runs(values: list[float | None]) -> list[Figures | None]:
        return [{"cpu_us": value, **more} if value else None for value in values]

    return Results({"1k": {"direct": runs([1.0] * len(ours)), "nginx": runs(nginx), "sluicegate": runs(ours)}}, [])


def row(found: Results) -> list[str]:
    """The cells of the row about the CPU time of a request."""
    lines = table.table(found, ["nginx"]).splitlines()
    line = next(line for line in lines if line.startswith("| CPU µs per request, 1 KiB |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


class Ranges(unittest.TestCase):
    def test_a_ratio_is_made_within_its_round(self) -> None:
        found = results([10, 30, 20], [10, 20, 10])
        self.assertEqual(found.ratios("1k", "sluicegate", "nginx", "cpu_us"), [1.0, 1.5, 2.0])
        self.assertEqual(row(found)[4:6], ["1.50", "1.00 to 2.00"])

    def test_a_round_with_a_wrong_answer_has_no_ratio(self) -> None:
        found = results([10, None, 20], [10, 20, None])
        self.assertEqual(found.ratios("1k", "sluicegate", "nginx", "cpu_us"), [1.0])

    def test_no_round_has_no_range(self) -> None:
        self.assertEqual(table.span([]), "–")

    def test_all_rows_have_as_many_cells_as_the_head(self) -> None:
        lines = table.table(results([10], [10]), ["nginx"]).splitlines()
        self.assertEqual(len({line.count("|") for line in lines}), 1)


class Goals(unittest.TestCase):
    def test_a_goal_that_not_each_round_met_says_so(self) -> None:
        self.assertEqual(row(results([10, 10, 20], [10, 10, 10]))[7], "aim met, missed in 1 of 3 rounds")

    def test_a_goal_that_each_round_met_is_met(self) -> None:
        self.assertEqual(row(results([12, 12, 12], [10, 10, 10]))[7], "met")

    def test_a_median_beyond_the_goal_is_missed(self) -> None:
        self.assertEqual(row(results([20, 20, 10], [10, 10, 10]))[7], "**missed**")


class Busy(unittest.TestCase):
    def test_a_round_is_busy_if_one_of_its_runs_was(self) -> None:
        found = results([10, 10], [10, 10], stolen=0.0, others=0.0)
        nginx = found.samples["1k"]["nginx"][1]
        assert nginx
        nginx["others"] = 0.3
        self.assertEqual(found.busy("1k"), [False, True])
        self.assertEqual(row(found)[8], "1 of 2")

    def test_rounds_in_which_nobody_looked_are_not_called_quiet(self) -> None:
        self.assertEqual(row(results([10], [10]))[8], "–")


class Summary(unittest.TestCase):
    def test_each_background_load_has_its_median_and_range(self) -> None:
        quiet, busy = results([11, 10, 12], [10, 10, 10]), results([13, 20, 12], [10, 10, 10])
        lines = table.summary({"none": quiet, "neighbour": busy}).splitlines()
        self.assertEqual(lines[0], "| × nginx, with this background load: | none | neighbour | must |")
        self.assertEqual(lines[2], "| CPU µs per request, 1 KiB | 1.10 (1.00 to 1.20) | **1.30 (1.20 to 2.00)** | ≤ 1.25 |")
        self.assertEqual(len(lines), 3)

"""What is read from /proc, and which runs are marked as busy."""

from __future__ import annotations

import os
import unittest
from pathlib import Path

import setting  # noqa: F401  (first: it makes the others importable)
import host
import machine
from host import Figures, Moment

STAT = """cpu  300 30 60 1200 15 6 9 12 0 0
cpu0 100 10 20 400 5 2 3 4 0 0
cpu1 200 20 40 800 10 4 6 8 0 0
cpu10 1 1 1 1 1 1 1 1 0 0
intr 12345 0 9
"""
QUIET: Figures = {"stolen": 0.01, "others": 0.02, "memory": 1.1}


class Reading(unittest.TestCase):
    def test_only_the_wanted_cpus_count(self) -> None:
        self.assertEqual(host.times(STAT, [1], apart=False), (8, 270, 1088))
        self.assertEqual(host.times(STAT, [0, 1], apart=False), (12, 405, 1632))

    def test_interrupts_of_a_kernel_that_accounts_for_them_apart_are_not_used_by_processes(self) -> None:
        self.assertEqual(host.times(STAT, [1], apart=True), (8, 260, 1088))

    def test_the_name_of_a_process_may_contain_anything(self) -> None:
        self.assertEqual(host.process_ticks("7 (a) R 1 (b) S 1 7 7 0 -1 4194560 9 9 9 9 100 20 3 4 20 0 1 0"), 127)

    def test_a_process_that_has_ended_has_no_time(self) -> None:
        self.assertEqual(host.process_ticks(""), 0)

    def test_the_time_of_others_is_what_was_used_and_is_not_ours(self) -> None:
        before, after = Moment(0, 100, 1000, 50), Moment(20, 300, 1400, 150)
        self.assertEqual(after.since(before), {"stolen": 0.05, "others": 0.25})

    def test_more_time_of_ours_than_was_used_is_none_of_others(self) -> None:
        self.assertEqual(Moment(0, 101, 400, 53).since(Moment(0, 100, 0, 50))["others"], 0)

    def test_this_machine_can_be_read(self) -> None:
        before = Moment.now()
        shares = Moment.now().since(before)
        self.assertEqual(set(shares), {"stolen", "others"})


class Judging(unittest.TestCase):
    def test_each_limit_alone_makes_a_run_busy(self) -> None:
        self.assertFalse(host.busy(QUIET))
        for name, value in (("stolen", 0.05), ("others", 0.06), ("memory", 1.3)):
            self.assertTrue(host.busy({**QUIET, name: value}), name)

    def test_the_slower_kernel_counts_against_its_own_least_time(self) -> None:
        runs: list[Figures] = [{"shared_ns": 10, "memory_ns": 100}, {"shared_ns": 11, "memory_ns": 150}, {"cpu_us": 1}]
        host.judge(runs)
        self.assertEqual([run.get("memory") for run in runs], [1.0, 1.5, None])

    def test_the_longer_time_of_each_kernel_is_kept(self) -> None:
        self.assertEqual(host.worse({"shared_ns": 1, "memory_ns": 9}, {"shared_ns": 2, "memory_ns": 8}), {"shared_ns": 2, "memory_ns": 9})

    def test_the_head_of_the_table_counts_busy_runs(self) -> None:
        runs: list[Figures] = [{**QUIET, "shared_ns": 10, "memory_ns": 100}, {**QUIET, "others": 0.5, "shared_ns": 12, "memory_ns": 110}]
        found = dict(host.facts(runs, {"shared_ns": 9, "memory_ns": 90}))
        self.assertEqual(found["used by other processes"], "26.0% of the cores' time, at most 50.0% in a run")
        self.assertEqual(found["memory kernel, 8 MiB"], "10.0 to 12.0 ns a step; 9.0 before the first round")
        self.assertTrue(found["busy runs"].startswith("1 of 2 "))

    def test_nothing_is_said_where_nobody_looked(self) -> None:
        self.assertEqual(host.facts([{"cpu_us": 1}], {}), [])


class Processes(unittest.TestCase):
    def test_a_process_ends_with_its_block(self) -> None:
        with host.running(["cat"], machine.other_cpus(), os.SCHED_IDLE) as process:
            self.assertTrue(Path(f"/proc/{process.pid}").exists())
        self.assertIsNotNone(process.returncode)

    def test_without_background_load_no_neighbour_is_started(self) -> None:
        with host.neighbours(Path("/does/not/exist"), host.BACKGROUNDS["none"]) as around:
            self.assertEqual(around.about(), "none")

    def test_a_neighbour_leaves_the_core_of_the_proxies_alone(self) -> None:
        self.assertEqual(host.BACKGROUNDS["everywhere"], machine.proxy_cpus() | host.BACKGROUNDS["neighbour"])

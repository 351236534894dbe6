"""What is read from callgrind's output, and what a request or a frame costs by it."""

from __future__ import annotations

import io
import unittest

import setting  # noqa: F401  (first: it makes the others importable)
import callgrind
import lines
import turns
from lines import Cost
from machine import Missing

OUTPUT = """# callgrind format
version: 1
creator: callgrind-3.19.0
events: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw

fl=(1) src/proxy.rs
fn=(1) proxy::handle
16 1000 200 100 9
totals: 5000 900 400 70 30 10 6 4
"""


class Output(unittest.TestCase):
    def test_totals_have_the_names_of_their_events(self) -> None:
        found = callgrind.events(OUTPUT)
        self.assertEqual((found["Ir"], found["I1mr"], found["DLmr"]), (5000, 70, 4))

    def test_zeros_at_the_end_are_left_out_by_callgrind(self) -> None:
        self.assertEqual(callgrind.events(OUTPUT)["DLmw"], 0)

    def test_without_caches_there_are_instructions_only(self) -> None:
        self.assertEqual(callgrind.events("events: Ir\nsummary: 77\n"), {"Ir": 77})
        self.assertEqual(callgrind.total("events: Ir\nsummary: 77\n"), 77)


class Costs(unittest.TestCase):
    def test_what_both_processes_did_cancels_out(self) -> None:
        few = {"Ir": 1_000_000, "I1mr": 500, "D1mr": 400, "D1mw": 300, "DLmr": 200, "DLmw": 100}
        many = {"Ir": 1_500_000, "I1mr": 1500, "D1mr": 900, "D1mw": 500, "DLmr": 240, "DLmw": 120}
        self.assertEqual(Cost.between(few, many, 10), Cost(50_000, 100, 70, 6))

    def test_fewer_misses_than_the_noise_are_shown_as_none(self) -> None:
        costs = {kind.name: {"nginx": Cost(2000.4, -6, 44, -0.2)} for kind in lines.KINDS}
        rows = lines.table(costs).splitlines()
        self.assertEqual(rows[0], "|  | nginx |")
        self.assertEqual([row.split("|")[2].strip() for row in rows[2:6]], ["2,000", "0", "44", "0"])


class Chunks(unittest.TestCase):
    def test_a_frame_may_come_in_several_chunks(self) -> None:
        self.assertEqual(turns.read_chunks(io.BytesIO(b"3\r\ndat\r\n0003;x=y\r\na:1\r\nmore"), 6), b"data:1")

    def test_a_stream_that_ends_is_an_error(self) -> None:
        with self.assertRaises(Missing):
            turns.read_chunks(io.BytesIO(b"3\r\ndat\r\n"), 5)

    def test_a_connection_that_was_closed_is_an_error(self) -> None:
        with self.assertRaises(Missing):
            turns.read_head(io.BytesIO(b""))

"""How the counts of callgrind are divided between the rooms of the program."""

from __future__ import annotations

import unittest
from collections import Counter

import setting  # noqa: F401  (first: it makes the others importable)
import rooms
from lines import Cost
from rooms import Division

# `proxy` calls memcpy three times as much as `policy` does; `sse` is a line of another file in a function of `proxy`.
OUTPUT = """events: Ir I1mr D1mr
fl=(1) /home/someone/src/proxy/mod.rs
fn=(1) sluicegate::proxy::handle
10 100 10 5
fi=(2) /home/someone/src/sse/scanner.rs
+3 40 4
fe=(1)
12 10
cfi=(3) ./string/memmove.S
cfn=(2) memcpy
calls=3 1
* 300 3
fl=(4) /home/someone/src/policy.rs
fn=(3) sluicegate::policy::check
5 50
cfi=(3)
cfn=(2)
calls=1 1
5 100 1
fl=(3)
fn=(2)
1 400 8 40
fl=(5) /home/someone/.cargo/registry/src/index.crates.io-1/hyper-1.12.0/src/proto/h1/io.rs
fn=(4) hyper::proto::h1::io::Buffered::poll_flush
7 70 7 7
fl=(6) /rustc/5980/library/core/src/str/mod.rs
fn=(5) core::str::from_utf8
1 5
totals: 675 29 52
"""


class Files(unittest.TestCase):
    def test_a_file_below_src_belongs_to_its_room(self) -> None:
        self.assertEqual(rooms.room("/home/someone/src/proxy/delivery/relay.rs"), "proxy")
        self.assertEqual(rooms.room("src/pause.rs"), "pause")

    def test_hyper_and_tokio_are_rooms_of_their_own(self) -> None:
        home = "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/"
        self.assertEqual(rooms.room(f"{home}hyper-util-0.1.20/src/rt/tokio.rs"), "hyper")
        self.assertEqual(rooms.room(f"{home}tokio-1.54.0/src/runtime/io/driver.rs"), "tokio")

    def test_other_libraries_work_for_rooms(self) -> None:
        for file in (
            "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/bytes-1.12.0/src/bytes.rs",
            "/rustc/5980/library/core/src/str/mod.rs",
            "/rust/deps/hashbrown-0.16.1/src/raw.rs",
            "/build/target/release/build/tikv-jemalloc-sys-2e44/out/build/src/jemalloc.c",
            "./malloc/./malloc/malloc.c",
            "???",
        ):
            self.assertIsNone(rooms.room(file), file)


class Dividing(unittest.TestCase):
    def test_nothing_is_lost_and_nothing_counts_twice(self) -> None:
        found = rooms.divide(OUTPUT)
        self.assertEqual([sum(room.get(event, 0) for room in found.values()) for event in ("Ir", "I1mr", "D1mr")], [675, 29, 52])

    def test_a_line_counts_to_its_own_file_wherever_it_was_moved(self) -> None:
        self.assertEqual(rooms.divide(OUTPUT)["sse"]["Ir"], 40)

    def test_a_library_counts_to_its_callers_in_proportion(self) -> None:
        found = rooms.divide(OUTPUT)
        self.assertEqual(dict(found["proxy"]), {"Ir": 110 + 300, "I1mr": 10 + 6, "D1mr": 5 + 30})
        self.assertEqual(dict(found["policy"]), {"Ir": 50 + 100, "I1mr": 2, "D1mr": 10})

    def test_a_library_that_nobody_called_is_not_forgotten(self) -> None:
        self.assertEqual(rooms.divide(OUTPUT)[rooms.NOBODY]["Ir"], 5)

    def test_functions_of_libraries_that_call_each_other_count_to_who_called_the_first(self) -> None:
        calls = {("sluicegate", "a"): 10, ("a", "b"): 9, ("b", "a"): 8}
        profile = rooms.Profile(calls=Counter(calls), home={"sluicegate": "src/proxy.rs", "a": "a.c", "b": "b.c"})
        self.assertEqual(rooms.shares_of(profile), {name: {"proxy": 1.0} for name in ("sluicegate", "a", "b")})


class Table(unittest.TestCase):
    def test_small_rooms_are_in_one_row_and_all_is_the_sum(self) -> None:
        found = {"proxy": Cost(1000, 10, 5, 0), "sse": Cost(60, 1, 0, 0), "key": Cost(40, 0, 1, 0)}
        lines = rooms.table({"request": Division(found)}).splitlines()
        self.assertEqual(lines[2:], ["| proxy | 1,000 | 10 | 5 |", "| the rest | 100 | 1 | 1 |", "| **all** | 1,100 | 11 | 6 |"])

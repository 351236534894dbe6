"""What the load client and oha report, and what is made of it."""

from __future__ import annotations

import subprocess
import unittest
from typing import Any
from unittest import mock

import setting  # noqa: F401  (first: it makes the others importable)
import drive
from drive import Client, Wrong

ANSWER = b'{"choices":[{"message":{"content":"a"}}]}'


def oha(**changed: Any) -> dict[str, Any]:
    """What oha reports of a good run."""
    size = {"sizePerRequest": len(ANSWER), "requestsPerSec": 10.0}
    good = {"summary": size, "latencyPercentiles": {"p50": 0.001, "p99": 0.002}, "errorDistribution": {}}
    return {**good, "statusCodeDistribution": {"200": 50}, **changed}


class Clients(unittest.TestCase):
    def client(self, command: str) -> Client:
        process = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return Client(process)

    def test_a_client_that_says_nothing_is_not_waited_for_without_end(self) -> None:
        with mock.patch.object(drive, "LONGEST", 0.01), self.assertRaisesRegex(Wrong, "said nothing"):
            self.client("exec sleep 60").hear()

    def test_a_client_that_ends_is_an_error(self) -> None:
        with self.assertRaisesRegex(Wrong, "exited with 3"):
            self.client("exit 3").hear()

    def test_wrong_answers_have_no_figures(self) -> None:
        with self.assertRaisesRegex(Wrong, "2 wrong answers, the first: status 500"):
            self.client("""echo '{"errors": 2, "first_error": "status 500"}'""").hear()


class Oha(unittest.TestCase):
    def test_cpu_time_is_that_of_one_request_in_microseconds(self) -> None:
        found = drive.oha_figures(oha(), 1_000_000, ANSWER)
        self.assertEqual(found, {"cpu_us": 20, "rate": 10, "wait_p50": 1000, "wait_p99": 2000})

    def test_another_status_an_error_or_another_size_is_wrong(self) -> None:
        short = {"sizePerRequest": 10, "requestsPerSec": 10.0}
        for changed in ({"statusCodeDistribution": {"200": 50, "503": 1}}, {"errorDistribution": {"timeout": 1}}, {"summary": short}):
            with self.subTest(changed), self.assertRaises(Wrong):
                drive.oha_figures(oha(**changed), 1, ANSWER)

"""How the proxies are configured for a run."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from unittest import mock

import setting  # noqa: F401  (first: it makes the others importable)
import peers
from peers import Setup
from stage import Program, Stage

SIMULATOR, OTHER = 40001, 40002


class Upstreams(unittest.TestCase):
    def configured(self, kind: str, setup: Setup) -> str:
        """The command and the configuration of a proxy."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        stage = Stage(Path("/bin/true"), folder, Program("simulator", SIMULATOR, 0), Program("simulator-tls", 0, 1))
        with mock.patch.object(peers, "needed", lambda program: program):
            command = peers.COMMANDS[kind](stage, Program(kind, 40010, 40011), setup, folder)
        written = [path.read_text() for path in folder.iterdir() if path.suffix in (".toml", ".conf", ".cfg")]
        return "\n".join([*command, *written])

    def test_every_proxy_asks_the_simulator_unless_the_setup_has_another_upstream(self) -> None:
        for kind in peers.COMMANDS:
            with self.subTest(kind):
                usual = self.configured(kind, Setup(minimal=Path("/bin/true")))
                other = self.configured(kind, Setup(minimal=Path("/bin/true"), upstream=OTHER))
                self.assertIn(f":{SIMULATOR}", usual)
                self.assertIn(f":{OTHER}", other)
                self.assertNotIn(f":{SIMULATOR}", other)

    def test_under_valgrind_nginx_is_one_process_which_is_counted(self) -> None:
        self.assertNotIn("master_process off", self.configured("nginx", Setup()))
        self.assertIn("master_process off;", self.configured("nginx", Setup(under=("valgrind",))))

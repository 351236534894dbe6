"""The load of the soak: many well-behaved clients, faults, clients that disconnect, reloads; all at once, until it is stopped."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import drive
import faults
from drive import Scenario, Tools, Wrong
from readiness import Readiness
from stage import Program, Stage, free_ports, key_hash

# Well-behaved clients, whose answers must be right.
CALLERS = [
    Scenario("streams", "", "streams", "sim-f200-i20", 200, 80),
    Scenario("streams, TLS", "", "streams", "sim-f100-i20", 100, 40, tls=True),
    Scenario("streams, fail-over", "", "streams", "sim-f50-i10", 50, 10, route="/again"),
    Scenario("streams, TLS on both sides", "", "streams", "sim-f50-i10", 50, 10, tls=True, route="/secure"),
    Scenario("streams, whole", "", "streams", "sim-f20-i5", 20, 10, route="/whole"),
    Scenario("JSON", "", "requests", "sim-f40-d5", 40, 6, padding=1000),
    Scenario("JSON, TLS", "", "requests", "sim-f40-d5", 40, 4, tls=True, padding=1000),
    Scenario("JSON of 256 KiB", "", "requests", "sim-f40-d20", 40, 2, padding=256 * 1024),
    Scenario("JSON, fail-over", "", "requests", "sim-f40-d5", 40, 2, route="/again"),
    Scenario("connections", "", "handshakes", "sim-f40-d20", 40, 3),
    Scenario("handshakes", "", "handshakes", "sim-f40-d20", 40, 3, tls=True),
]

POOL_IDLE = 5


@dataclass
class Mixed:
    """A gateway under this load."""

    stage: Stage
    tools: Tools
    gateway: Program
    config: Path
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    threads: list[threading.Thread] = field(default_factory=list)
    clients: list[tuple[Scenario, drive.Client]] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    reloads: int = 0

    def begin(self, closing: contextlib.ExitStack) -> None:
        """Starts all clients."""
        quiet = faults.Fault("", "", "/v1", True, faults.sound)
        self.events = faults.ask(self.stage, self.gateway, False, quiet).events()[0]
        for scenario in CALLERS:
            client = drive.client(self.tools, self.stage, self.gateway, scenario, pinned=False)
            self.clients.append((scenario, closing.enter_context(client)))
        for work in (self.fail, self.fail, self.leave, self.leave, self.reload):
            thread = threading.Thread(target=self.again, args=(work,), daemon=True)
            thread.start()
            self.threads.append(thread)

    def again(self, work: Callable[[], None]) -> None:
        while not self.stopped.is_set():
            try:
                work()
            except Exception as error:  # whatever it is, the run must report it
                self.wrong.append(f"{work.__name__}: {error!r}")

    def fail(self) -> None:
        """A round of faults, each of which must end as promised."""
        for fault in faults.faults():
            tls = random.random() < 0.5
            answer = faults.ask(self.stage, self.gateway, tls, fault)
            self.counts["faults"] += 1
            if not fault.promised(answer, self.events):
                self.wrong.append(f"{fault.name}{', TLS' if tls else ''}: {answer.status}, whole: {answer.whole}, …{answer.body[-300:]!r}")
            if self.stopped.wait(0.02):
                return

    def leave(self) -> None:
        faults.leave(self.stage, self.gateway, random.random() < 0.5)
        self.counts["disconnects"] += 1
        self.stopped.wait(0.02)

    def reload(self) -> None:
        """Changes a value that does not matter, in place or by rename, and sends SIGHUP for every third reload."""
        if self.stopped.wait(3):
            return
        self.reloads += 1
        text = configuration(self.stage, self.gateway, 16 + self.reloads % 16)
        if self.reloads % 2:
            self.config.write_text(text)
        else:
            beside = self.config.with_suffix(".new")
            beside.write_text(text)
            beside.rename(self.config)
        if self.reloads % 3 == 0 and self.gateway.process:
            self.gateway.process.send_signal(signal.SIGHUP)
        self.counts["reloads"] += 1

    def look(self) -> None:
        """Collects the reports of all clients, and looks for trouble in the log."""
        for scenario, client in self.clients.copy():
            try:
                seen = client.tell()
            except Wrong as wrong:
                self.wrong.append(f"{scenario.name}: {wrong}")
                self.clients.remove((scenario, client))
                continue
            self.counts[scenario.mode] += seen["answers"]
            self.counts["frames"] += seen["frames"]
        log = self.gateway.log.read_text(errors="replace") if self.gateway.log else ""
        for trouble in ("panicked", "internal_error"):
            if trouble in log:
                line = next(line for line in log.splitlines() if trouble in line)
                self.wrong.append(f"in the log: {line[:500]}")
        self.stage.empty_logs()

    def end(self, closing: contextlib.ExitStack) -> None:
        """Stops all clients."""
        self.stopped.set()
        for thread in self.threads:
            thread.join(15)
        self.look()
        closing.close()

    def status(self) -> dict[str, Any]:
        """The gateway's /status."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.gateway.admin}/status", timeout=10) as answer:
            status: dict[str, Any] = json.load(answer)
            return status

    def metric(self, name: str) -> float:
        """The sum of all series of a metric."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.gateway.admin}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))


def under_load(stage: Stage, tools: Tools) -> Mixed:
    """A gateway that is ready for the load."""
    plain, tls, admin = free_ports(3)
    gateway = Program("sluicegate", plain, tls, admin=admin)
    folder = stage.folder / "gateway"
    folder.mkdir()
    config = folder / "gateway.toml"
    config.write_text(configuration(stage, gateway, 16))
    readiness = Readiness(folder)
    stage.spawn(gateway, [*readiness.under, str(stage.binary), "serve", "--config", str(config)], None)
    readiness.wait()
    return Mixed(stage, tools, gateway, config)


def configuration(stage: Stage, gateway: Program, limit: int) -> str:
    """The configuration: several routes to the simulators. Reloads change `limit`."""
    plain = f'url = "http://127.0.0.1:{stage.direct.plain}"\nkey = {{ env = "LOAD_UPSTREAM_KEY" }}\npool = {{ idle = "{POOL_IDLE}s" }}'
    secure = plain.replace(f"http://127.0.0.1:{stage.direct.plain}", f"https://localhost:{stage.secure.tls}")
    dead = 'url = "http://127.0.0.1:1"\nkey = { env = "LOAD_UPSTREAM_KEY" }'
    certs = stage.folder / "certs"
    once = 'retry = "off"\nbreaker = "off"\ntimeout = { idle = "1s" }'
    return f"""
[[listener]]
address = "127.0.0.1:{gateway.plain}"
[[listener]]
address = "127.0.0.1:{gateway.tls}"
tls = {{ certificate = "{certs}/server.pem", key = "{certs}/server.key" }}
[admin]
address = "127.0.0.1:{gateway.admin}"
[server]
threads = 2
[defaults]
body_limit = "{limit}MiB"
[upstream.simulator]
{plain}
[upstream.faulty]
{plain}
[upstream.secure]
{secure}
tls = {{ ca = "{stage.ca}" }}
[upstream.dead]
{dead}
[route.v1]
path = "/v1"
upstreams = ["simulator"]
[route.secure]
path = "/secure"
rewrite = "/v1"
upstreams = ["secure"]
[route.again]
path = "/again"
rewrite = "/v1"
upstreams = ["dead", "simulator"]
[route.faulty]
path = "/faulty"
rewrite = "/v1"
upstreams = ["faulty"]
{once}
[route.whole]
path = "/whole"
rewrite = "/v1"
upstreams = ["faulty"]
delivery = "whole"
{once}
[route.drain]
path = "/drain"
rewrite = "/v1"
upstreams = ["simulator"]
on_disconnect = "drain"
[client.load]
key = "{key_hash()}"
"""

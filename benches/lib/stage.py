"""The programs of a run: simulators, gateway and peers, in a temporary folder."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import machine
from machine import Missing

ROOT = Path(__file__).resolve().parents[2]
CALLER_KEY = "sk-load-caller"
UPSTREAM_KEY = "sk-load-upstream"
ROUTE = "/v1"
ENDPOINT = "/chat/completions"


@dataclass
class Program:
    """A running program and its addresses."""

    name: str
    plain: int
    tls: int
    key: str = CALLER_KEY
    process: subprocess.Popen[bytes] | None = None
    admin: int = 0
    log: Path | None = None
    # Takes long to start and to stop, and must not be killed early.
    patient: bool = False

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def url(self, tls: bool, route: str = ROUTE) -> str:
        """The URL of chat completions."""
        return f"https://localhost:{self.tls}{route}{ENDPOINT}" if tls else f"http://127.0.0.1:{self.plain}{route}{ENDPOINT}"


@dataclass
class Stage:
    """A folder with certificates, and the programs that have been started in it."""

    binary: Path
    folder: Path
    direct: Program
    secure: Program
    started: list[Program] = field(default_factory=list)

    @property
    def ca(self) -> Path:
        return self.folder / "certs/ca.pem"

    def spawn(self, program: Program, command: list[str], cpus: set[int] | None) -> None:
        """Starts a program and waits until it listens."""
        program.log = self.folder / f"{program.name}.log"
        # Appending, so that a log can be emptied between runs.
        with program.log.open("ab") as log:
            program.process = start(command, log, cpus, self.folder)
        self.started.append(program)
        for port in (program.plain, program.tls, program.admin):
            if port:
                self.wait(program, port)

    def wait(self, program: Program, port: int) -> None:
        deadline = time.monotonic() + (300 if program.patient else 30)
        while time.monotonic() < deadline and program.process and program.process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            time.sleep(0.02)
        said = program.log.read_text()[-2000:] if program.log else ""
        raise Missing(f"{program.name} does not listen on port {port}; its output:\n{said}")

    def stop(self, program: Program) -> None:
        """Stops a program: SIGTERM, and after a while SIGKILL."""
        self.started.remove(program)
        assert program.process
        program.process.send_signal(signal.SIGTERM)
        try:
            program.process.wait(60 if program.patient else 3)
        except subprocess.TimeoutExpired:
            program.process.kill()
            program.process.wait()

    def give_way(self) -> None:
        """From now on simulators yield to the client where they share a core, so that a frame waits for the proxy, and not for the rest
        of the simulator's time slice. (The scheduler groups processes by session, so all of them are in one.)"""
        for program in (self.direct, self.secure):
            for task in os.listdir(f"/proc/{program.pid}/task"):
                os.sched_setscheduler(int(task), os.SCHED_IDLE, os.sched_param(0))

    def empty_logs(self) -> None:
        """Empties the logs, which are in memory."""
        for log in self.folder.rglob("*.log"):
            os.truncate(log, 0)


@contextlib.contextmanager
def stage(binary: Path) -> Iterator[Stage]:
    """Makes certificates and starts simulators; stops everything that was started at the end."""
    # In memory if possible, so that logging never waits for a disk.
    home = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="sluicegate-load-", dir=home))
    ports = free_ports(2)
    direct = Program("simulator", ports[0], 0, UPSTREAM_KEY)
    secure = Program("simulator-tls", 0, ports[1], UPSTREAM_KEY)
    made = Stage(binary, folder, direct, secure)
    try:
        subprocess.run([binary, "cert", "--out", folder / "certs"], check=True, capture_output=True)
        identity = [(folder / f"certs/server.{end}").read_text() for end in ("pem", "key")]
        (folder / "certs/both.pem").write_text("".join(identity))
        simulate = [str(binary), "simulate", "--require-key", UPSTREAM_KEY, "--records", "1", "--listen"]
        made.spawn(direct, [*simulate, f"127.0.0.1:{direct.plain}"], machine.other_cpus())
        certified = ["--certificate", f"{folder}/certs/server.pem", "--key", f"{folder}/certs/server.key"]
        made.spawn(secure, [*simulate, f"127.0.0.1:{secure.tls}", *certified], machine.other_cpus())
        direct.tls = secure.tls
        yield made
    finally:
        for program in reversed(made.started.copy()):
            made.stop(program)
        shutil.rmtree(folder, ignore_errors=True)


def start(command: list[str], output: IO[bytes], cpus: set[int] | None, folder: Path) -> subprocess.Popen[bytes]:
    """Starts a command on these CPUs, in a process group of its own, so that Ctrl-C does not stop it too early."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, "LOAD_UPSTREAM_KEY": UPSTREAM_KEY, "LOAD_CALLER_KEY": CALLER_KEY},
        process_group=0,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus or machine.CPUS),
    )


def free_ports(count: int) -> list[int]:
    """Free ports. (nginx and HAProxy cannot report a port that the system chose.)"""
    with contextlib.ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in bound:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in bound]


def connect(made: Stage, program: Program, tls: bool) -> http.client.HTTPConnection:
    """A connection for single requests."""
    if not tls:
        return http.client.HTTPConnection("127.0.0.1", program.plain, timeout=10)
    trust = ssl.create_default_context(cafile=str(made.ca))
    return http.client.HTTPSConnection("localhost", program.tls, timeout=10, context=trust)


def ask(made: Stage, program: Program, tls: bool, model: str, key: str | None = None) -> tuple[int, bytes]:
    """Sends one request."""
    with contextlib.closing(connect(made, program, tls)) as connection:
        headers = {"authorization": f"Bearer {key or program.key}", "content-type": "application/json"}
        body = {"model": model, "messages": [{"role": "user", "content": "Go on."}]}
        connection.request("POST", ROUTE + ENDPOINT, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def content(body: bytes) -> str:
    return str(json.loads(body)["choices"][0]["message"]["content"])


def key_hash() -> str:
    """The hash of the client's key, as in gateway.toml."""
    return "sha256:" + hashlib.sha256(CALLER_KEY.encode()).hexdigest()

"""What the scripts of this directory share: the gateway as a process, an upstream that runs apart from it, and clients."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY = "sk-sg-a-key-of-a-script-0123456789abcdef"
CHAT = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]})


def binary() -> str:
    """The program to test."""
    root = Path(__file__).resolve().parents[2]
    path = os.environ.get("SLUICEGATE_BINARY") or str(root / "target/release/sluicegate")
    if not os.access(path, os.X_OK):
        sys.exit(f"{path} is not there: build it, or set SLUICEGATE_BINARY")
    return path


class Upstream:
    """Streams one event per `interval`, `events` of them, after `delay` seconds. Counts requests, and notes which TLS sessions were resumed."""

    def __init__(
        self,
        interval: float,
        events: int,
        delay: float = 0.0,
        at: tuple[str, int] = ("127.0.0.1", 0),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        upstream = self
        self.requests = 0
        self.resumed: list[bool] = []
        self.lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                with upstream.lock:
                    upstream.requests += 1
                    if tls:
                        upstream.resumed.append(self.connection.session_reused)
                time.sleep(delay)
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for number in range(events):
                    self.piece(f'data: {{"choices":[{{"index":0,"delta":{{"content":"{number}"}}}}]}}\n\n')
                    time.sleep(interval)
                self.piece("data: [DONE]\n\n")
                self.wfile.write(b"0\r\n\r\n")

            def piece(self, text: str) -> None:
                data = text.encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 1024

        self.server = Server(at, Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Gateway:
    """The program with this configuration and one client. The listener is 127.0.0.1:8480, the operator's 8481."""

    ADDRESS, ADMIN = ("127.0.0.1", 8480), ("127.0.0.1", 8481)

    def __init__(self, toml: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        digest = "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()
        head = '[[listener]]\naddress = "127.0.0.1:8480"\n[admin]\naddress = "127.0.0.1:8481"\n'
        client = f'[client.tester]\nkey = "{digest}"\n'
        path = Path(self.folder.name, "gateway.toml")
        path.write_text(head + toml + client)
        self.log = open(Path(self.folder.name, "log"), "ab")
        environment = os.environ | {"UPSTREAM_KEY": "sk-upstream-0123456789"}
        self.process = subprocess.Popen([binary(), "serve", "--config", str(path)], stdout=self.log, env=environment)
        self.until_ready()

    def until_ready(self) -> None:
        for _ in range(200):
            if self.process.poll() is not None:
                sys.exit(f"the gateway ended with {self.process.returncode}:\n{self.text()}")
            try:
                if self.status("/readyz"):
                    return
            except OSError:
                time.sleep(0.05)
        sys.exit("the gateway did not become ready")

    def status(self, path: str) -> str:
        connection = http.client.HTTPConnection(*self.ADMIN, timeout=10)
        connection.request("GET", path)
        return connection.getresponse().read().decode()

    def until_open(self, exchanges: int) -> None:
        """Waits until so many exchanges are open."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            workers = json.loads(self.status("/status"))["workers"]
            if sum(worker.get("exchanges", 0) for worker in workers) >= exchanges:
                return
            time.sleep(0.05)
        sys.exit(f"there were never {exchanges} open exchanges")

    def text(self) -> str:
        """The log. Only after `stop` is it sure to be complete."""
        return Path(self.log.name).read_text()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def ask(path: str = "/v1/chat/completions", timeout: float = 60) -> tuple[int, str]:
    """The status and the body of a chat request; 0 and the reason if there was no response, or a broken one."""
    connection = http.client.HTTPConnection(*Gateway.ADDRESS, timeout=timeout)
    try:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        connection.request("POST", path, CHAT, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()


class Failures:
    """What was expected and did not happen."""

    def __init__(self) -> None:
        self.count = 0

    def expect(self, holds: bool, what: str) -> None:
        print(f"{'ok' if holds else 'FAILED':8}{what}", flush=True)
        self.count += not holds

    def end(self) -> None:
        sys.exit(1 if self.count else 0)

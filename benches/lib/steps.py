"""An upstream whose stream goes in step with the client: the next frame is sent when the last one has arrived. So each frame is read
and written by itself, however busy the machine is. With a stream that is paced by time, frames come together where the gateway has to
wait for a CPU, and then cost less."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import threading
import time
from collections.abc import Iterator

from machine import Missing
from stage import ENDPOINT, ROUTE, Program

# Its route in the gateway.
STEPS = "/steps"
# After a frame has arrived the gateway still looks for the next one and goes to sleep; it gets this long for it, in seconds.
PAUSE = 0.001
# The longest that a frame may take, in seconds.
LONGEST = 30

HEAD = {"id": "chatcmpl-steps", "object": "chat.completion.chunk", "created": 1, "model": "steps", "service_tier": "default"}
DELTA = {"index": 0, "delta": {"content": " stream"}, "logprobs": None, "finish_reason": None}
FRAME = f"data: {json.dumps({**HEAD, 'system_fingerprint': 'fp_steps', 'choices': [DELTA]}, separators=(',', ':'))}\n\n".encode()
DONE = b"data: [DONE]\n\n"


class Steps(http.server.ThreadingHTTPServer):
    """The upstream."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.arrived = threading.Semaphore(0)

    def tables(self, route: str) -> str:
        """Its upstream and its route in the gateway's configuration; `route` has further lines of the route."""
        return f"""
[upstream.steps]
url = "http://127.0.0.1:{self.server_port}"
key = {{ env = "LOAD_UPSTREAM_KEY" }}
[route.steps]
path = "{STEPS}"
rewrite = "{ROUTE}"
upstreams = ["steps"]
{route}
"""

    def ask(self, connection: http.client.HTTPConnection, gateway: Program, frames: int) -> None:
        """Asks the gateway for a stream of so many frames, and takes one after the other."""
        body = json.dumps({"model": f"steps-{frames}", "stream": True, "messages": [{"role": "user", "content": "x" * 900}]})
        headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
        connection.request("POST", STEPS + ENDPOINT, body, headers)
        answer = connection.getresponse()
        for expected in [FRAME] * frames + [DONE]:
            came = answer.readline() + answer.readline()
            if came != expected:
                raise Missing(f"the gateway under valgrind answered {answer.status}: {came!r}, where {expected!r} was expected")
            self.arrived.release()
        answer.read()


class Handler(http.server.BaseHTTPRequestHandler):
    """A request to it. Its model says how many frames are wanted."""

    protocol_version = "HTTP/1.1"
    server: Steps

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for frame in [FRAME] * int(asked["model"].rpartition("-")[2]) + [DONE]:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(frame), frame))
            if not self.server.arrived.acquire(timeout=LONGEST):
                return
            time.sleep(PAUSE)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@contextlib.contextmanager
def steps() -> Iterator[Steps]:
    """The upstream, for as long as it is needed."""
    with Steps() as upstream:
        serving = threading.Thread(target=upstream.serve_forever, daemon=True)
        serving.start()
        try:
            yield upstream
        finally:
            upstream.shutdown()
            serving.join()

#!/usr/bin/env python3
"""Sends simulated traffic through a gateway in front of simulators: whole streams, errors, cuts, clients that leave. Needs only Python.

    traffic.py URL [--key KEY] [--seconds N] [--parallel N]
"""

import argparse
import http.client
import json
import random
import threading
import time
from urllib.parse import urlsplit

AGENTS = ["OpenAI/Python 1.109.1", "OpenAI/JS 6.1.0", "claude-cli/2.0.14", "curl/8.5.0", "my-agent/1"]
MODELS = ["gpt-4o", "gpt-4o-mini", "o4-mini", "missing-model"]

# What the simulator does with a request (`x-simulate`), and how often.
PLANS = [
    ("frames=40; interval=20; usage=400,40", 60),
    ("frames=10; interval=5; first=300; usage=2000,10", 20),
    ("frames=5; usage=50,5", 10),
    ("status=429; retry-after=1", 3),
    ("status=503", 3),
    ("frames=40; interval=10; cut=900; by=reset", 2),
    ("frames=40; interval=10; error-event", 1),
    ("leave", 1),
]


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("url")
    options.add_argument("--key", action="append", help="client key; several are used in turn")
    options.add_argument("--seconds", type=float, default=float("inf"))
    options.add_argument("--parallel", type=int, default=6)
    options = options.parse_args()
    end = time.monotonic() + options.seconds
    threads = [threading.Thread(target=client, args=(options, number, end)) for number in range(options.parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def client(options, number, end):
    chance = random.Random(number)
    keys = options.key or ["sk-none"]
    while time.monotonic() < end:
        plan = chance.choices([plan for plan, _ in PLANS], [weight for _, weight in PLANS])[0]
        try:
            ask(options.url, keys[number % len(keys)], plan, chance)
        except (OSError, http.client.HTTPException):
            # The gateway is not there yet, or the stream was cut, which is what was asked for.
            time.sleep(0.2)


def ask(url, key, plan, chance):
    parts = urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.netloc, timeout=60)
    body = {"model": chance.choice(MODELS), "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    body["stream_options"] = {"include_usage": True}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json", "user-agent": chance.choice(AGENTS)}
    leaves = plan == "leave"
    headers["x-simulate"] = "frames=100; interval=50" if leaves else plan
    try:
        connection.request("POST", parts.path.rstrip("/") + "/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if leaves:
            response.read(200)
        else:
            response.read()
        # A refusal is not asked again at once.
        if response.status == 429:
            time.sleep(min(float(response.headers.get("retry-after") or 1), 3))
    finally:
        connection.close()


if __name__ == "__main__":
    main()

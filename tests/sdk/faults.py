"""Asks what it is told to ask, with each of the SDK's four clients, and says what came of it. Nothing is judged here."""

import asyncio
import json
import os
import sys
import threading

from test_openai import HELLO, Kind, done, each

KINDS = {
    "sync-1": Kind(is_async=False, http2=False),
    "async-1": Kind(is_async=True, http2=False),
    "sync-2": Kind(is_async=False, http2=True),
    "async-2": Kind(is_async=True, http2=True),
}


async def chat(client, came, **options):
    completion = await done(client.chat.completions.create(model="m", messages=HELLO, **options))
    came["text"] = completion.choices[0].message.content


async def chat_stream(client, came, **options):
    stream = await done(client.chat.completions.create(model="m", messages=HELLO, stream=True, **options))
    async for chunk in each(stream):
        came["text"] += chunk.choices[0].delta.content or ""


async def responses_stream(client, came, **options):
    stream = await done(client.responses.create(model="m", input="Hello", stream=True, **options))
    async for event in each(stream):
        came["text"] += getattr(event, "delta", "")
        came["last"] = event.type


async def batch(client, came, **options):
    created = await done(
        client.batches.create(
            input_file_id="f", endpoint="/v1/chat/completions", completion_window="24h", **options
        )
    )
    came["text"] = created.id


async def two_batches(client, came, **options):
    await batch(client, came, **options)
    came["text"] = ""
    await batch(client, came, **options)


def describe(error):
    response = getattr(error, "response", None)
    headers = response.headers if response is not None else {}
    return {
        "class": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "code": getattr(error, "code", None),
        "retry_after": headers.get("retry-after"),
        "should_retry": headers.get("x-should-retry"),
        "says": str(error),
    }


async def ask(kind, name, case):
    came = {"text": "", "last": None, "error": None}
    client = kind.client(f"/{case['at']}/{name}/v1", max_retries=case["retries"])
    # A limit is a model's: the other clients are not to meet it.
    options = {"extra_headers": {"x-simulate-id": f"{case['at']}/{name}"}, "extra_body": {"model": name}}
    try:
        await globals()[case["ask"]](client, came, **options)
    except Exception as error:
        came["error"] = describe(error)
    finally:
        await kind.close()
    return came


async def ask_all(name, cases):
    for case in cases:
        report[f"{case['at']}/{name}"] = await ask(KINDS[name], name, case)


report = {}
if __name__ == "__main__":
    with open(os.environ["CASES"]) as file:
        cases = json.load(file)
    threads = [threading.Thread(target=lambda name=name: asyncio.run(ask_all(name, cases))) for name in KINDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open(os.environ["REPORT"], "w") as file:
        json.dump(report, file)

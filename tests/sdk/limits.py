"""What the official SDK makes of the gateway's own limits, with its sync and its async client. Nothing is judged here."""

import asyncio
import json
import os

import openai

from faults import describe
from test_openai import HELLO, KEY, Kind, done


async def asked(client):
    """One request; how it ended."""
    try:
        await done(client.chat.completions.create(model="m", messages=HELLO))
        return None
    except openai.OpenAIError as error:
        return describe(error)


async def two(is_async, route):
    """Two requests in turn, with the SDK's own retries."""
    kind = Kind(is_async=is_async, http2=False)
    client = kind.client(route, key=KEY, max_retries=2)
    came = [await asked(client), await asked(client)]
    await kind.close()
    return came


async def main():
    names = {"sync": False, "async": True}
    report = {name: {} for name in names}
    for name, is_async in names.items():
        for limit in ("rate", "budget"):
            report[name][limit] = await two(is_async, f"/{limit}-{name}/v1")
    with open(os.environ["REPORT"], "w") as file:
        json.dump(report, file)


asyncio.run(main())

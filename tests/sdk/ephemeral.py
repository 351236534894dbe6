"""What openai-python makes of ephemeral keys, and anthropic of a batch's results: prints what it has seen.

Arguments: the gateway's address, key. The provider answers, in this order: a key, a key whose time is over, a call, its end, a batch, its results.
"""

import asyncio
import json
import sys

import anthropic
import openai
from openai import AsyncOpenAI, OpenAI

GATEWAY, KEY = sys.argv[1:3]
SESSION = {"type": "realtime", "model": "gpt-realtime"}


def openai_with(key):
    return OpenAI(base_url=GATEWAY + "/v1", api_key=key, max_retries=0)


def issue():
    return openai_with(KEY).realtime.client_secrets.create(session=SESSION).value


def refused(call):
    try:
        call()
        return None
    except openai.APIStatusError as error:
        return [type(error).__name__, error.code]


async def connect(key):
    client = AsyncOpenAI(base_url=GATEWAY + "/v1", api_key=key)
    try:
        async with client.realtime.connect(model="gpt-realtime") as connection:
            async for event in connection:
                return event.type
    except Exception as error:
        body = json.loads(error.response.body)
        return [type(error).__name__, error.response.status_code, body["error"]["code"]]


def results():
    client = anthropic.Anthropic(base_url=GATEWAY, api_key=KEY, max_retries=0)
    return [line.custom_id for line in client.messages.batches.results("msgbatch_1")]


valid, expired = issue(), issue()
page = openai_with(valid)
call = page.realtime.calls.with_raw_response.create(sdp="v=0\r\n")
location = call.headers["location"]
page.realtime.calls.hangup(location.rsplit("/", 1)[1])
seen = {
    "prefixes": [valid[:6], expired[:6]],
    "location": location,
    "connected": asyncio.run(connect(valid)),
    "expired": asyncio.run(connect(expired)),
    "call": refused(lambda: openai_with(expired).realtime.calls.create(sdp="v=0\r\n")),
    "altered": refused(lambda: openai_with(valid[:-6] + "AAAAAA").realtime.calls.create(sdp="v=0\r\n")),
    "foreign": refused(lambda: openai_with("ek_0123456789").realtime.calls.create(sdp="v=0\r\n")),
    "misused": refused(lambda: page.models.list()),
    "results": results(),
}
print(json.dumps(seen))

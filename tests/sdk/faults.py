"""Asks what it is told to ask, with each of the SDK's four clients, and says what came of it. Nothing is judged here."""

import asyncio
import json
import os
import re
import threading

import anthropic
import openai

from test_openai import HELLO, KEY, Kind, done, each

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
        came["events"] += 1


async def responses_stream(client, came, **options):
    stream = await done(client.responses.create(model="m", input="Hello", stream=True, **options))
    async for event in each(stream):
        came["text"] += getattr(event, "delta", "")
        came["last"] = event.type
        came["events"] += 1


async def images_stream(client, came, **options):
    stream = await done(client.images.generate(model="m", prompt="Hello", stream=True, **options))
    async for event in each(stream):
        came["text"] += event.b64_json
        came["last"] = event.type


async def transcription_stream(client, came, **options):
    file = ("speech.wav", b"RIFF")
    stream = await done(client.audio.transcriptions.create(model="m", file=file, stream=True, **options))
    async for event in each(stream):
        came["text"] += getattr(event, "delta", "")
        came["last"] = event.type


async def thread_run_stream(client, came, **options):
    runs = client.beta.threads.runs
    stream = await done(runs.create("thread_1", assistant_id="asst_1", stream=True, **options))
    async for event in each(stream):
        if event.event == "thread.message.delta":
            came["text"] += event.data.delta.content[0].text.value
        came["last"] = event.event


async def speech_stream(client, came, **options):
    """The SDK reads no events here, and hands on the bytes."""
    create = client.audio.speech.with_streaming_response.create
    manager = create(model="m", voice="alloy", input="Hello", stream_format="sse", **options)
    response = await manager.__aenter__() if hasattr(manager, "__aenter__") else manager.__enter__()
    async for line in each(response.iter_lines()):
        came["text"] += "".join(re.findall(r'"audio":"([^"]*)"', line))


async def messages_stream(client, came, **options):
    sdk = anthropic.AsyncAnthropic if isinstance(client, openai.AsyncOpenAI) else anthropic.Anthropic
    base = str(client.base_url).removesuffix("/v1/")
    client = sdk(base_url=base, api_key=KEY, http_client=client._client, max_retries=0, timeout=60)
    stream = await done(client.messages.create(model="m", max_tokens=9, messages=HELLO, stream=True, **options))
    async for event in each(stream):
        if event.type == "content_block_delta":
            came["text"] += event.delta.text
        came["last"] = event.type
        came["events"] += 1


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
    came = {"text": "", "last": None, "events": 0, "error": None}
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

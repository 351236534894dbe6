"""Makes the calls that it is given, with the client that each of them names, and says what came of it. Nothing is judged here.

    python calls.py CASES RESULTS     the calls of a JSON file; the results, by the id of the call
    python calls.py --list            every method of the SDKs that sends a request
"""

import asyncio
import hashlib
import inspect
import io
import json
import sys
import threading

import anthropic
import openai
from anthropic._decoders.jsonl import AsyncJSONLDecoder, JSONLDecoder

import clients
import sockets

HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


# --- the official SDKs: a method is called by its name ---------------------------------------------------------------------


def openai_client(sdk):
    def made(case, options):
        return sdk(base_url=case["base"] + "/v1", **options)

    return made


def azure_client(sdk):
    def made(case, options):
        return sdk(azure_endpoint=case["base"], api_version="2025-04-01-preview", **options)

    return made


def anthropic_client(sdk):
    def made(case, options):
        return sdk(base_url=case["base"], **options)

    return made


STREAMS = (
    *(openai.Stream, openai.AsyncStream, anthropic.Stream, anthropic.AsyncStream),
    *(JSONLDecoder, AsyncJSONLDecoder),
)

SDKS = {
    "openai-python": openai_client(openai.OpenAI),
    "openai-python-async": openai_client(openai.AsyncOpenAI),
    "azure-python": azure_client(openai.AzureOpenAI),
    "azure-python-async": azure_client(openai.AsyncAzureOpenAI),
    "anthropic-python": anthropic_client(anthropic.Anthropic),
    "anthropic-python-async": anthropic_client(anthropic.AsyncAnthropic),
}


async def call(case, opened):
    if case["call"] in sockets.CALLS:
        return await sockets.CALLS[case["call"]](client(case, opened))
    method = client(case, opened).with_options(default_headers={"x-simulate-id": case["id"]})
    for name in case["call"].split("."):
        method = getattr(method, name)
    given = {name: value(argument) for name, argument in case["with"].items()}
    return await dump(await done(method(*case["ids"], **given)))


def client(case, opened):
    """The client of a case, without the headers of its own. To make one takes long, so it is kept."""
    name = (case["client"], case["base"], case["key"], case["retries"])
    if name not in opened:
        options = {"api_key": case["key"], "timeout": 60, "max_retries": case["retries"]}
        opened[name] = SDKS[case["client"]](case, options)
    return opened[name]


def value(argument):
    """An argument as the data has it, or what its name stands for."""
    if argument == "@hello":
        return HELLO
    if argument == "@tools":
        return TOOLS
    if isinstance(argument, list):
        return [value(each) for each in argument]
    if isinstance(argument, str) and argument.startswith("@file:"):
        name = argument.removeprefix("@file:")
        return (name, io.BytesIO(b"the bytes of " + name.encode() + bytes(range(256))))
    return argument


async def done(result):
    return await result if inspect.isawaitable(result) else result


async def each(stream):
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


async def dump(result):
    """A result as JSON."""
    if isinstance(result, STREAMS):
        events = []
        try:
            async for event in each(result):
                events.append(plain(event))
        except Exception as error:
            return {"events": events, "error": described(error)}
        return {"events": events}
    if hasattr(result, "read"):
        content = await done(result.read())
        location = getattr(result, "response", getattr(result, "http_response", None)).headers.get("location")
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "location": location}
    return {"class": type(result).__name__, "value": plain(result), "request_id": bool(getattr(result, "_request_id", None))}


def plain(value):
    if hasattr(value, "to_dict"):
        return value.to_dict(mode="json", warnings=False)
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def described(error):
    """An exception: its class, what programs look at, and how its message begins."""
    response = getattr(error, "response", None)
    headers = response.headers if response is not None else {}
    body = getattr(error, "body", None)
    known = {
        "class": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "code": getattr(error, "code", None),
        "type": getattr(error, "type", None),
        "param": getattr(error, "param", None),
        "retry_after": headers.get("retry-after"),
        "should_retry": headers.get("x-should-retry"),
        "body": sorted(body) if isinstance(body, dict) else type(body).__name__,
        "request_id": bool(getattr(error, "request_id", None)),
    }
    return {name: value for name, value in known.items() if value not in (None, False)} | {"message": str(error)}


# --- all clients ---------------------------------------------------------------------------------------------------------------


async def run(case, opened):
    try:
        if case["client"] in SDKS:
            return await call(case, opened)
        return await clients.CLIENTS[case["client"]](case)
    except Exception as error:
        return {"error": described(error)}


async def run_all(cases, results):
    opened = {}
    for case in cases:
        results[case["id"]] = await run(case, opened)
    for one in opened.values():
        await done(one.close())


def main(cases, results):
    with open(cases) as file:
        cases = json.load(file)
    found = {}
    names = sorted({case["client"] for case in cases})
    threads = []
    for name in names:
        own = [case for case in cases if case["client"] == name]
        threads.append(threading.Thread(target=lambda own=own: asyncio.run(run_all(own, found))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open(results, "w") as file:
        json.dump(found, file)


# --- which methods there are -----------------------------------------------------------------------------------------------------


SENDS = {"_get_api_list", "_get", "_post", "_delete", "_patch", "_put"}


def methods(resource, path, base):
    found = []
    for name in dir(type(resource)):
        if name.startswith(("_", "with_")):
            continue
        member = inspect.getattr_static(type(resource), name)
        if inspect.isfunction(member) and path:
            if SENDS.intersection(inspect.unwrap(member).__code__.co_names):
                found.append(path + name)
        elif hasattr(member, "func") or isinstance(member, property):
            inner = getattr(resource, name, None)
            if isinstance(inner, base):
                found += methods(inner, f"{path}{name}.", base)
    return found


def listed():
    one = openai.OpenAI(api_key="any", admin_api_key="any")
    other = anthropic.Anthropic(api_key="any")
    return {
        "openai": methods(one, "", type(one.models).__mro__[1]),
        "anthropic": methods(other, "", type(other.models).__mro__[1]),
    }


if __name__ == "__main__":
    if sys.argv[1] == "--list":
        print(json.dumps(listed()))
    else:
        main(sys.argv[1], sys.argv[2])

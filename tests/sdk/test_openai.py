"""The official Python SDK against the gateway; each test runs with the sync and the async client, over HTTP/1.1 and HTTP/2."""

import asyncio
import hashlib
import inspect
import io
import json
import os
import re
import ssl
import sys
import time
import traceback
import urllib.parse
import urllib.request

import openai

GATEWAY = os.environ["GATEWAY_URL"]
SIMULATOR = os.environ["SIMULATOR_URL"]
KEY = os.environ["KEY_ALL"]

TEXT = "The sluice opens, and the words flow through one by one — nothing held back, nothing lost."
HELLO = [{"role": "user", "content": "Hello"}]
UPLOAD = 20 * 1024 * 1024

report = {"requests": 0, "ids": [], "expect": {}}
tests = []


def test(function):
    tests.append(function)
    return function


# --- the SDK's four clients behind one face ---------------------------------------------------------------------------


class Kind:
    """Which client: sync or async, HTTP/1.1 or HTTP/2."""

    def __init__(self, is_async, http2):
        self.is_async, self.http2 = is_async, http2
        # Which protocols are offered is set in it for each connection, so kinds that run at once cannot share it.
        self.trust = ssl.create_default_context(cafile=os.environ["GATEWAY_CA"])
        self.opened = []

    def __str__(self):
        return f"{'async' if self.is_async else 'sync'}, {'HTTP/2' if self.http2 else 'HTTP/1.1'}"

    def client(self, route="/v1", key=KEY, **options):
        options = {"max_retries": 0, "timeout": 60, **options}
        hooks = {"request": [self.on_request], "response": [self.on_response]}
        web = openai.DefaultAsyncHttpxClient if self.is_async else openai.DefaultHttpxClient
        sdk = openai.AsyncOpenAI if self.is_async else openai.OpenAI
        web = web(verify=self.trust, http2=self.http2, event_hooks=hooks)
        client = sdk(base_url=GATEWAY + route, api_key=key, http_client=web, **options)
        self.opened.append(client)
        return client

    def azure(self, route):
        hooks = {"request": [self.on_request], "response": [self.on_response]}
        web = openai.DefaultAsyncHttpxClient if self.is_async else openai.DefaultHttpxClient
        sdk = openai.AsyncAzureOpenAI if self.is_async else openai.AzureOpenAI
        client = sdk(
            azure_endpoint=GATEWAY + route,
            api_version="2025-01-01-preview",
            api_key=KEY,
            http_client=web(verify=self.trust, http2=self.http2, event_hooks=hooks),
            max_retries=0,
            timeout=60,
        )
        self.opened.append(client)
        return client

    async def close(self):
        for client in self.opened:
            await done(client.close())
        self.opened = []

    @property
    def on_request(self):
        def note(request):
            report["requests"] += 1

        return in_async(note) if self.is_async else note

    @property
    def on_response(self):
        def note(response):
            expected = "HTTP/2" if self.http2 else "HTTP/1.1"
            assert response.http_version == expected, response.http_version
            report["ids"].append(response.headers["x-request-id"])

        return in_async(note) if self.is_async else note


def in_async(function):
    async def called(argument):
        function(argument)

    return called


async def done(value):
    """The result of a call to either client."""
    return await value if inspect.isawaitable(value) else value


async def each(stream):
    """The items of a stream of either client."""
    if hasattr(stream, "__aiter__"):
        async for item in stream:
            yield item
    else:
        for item in stream:
            yield item


async def next_of(stream):
    return await anext(stream) if hasattr(stream, "__anext__") else next(stream)


# --- the simulator, asked directly --------------------------------------------------------------------------------------


def simulator(method, path, **query):
    query = urllib.parse.urlencode(query)
    request = urllib.request.Request(f"{SIMULATOR}/simulator/{path}?{query}", method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def simulated(script=None, id=None):
    headers = {"x-simulate": script, "x-simulate-id": id}
    return {name: value for name, value in headers.items() if value}


def fresh_id(about=[0]):
    about[0] += 1
    return f"python-{about[0]}"


def record(id, ended="any"):
    """The record of the one request with this id, once it has ended so."""
    records = simulator("GET", "wait", id=id, ended=ended)
    assert len(records) == 1, f"{len(records)} requests {id} have ended as {ended}"
    return records[0]


def records(id):
    return [
        record
        for record in simulator("GET", "records")
        if dict(map(tuple, record["headers"])).get("x-simulate-id") == id
    ]


def header(record, name):
    return dict(map(tuple, record["headers"]))[name]


def expect(request_id, **fields):
    report["expect"].setdefault(request_id, {}).update(fields)


COMPLETE = {"who": "upstream", "phase": "done", "error": None}


# --- what works -----------------------------------------------------------------------------------------------------------


@test
async def chat(kind):
    completion = await done(kind.client().chat.completions.create(model="gpt-4o", messages=HELLO))
    assert completion.choices[0].message.content == TEXT, completion
    assert completion.choices[0].finish_reason == "stop", completion
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 20, 29), usage
    expect(completion._request_id, **COMPLETE, status=200, model="gpt-4o", tokens_in=9, tokens_out=20, stream=False)


@test
async def chat_stream(kind):
    stream = await done(
        kind.client().chat.completions.create(
            model="gpt-4o",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=simulated("usage=11,7"),
        )
    )
    chunks = [chunk async for chunk in each(stream)]
    # A role, twenty words, an end, the usage.
    assert len(chunks) == 23, len(chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == TEXT, text
    assert chunks[-2].choices[0].finish_reason == "stop", chunks[-2]
    usage = chunks[-1].usage
    assert not chunks[-1].choices and (usage.prompt_tokens, usage.completion_tokens) == (11, 7), chunks[-1]
    id = stream.response.headers["x-request-id"]
    expect(id, **COMPLETE, status=200, stream=True, tokens_in=11, tokens_out=7, finish_reason="stop", events=24)


@test
async def completions(kind):
    client = kind.client()
    completion = await done(client.completions.create(model="gpt-4o", prompt="Hello"))
    assert completion.choices[0].text == TEXT, completion
    assert completion.usage.total_tokens == 29, completion.usage
    stream = await done(client.completions.create(model="gpt-4o", prompt="Hello", stream=True))
    text = "".join([chunk.choices[0].text async for chunk in each(stream)])
    assert text == TEXT, text
    expect(stream.response.headers["x-request-id"], **COMPLETE, stream=True)


@test
async def embeddings(kind):
    created = await done(
        kind.client().embeddings.create(model="text-embedding-3-small", input=["one", "two"], dimensions=4)
    )
    assert [row.embedding for row in created.data] == [[-0.5, -0.375, -0.25, -0.125]] * 2, created
    assert created.usage.prompt_tokens == 9, created.usage
    assert created.model == "text-embedding-3-small", created.model


@test
async def models_of_the_gateway(kind):
    client = kind.client("/listed/v1")
    listed = [model async for model in each(await done(client.models.list()))]
    assert [model.id for model in listed] == ["default", "gpt-4o", "org/gpt-4o"], listed
    assert {model.object for model in listed} == {"model"} and all(model.owned_by for model in listed), listed
    for name in ["gpt-4o", "default", "org/gpt-4o", "gpt-4o-2024"]:
        assert (await done(client.models.retrieve(name))).id == name
    limited = kind.client("/listed/v1", os.environ["KEY_MODELS"])
    listed = [model.id async for model in each(await done(limited.models.list()))]
    assert listed == ["default", "gpt-4o"], listed
    for client, name in [(client, "gpt-5"), (limited, "org/gpt-4o")]:
        error = await refused(lambda: client.models.retrieve(name), openai.NotFoundError, 404, "model_not_found", param="model")
        assert error.param == "model", error
        error = await refused(lambda: client.chat.completions.create(model="gpt-5", messages=HELLO), openai.NotFoundError, 404, "model_not_found", param="model")
        assert "`gpt-4o`" in error.message, error


@test
async def azure_deployments(kind):
    """OpenAI's client before an Azure resource, and Azure's own client; the simulator takes what Azure does."""
    for client, version in [(kind.client("/azure/v1"), "2024-10-21"), (kind.azure("/azure-client"), "2025-01-01-preview")]:
        id = fresh_id()
        headers = simulated(id=id)
        answer = await done(client.chat.completions.create(model="gpt-4o", messages=HELLO, extra_headers=headers))
        assert answer.choices[0].message.content == TEXT, answer
        made = await done(client.embeddings.create(model="text-embedding-3", input="x", extra_headers=headers))
        assert made.data[0].embedding, made
        source = ("speech.wav", b"x" * 1000)
        heard = await done(client.audio.transcriptions.create(file=source, model="whisper-1", extra_headers=headers))
        assert heard.text == TEXT, heard
        responded = await done(client.responses.create(model="gpt-4o", input="Hello", extra_headers=headers))
        assert responded.output_text == TEXT, responded
        targets = [record["target"] for record in records(id)]
        query = f"?api-version={version}"
        assert targets == [
            "/openai/deployments/gpt-4o/chat/completions" + query,
            "/openai/deployments/text-embedding-3/embeddings" + query,
            "/openai/deployments/whisper-1/audio/transcriptions" + query,
            "/openai/responses" + query,
        ], targets
        keys = [dict(map(tuple, record["headers"])) for record in records(id)]
        assert all("api-key" in key and "authorization" not in key for key in keys), keys


@test
async def models(kind):
    client = kind.client()
    listed = [model.id async for model in each(await done(client.models.list()))]
    assert listed == ["gpt-4o", "gpt-4o-mini", "sim", "text-embedding-3-small", "whisper-1"], listed
    model = await done(client.models.retrieve("ft:gpt-4o:team a"))
    assert model.id == "ft:gpt-4o:team a", model
    assert model.owned_by == "simulator", model


@test
async def responses(kind):
    response = await done(kind.client().responses.create(model="gpt-4o", input="Hello"))
    assert response.output_text == TEXT, response
    assert (response.status, response.usage.input_tokens, response.usage.output_tokens) == ("completed", 9, 20), response


@test
async def responses_stream(kind):
    stream = await done(kind.client().responses.create(model="gpt-4o", input="Hello", stream=True))
    events = [event async for event in each(stream)]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 20,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ], events
    assert [event.sequence_number for event in events] == list(range(28)), events
    assert "".join(event.delta for event in events[4:24]) == TEXT, events
    assert events[24].text == TEXT and events[-1].response.output_text == TEXT, events
    usage = events[-1].response.usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (9, 20, 29), usage
    expect(stream.response.headers["x-request-id"], **COMPLETE, stream=True, tokens_in=9, tokens_out=20, events=28)


# --- uploads ----------------------------------------------------------------------------------------------------------------


class Watched(io.BytesIO):
    """A file that, half read, waits until the simulator has seen its request begin."""

    def __init__(self, content, id):
        super().__init__(content)
        self.id, self.seen = id, None

    def read(self, size=-1):
        if self.seen is None and self.tell() > len(self.getbuffer()) // 2:
            begun = simulator("GET", "wait", id=self.id)
            self.seen = len(begun) == 1 and begun[0]["ended"] is None and not begun[0]["body_complete"]
        return super().read(size)


def multipart(record, content):
    """The body that the SDK must have sent: what the record kept of its beginning says how it was put together."""
    boundary = re.search(r"boundary=([^;]+)", header(record, "content-type"))[1].strip('"')
    delimiter = f"--{boundary}\r\n"
    head, _, rest = record["body"].partition('filename="')
    opening, blank, _ = rest.partition("\r\n\r\n")
    before = f'{head}filename="{opening}{blank}'
    assert before.startswith(delimiter) and len(before) < 1000, before[:1000]
    return before.encode() + content + f"\r\n--{boundary}--\r\n".encode()


@test
async def upload(kind):
    id, content = fresh_id(), os.urandom(64) * (UPLOAD // 64)
    source = Watched(content, id)
    created = await done(
        kind.client().files.create(
            file=("lines.jsonl", source), purpose="batch", extra_headers=simulated(id=id)
        )
    )
    assert source.seen is True, "the upstream saw nothing of the request until the whole file was read"
    assert (created.filename, created.purpose) == ("lines.jsonl", "batch"), created
    arrived = record(id)
    sent = multipart(arrived, content)
    assert arrived["body_complete"] and arrived["body_length"] == len(sent) == created.bytes, arrived["body_length"]
    assert arrived["body_sha256"] == hashlib.sha256(sent).hexdigest()
    expect(created._request_id, **COMPLETE, status=200, bytes_in=len(sent))


@test
async def transcription(kind):
    id, content = fresh_id(), os.urandom(300_000)
    created = await done(
        kind.client().audio.transcriptions.create(
            file=("speech.wav", content), model="whisper-1", extra_headers=simulated(id=id)
        )
    )
    assert created.text == TEXT, created
    arrived = record(id)
    assert arrived["body_sha256"] == hashlib.sha256(multipart(arrived, content)).hexdigest()


# --- errors -----------------------------------------------------------------------------------------------------------------


async def refused(call, error_class, status, code, type=None, param=None):
    """The error that a call must raise."""
    try:
        await done(call())
    except openai.APIStatusError as error:
        assert error.__class__ is error_class, repr(error)
        assert (error.status_code, error.code) == (status, code), (error.status_code, error.code)
        assert type is None or error.type == type, error.type
        assert error.message and error.body["param"] == param, error.body
        assert error.request_id == report["ids"][-1], error.request_id
        expect(error.request_id, status=status)
        return error
    raise AssertionError(f"no {error_class.__name__}")


def ask(client, model="gpt-4o", **options):
    return lambda: client.chat.completions.create(model=model, messages=HELLO, **options)


@test
async def bad_request(kind):
    client = kind.client()
    call = ask(client, extra_headers=simulated("status=400"))
    error = await refused(call, openai.BadRequestError, 400, None, "invalid_request_error")
    expect(error.request_id, **{**COMPLETE, "error": "invalid_request_error"})
    call = ask(client, extra_headers={"x-api-key": os.environ["KEY_MODELS"]})
    error = await refused(call, openai.BadRequestError, 400, "conflicting_credentials", "invalid_request_error")
    expect(error.request_id, who="downstream", phase="request", error="conflicting_credentials")


@test
async def authentication(kind):
    for path in ("/v1", "/small"):
        call = ask(kind.client(path, key="sk-sg-nobody's"))
        await refused(call, openai.AuthenticationError, 401, "invalid_api_key", "invalid_request_error")
    # The gateway's own answer, not the upstream's: it never heard of it.
    id = fresh_id()
    call = ask(kind.client(), extra_headers={"Authorization": openai.omit, **simulated(id=id)})
    await refused(call, openai.AuthenticationError, 401, "missing_api_key", "invalid_request_error")
    assert records(id) == [], records(id)


@test
async def permission(kind):
    limited = os.environ["KEY_ROUTES"]
    await refused(ask(kind.client(key=limited)), openai.PermissionDeniedError, 403, "route_not_allowed")
    assert (await done(ask(kind.client("/small", key=limited))())).choices[0].message.content == TEXT
    client = kind.client(key=os.environ["KEY_MODELS"])
    await refused(ask(client, "gpt-5"), openai.PermissionDeniedError, 403, "model_not_allowed", "permission_error", param="model")
    assert (await done(ask(client, "gpt-4o-mini")())).choices[0].message.content == TEXT


@test
async def not_found(kind):
    call = ask(kind.client(), "missing-model")
    error = await refused(call, openai.NotFoundError, 404, "model_not_found", "invalid_request_error")
    assert "missing-model" in error.message, error.message
    await refused(ask(kind.client("/nowhere")), openai.NotFoundError, 404, "route_not_found", "invalid_request_error")
    await refused(lambda: kind.client().files.retrieve("file-none"), openai.NotFoundError, 404, "unknown_url")


@test
async def too_large(kind):
    id, client = fresh_id(), kind.client("/small")
    long = [{"role": "user", "content": "x" * (8 * 1024 * 1024)}]
    for _ in range(20):
        call = lambda: client.chat.completions.create(model="gpt-4o", messages=long, extra_headers=simulated(id=id))
        error = await refused(call, openai.APIStatusError, 413, "request_too_large", "invalid_request_error")
        expect(error.request_id, who="downstream", phase="intake", error="request_too_large")
    assert records(id) == [], records(id)
    # A connection that lingered over the rest of an upload does no harm to what follows.
    assert (await done(ask(client)())).choices[0].message.content == TEXT


@test
async def rate_limit(kind):
    call = ask(kind.client(), extra_headers=simulated("status=429; retry-after=7"))
    error = await refused(call, openai.RateLimitError, 429, "rate_limit_exceeded", "requests")
    assert error.response.headers["retry-after"] == "7", error.response.headers
    assert error.response.headers["x-ratelimit-remaining-requests"] == "9999", error.response.headers


CHINESE = {"accept-language": "zh-CN"}


@test
async def errors_in_chinese(kind):
    client = kind.client(key="sk-sg-nobody's", default_headers=CHINESE)
    error = await refused(ask(client), openai.AuthenticationError, 401, "invalid_api_key", "invalid_request_error")
    assert "API 密钥不正确" in error.message, error.message
    assert error.response.headers["content-language"] == "zh", error.response.headers
    # An event of a stream is, too.
    stream = await done(asked_stream(kind.client(default_headers=CHINESE), "cut=0; by=close"))
    _, error = await read_until_it_breaks(stream)
    assert error.code == "upstream_truncated" and "响应不完整" in error.message, repr(error)
    expect(stream.response.headers["x-request-id"], error="upstream_truncated")


@test
async def errors_in_other_words(kind):
    for headers, words in (({}, "All capacity is in use."), (CHINESE, "当前容量已满，请稍后重试。")):
        client = kind.client("/busy", default_headers=headers)
        call = ask(client, extra_headers=simulated("status=429; retry-after=7"))
        error = await refused(call, openai.InternalServerError, 503, "capacity", "requests")
        assert words in error.message and error.response.headers["retry-after"] == "7", repr(error)
        # The log has the original.
        expect(error.request_id, status=429, error="rate_limit_exceeded")


@test
async def server_errors(kind):
    client = kind.client()
    for status, code in ((500, None), (503, "server_is_overloaded")):
        call = ask(client, extra_headers=simulated(f"status={status}"))
        error = await refused(call, openai.InternalServerError, status, code, "server_error")
        expect(error.request_id, **{**COMPLETE, "error": code or "server_error"})


@test
async def retries(kind):
    # The upstream's own 500 is the SDK's to retry ...
    id = fresh_id()
    call = ask(kind.client(max_retries=1), extra_headers=simulated("status=500", id))
    await refused(call, openai.InternalServerError, 500, None)
    counts = [header(record, "x-stainless-retry-count") for record in records(id)]
    assert counts == ["0", "1"], counts
    # ... its refusal of the gateway's key is for nobody to retry, and the caller's key is not to blame.
    id = fresh_id()
    call = ask(kind.client("/refusing", max_retries=3), extra_headers=simulated(id=id))
    error = await refused(call, openai.InternalServerError, 503, "upstream_unavailable", "server_error")
    assert error.response.headers["x-should-retry"] == "false", error.response.headers
    assert len(records(id)) == 1, records(id)
    assert "sk-" not in error.response.text, error.response.text
    expect(error.request_id, who="gateway", error="upstream_unavailable")


@test
async def unreachable(kind):
    error = await refused(ask(kind.client("/gone")), openai.InternalServerError, 502, "upstream_unreachable")
    assert "127.0.0.1" not in error.response.text, error.response.text
    expect(error.request_id, who="upstream", phase="connect", error="upstream_unreachable")


@test
async def elsewhere(kind):
    """One upstream is gone, one refuses the gateway's key, the third answers. A refused key cools down: it is not sent again."""
    client = kind.client(f"/elsewhere-{2 * kind.http2 + kind.is_async}", max_retries=0)
    completion = await done(ask(client)())
    assert completion.choices[0].message.content == TEXT, completion
    expect(completion._request_id, **COMPLETE, upstream="main", attempts=3)
    stream = await done(asked_stream(client))
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in each(stream)]) == TEXT
    expect(stream.response.headers["x-request-id"], **COMPLETE, upstream="main", attempts=2)


@test
async def again(kind):
    """What the gateway has tried again is not tried again by the SDK."""
    id = fresh_id()
    call = ask(kind.client("/again", max_retries=3), extra_headers=simulated("status=503", id))
    error = await refused(call, openai.InternalServerError, 503, "server_is_overloaded")
    assert error.response.headers["x-should-retry"] == "false", error.response.headers
    assert [header(record, "x-stainless-retry-count") for record in records(id)] == ["0"] * 4


# --- endings ----------------------------------------------------------------------------------------------------------------


def asked_stream(client, script=None, id=None, **options):
    return ask(client, stream=True, extra_headers=simulated(script, id), **options)()


async def read_until_it_breaks(stream):
    """The text that came, and the error that ended it."""
    text = ""
    try:
        async for chunk in each(stream):
            text += chunk.choices[0].delta.content or ""
    except openai.APIError as error:
        return text, error
    raise AssertionError(f"a stream that was cut ended as if it were whole: {text!r}")


@test
async def cut_between_events(kind):
    client = kind.client()
    for by in ("reset", "close", "chunk-error"):
        # At the very beginning, so that it is certain to be between events.
        stream = await done(asked_stream(client, f"cut=0; by={by}"))
        text, error = await read_until_it_breaks(stream)
        assert error.__class__ is openai.APIError and text == "", repr(error)
        assert (error.code, error.type) == ("upstream_truncated", "server_error"), error.body
        expect(
            stream.response.headers["x-request-id"],
            status=200,
            who="upstream",
            phase="stream",
            error="upstream_truncated",
        )


@test
async def cut_anywhere(kind):
    client = kind.client()
    for by in ("reset", "close", "chunk-error"):
        for at in range(1, 5000, 499):
            stream = await done(asked_stream(client, f"cut={at}; by={by}"))
            text, _ = await read_until_it_breaks(stream)
            assert TEXT.startswith(text) and text != TEXT, text
            expect(stream.response.headers["x-request-id"], who="upstream", phase="stream", error="upstream_truncated")


@test
async def cut_of_a_whole_answer(kind):
    call = ask(kind.client(), extra_headers=simulated("cut=100; by=close"))
    try:
        await done(call())
    except openai.APIConnectionError:
        expect(report["ids"][-1], who="upstream", phase="stream", error="upstream_truncated")
    else:
        raise AssertionError("half an answer was taken for a whole one")


@test
async def cut_responses(kind):
    stream = await done(
        kind.client().responses.create(
            model="gpt-4o", input="Hello", stream=True, extra_headers=simulated("cut=0; by=close")
        )
    )
    events = []
    try:
        async for event in each(stream):
            events.append(event)
    except openai.APIError:
        expect(stream.response.headers["x-request-id"], who="upstream", phase="stream", error="upstream_truncated")
    else:
        raise AssertionError(f"a stream that was cut ended as if it were whole: {events}")
    # The SDK hands the error event on, and the abort makes it raise.
    assert [(event.type, event.code) for event in events] == [("error", "upstream_truncated")], events


@test
async def error_event_of_the_upstream(kind):
    stream = await done(asked_stream(kind.client(), "error-event"))
    text, error = await read_until_it_breaks(stream)
    assert text and TEXT.startswith(text), text
    assert error.type == "server_error" and "had an error" in error.message, error.body
    expect(stream.response.headers["x-request-id"], error="upstream_error_event")


@test
async def closed_early(kind):
    id, client = fresh_id(), kind.client()
    # The script never ends by itself: it stalls with most of its frames unsent.
    stream = await done(asked_stream(client, "frames=1000; stall=3000", id))
    chunks = [await next_of(stream) for _ in range(3)]
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == "The sluice", chunks
    assert records(id)[0]["ended"] is None, records(id)
    await done(stream.close())
    if kind.http2:
        # The client forgets a closed stream without telling the server (httpcore2 `_response_closed`); only its connection's end does.
        await kind.close()
    left = record(id, "peer-left")
    assert left["sent"] == 3000, left["sent"]
    expect(stream.response.headers["x-request-id"], who="downstream", phase="stream", error="caller_left", status=200)


@test
async def closed_at_the_end(kind):
    id, client = fresh_id(), kind.client()
    for _ in range(6):
        stream = await done(asked_stream(client, id=id))
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in each(stream)])
        await done(stream.close())
        assert text == TEXT, text
        expect(stream.response.headers["x-request-id"], **COMPLETE)
    ended = records(id)
    assert [record["ended"] for record in ended] == ["answered"] * 6, ended
    # The gateway has two workers, each with connections of its own; without reuse there would be six.
    assert len({record["connection"] for record in ended}) <= 2, [record["connection"] for record in ended]


@test
async def as_it_comes(kind):
    id = fresh_id()
    # The gate stands in the middle of the second event.
    stream = await done(asked_stream(kind.client(), "gate=400", id))
    first = await next_of(stream)
    assert first.choices[0].delta.role == "assistant", first
    assert records(id)[0]["ended"] is None, records(id)
    simulator("POST", "gate")
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in each(stream)])
    assert text == TEXT, text
    expect(stream.response.headers["x-request-id"], **COMPLETE)


async def main(wanted):
    failed = []
    kinds = [Kind(is_async, http2) for http2 in (False, True) for is_async in (False, True)]
    runs = [(kind, test) for kind in kinds for test in tests if not wanted or test.__name__ in wanted]
    for kind, function in runs:
        name, begun = f"{function.__name__} ({kind})", time.monotonic()
        try:
            await function(kind)
        except Exception:
            failed.append(name)
            print(f"FAILED {name}\n{traceback.format_exc()}")
        finally:
            await kind.close()
        print(f"{name}: {time.monotonic() - begun:.2f} s")
    with open(os.environ["REPORT"], "w") as file:
        json.dump(report, file)
    print(f"{len(failed)} of {len(runs)} failed {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))

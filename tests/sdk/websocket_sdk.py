"""What openai-python makes of a provider's WebSocket APIs: prints the events of a Realtime and of a Responses connection.

Arguments: base URL, key; "simulated" if the provider is the simulator, which can be made to report mistakes.
"""

import asyncio
import json
import os
import sys

from openai import AsyncOpenAI, OpenAI

URL, KEY = sys.argv[1:3]
SIMULATED = sys.argv[3:] == ["simulated"]


async def realtime():
    events = []
    client = AsyncOpenAI(base_url=URL, api_key=KEY)
    async with client.realtime.connect(model="gpt-realtime") as connection:
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        for _ in range(2):
            content = [{"type": "input_text", "text": "hello"}]
            await connection.conversation.item.create(
                item={"type": "message", "role": "user", "content": content}
            )
            await connection.response.create()
            async for event in connection:
                events.append([event.type, getattr(event, "delta", None)])
                if event.type in ("response.done", "error"):
                    break
    return events


def responses():
    events = []
    with OpenAI(base_url=URL, api_key=KEY).responses.connect() as connection:
        for _ in range(2):
            connection.response.create(model="gpt-4o", input="hello")
            for event in connection:
                events.append([event.type, getattr(event, "delta", None)])
                if event.type in ("response.completed", "error"):
                    break
    return events


async def mistakes():
    """What the SDK makes of mistakes and of the end of a session, which the provider reports as events."""
    events = []
    client = AsyncOpenAI(base_url=URL, api_key=KEY)
    async with client.realtime.connect(
        model="gpt-realtime", extra_headers={"x-simulate": "expires=1s"}
    ) as connection:
        await connection.response.cancel()
        await connection.input_audio_buffer.commit()
        await connection.send({"type": "unheard.of"})
        async for event in connection:
            events.append([event.type, event.error.code if event.type == "error" else None])
    return events


def response_mistakes():
    events = []
    with OpenAI(base_url=URL, api_key=KEY).responses.connect() as connection:
        connection.response.create(model="gpt-4o", input="hello", previous_response_id="resp_none")
        connection.response.create(model="missing-one", input="hello")
        for event in connection:
            events.append([event.type, event.error.code])
            if len(events) == 2:
                break
    return events


async def agents():
    """The kinds of events of a voice agent's turn (openai-agents), and how many of them are audio."""
    os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
    from agents.realtime import RealtimeAgent, RealtimeRunner

    runner = RealtimeRunner(RealtimeAgent(name="tester", instructions="Say hello."))
    url = URL.replace("http", "ws", 1) + "/realtime?model=gpt-realtime"
    kinds = []
    async with await runner.run(model_config={"url": url, "api_key": KEY}) as session:
        await session.send_message("hello")
        async for event in session:
            kinds.append(event.type)
            if event.type in ("agent_end", "error"):
                break
    return [sorted(set(kinds)), kinds.count("audio")]


def refused():
    try:
        with OpenAI(base_url=URL, api_key="sk-wrong").responses.connect():
            return None
    except Exception as error:
        return [type(error).__name__, getattr(getattr(error, "response", None), "status_code", None)]


result = {"realtime": asyncio.run(realtime()), "responses": responses(), "refused": refused()}
if SIMULATED:
    result |= {"mistakes": asyncio.run(mistakes()), "response_mistakes": response_mistakes(), "agents": asyncio.run(agents())}
print(json.dumps(result))

"""WebSocket APIs, by the clients that have them. Each function has one turn and says which events came of it, as JSON."""

import openai
from agents import Agent, OpenAIResponsesWSModel, Runner
from agents.realtime import RealtimeAgent, RealtimeRunner

CONTENT = [{"type": "input_text", "text": "hello"}]
ITEM = {"type": "message", "role": "user", "content": CONTENT}


def seen(event):
    """What the turns of two connections have in common. An error ends the call."""
    if event.type == "error":
        raise RuntimeError(f"{event.error.code}: {event.error.message}")
    usage = getattr(getattr(event, "response", None), "usage", None)
    kept = {
        "delta": getattr(event, "delta", None),
        "usage": usage.to_dict(mode="json") if usage else None,
    }
    return [event.type, {name: value for name, value in kept.items() if value}]


# --- openai ------------------------------------------------------------------------------------------------------------------


async def realtime(client, **options):
    if isinstance(client, openai.AsyncOpenAI):
        return await realtime_async(client, **options)
    events = []
    with client.realtime.connect(model="gpt-realtime", **options) as connection:
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        connection.conversation.item.create(item=ITEM)
        connection.response.create()
        for event in connection:
            events.append(seen(event))
            if event.type == "response.done":
                break
    return {"events": events}


async def realtime_async(client, **options):
    events = []
    async with client.realtime.connect(model="gpt-realtime", **options) as connection:
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        await connection.conversation.item.create(item=ITEM)
        await connection.response.create()
        async for event in connection:
            events.append(seen(event))
            if event.type == "response.done":
                break
    return {"events": events}


async def responses(client, **options):
    if isinstance(client, openai.AsyncOpenAI):
        return await responses_async(client, **options)
    events = []
    with client.responses.connect(**options) as connection:
        for _ in range(2):
            connection.response.create(model="gpt-4o", input="hello")
            for event in connection:
                events.append(seen(event))
                if event.type == "response.completed":
                    break
    return {"events": events}


async def responses_async(client, **options):
    events = []
    async with client.responses.connect(**options) as connection:
        for _ in range(2):
            await connection.response.create(model="gpt-4o", input="hello")
            async for event in connection:
                events.append(seen(event))
                if event.type == "response.completed":
                    break
    return {"events": events}


CALLS = {"realtime.connect": realtime, "responses.connect": responses}


# --- openai-agents -------------------------------------------------------------------------------------------------------------


async def agents_responses(case, untraced, result_of):
    async with openai.AsyncOpenAI(base_url=case["base"] + "/v1", api_key=case["key"], max_retries=0) as client:
        model = OpenAIResponsesWSModel("gpt-4o", client)
        agent = Agent(name="one", instructions="Be brief.", model=model)
        try:
            result = Runner.run_streamed(agent, "hello", run_config=untraced)
            events = []
            async for event in result.stream_events():
                events.append([event.type, getattr(getattr(event, "data", None), "type", None)])
            return {"events": events, **result_of(result)}
        finally:
            await model.close()


async def agents_realtime(case):
    url = case["base"].replace("http", "ws", 1) + "/v1/realtime?model=gpt-realtime"
    runner = RealtimeRunner(RealtimeAgent(name="one"), config={"tracing_disabled": True})
    config = {"url": url, "api_key": case["key"], "initial_model_settings": {"modalities": ["text"]}}
    kinds = []
    async with await runner.run(model_config=config) as session:
        await session.send_message("hello")
        async for event in session:
            # Audio and history come in pieces of the client's own timing.
            if event.type == "raw_model_event" and event.data.type == "raw_server_event":
                kind = event.data.data["type"]
                if kind == "error":
                    raise RuntimeError(str(event.data.data))
                kinds.append([kind, event.data.data.get("delta")])
                if kind == "response.done":
                    break
    return {"events": kinds}

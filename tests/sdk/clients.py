"""Libraries on top of OpenAI's Python SDK. Each function makes the call that it is given and says what came of it, as JSON."""

import asyncio
import json
import os
import subprocess
import tempfile
from pathlib import Path

import langchain_openai
import openai
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, RunConfig, Runner, function_tool
from langchain_core.tools import tool

import sockets

# Of the Agents SDK, which would send traces to OpenAI with the key that it finds.
UNTRACED = RunConfig(tracing_disabled=True)


# --- openai-agents ---------------------------------------------------------------------------------------------------------


@function_tool
def look(at: str) -> str:
    """Looks at something."""
    return f"a {at}"


async def agents(case):
    if case["call"] == "responses.run_over_websocket":
        return await sockets.agents_responses(case, UNTRACED, agents_result)
    if case["call"] == "realtime.run":
        return await sockets.agents_realtime(case)
    options = {"default_headers": {"x-simulate-id": case["id"]}, "max_retries": case["retries"], "timeout": 60}
    async with openai.AsyncOpenAI(base_url=case["base"] + "/v1", api_key=case["key"], **options) as client:
        api, _, way = case["call"].partition(".")
        model = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}[api]
        name = case["with"].get("model", "gpt-4o")
        tools = [look] if way == "run_with_tools" else []
        agent = Agent(name="one", instructions="Be brief.", model=model(name, client), tools=tools)
        if way == "run_streamed":
            return await agents_streamed(agent)
        result = await Runner.run(agent, "Hello", run_config=UNTRACED)
        return agents_result(result)


async def agents_streamed(agent):
    result = Runner.run_streamed(agent, "Hello", run_config=UNTRACED)
    events = []
    async for event in result.stream_events():
        events.append([event.type, getattr(event, "name", None) or getattr(getattr(event, "data", None), "type", None)])
    return {"events": events, **agents_result(result)}


def agents_result(result):
    usage = result.context_wrapper.usage
    return {
        "output": result.final_output,
        "items": [item.type for item in result.new_items],
        "usage": [usage.requests, usage.input_tokens, usage.output_tokens, usage.total_tokens],
    }


# --- langchain-openai --------------------------------------------------------------------------------------------------------


@tool
def see(at: str) -> str:
    """Looks at something."""
    return f"a {at}"


async def langchain(case):
    options = {"base_url": case["base"] + "/v1", "api_key": case["key"], "max_retries": case["retries"], "timeout": 60}
    options["default_headers"] = {"x-simulate-id": case["id"]}
    name = case["with"].get("model", "gpt-4o")
    kind, way = case["call"].split(".")
    if kind == "OpenAIEmbeddings":
        # With the check it would count tokens, by a table that it downloads.
        one = langchain_openai.OpenAIEmbeddings(model=name, check_embedding_ctx_length=False, **options)
        vectors = one.embed_documents(["Hello", "there"]) if way == "embed_documents" else await one.aembed_query("Hello")
        return {"vectors": vectors}
    if kind == "OpenAI":
        return {"text": langchain_openai.OpenAI(model=name, **options).invoke("Hello")}
    one = langchain_openai.ChatOpenAI(model=name, use_responses_api=kind == "ChatOpenAI with Responses", **options)
    if way == "bind_tools":
        one = one.bind_tools([see])
    if way in ("invoke", "bind_tools"):
        return message(await asyncio.to_thread(one.invoke, "Hello"))
    if way == "ainvoke":
        return message(await one.ainvoke("Hello"))
    pieces = []
    if way == "stream":
        pieces = await asyncio.to_thread(lambda: list(one.stream("Hello")))
    else:
        pieces = [piece async for piece in one.astream("Hello")]
    return {"pieces": [message(piece) for piece in pieces]}


def message(of):
    told = json.loads(of.model_dump_json())
    # A piece of a stream has an id of its own making.
    told.pop("id", None)
    return told


CLIENTS = {"agents-python": agents, "langchain-python": langchain}


# --- Claude Code, Codex, aider -------------------------------------------------------------------------------------------------


async def tool_run(case):
    """Runs a program in a home of its own, with settings that are a shell script, or Codex's file."""
    settings, name = case["with"]["settings"], case["client"]
    with tempfile.TemporaryDirectory() as home:
        work = Path(home, "work")
        work.mkdir()
        if name == "codex":
            Path(home, ".codex").mkdir()
            Path(home, ".codex/config.toml").write_text(settings)
            command = ["codex", "exec", "--skip-git-repo-check", "Say hello."]
        else:
            Path(home, "settings.sh").write_text(settings)
            command = ["sh", "../settings.sh"]
        environment = {"HOME": home, "PATH": os.environ["TOOLS"], "SLUICEGATE_CLIENT_KEY": case["key"], "TERM": "dumb"}
        ran = subprocess.run(
            command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
        )
    if ran.returncode != 0 or "nothing held back" not in ran.stdout:
        raise RuntimeError(f"{name}: {ran.returncode} {ran.stdout[-2000:]} {ran.stderr[-2000:]}")
    return {"code": ran.returncode, "out": ran.stdout}


CLIENTS |= dict.fromkeys(("claude-code", "codex", "aider"), tool_run)

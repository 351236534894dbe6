"""Asks what it is told to ask, with the official SDK for it, and says which exception came of it. Nothing is judged here."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import anthropic
import openai

HELLO = [{"role": "user", "content": "Hello"}]


def ask(case):
    options = {"api_key": case["key"], "default_headers": {"x-simulate-id": case["id"]}, "max_retries": 0, "timeout": 60}
    operation, _, stream = case["ask"].partition("_")
    stream = bool(stream)
    if operation == "messages":
        client = anthropic.Anthropic(base_url=case["base"], **options)
        came = client.messages.create(model="m", max_tokens=64, messages=HELLO, stream=stream)
    elif operation == "responses":
        client = openai.OpenAI(base_url=case["base"] + "/v1", **options)
        came = client.responses.create(model="m", input="Hello", store=False, stream=stream)
    else:
        client = openai.OpenAI(base_url=case["base"] + "/v1", **options)
        came = client.chat.completions.create(model="m", messages=HELLO, stream=stream)
    if stream:
        for _ in came:
            pass


def raised(case):
    try:
        ask(case)
    except Exception as error:
        return type(error).__name__
    return None


with open(sys.argv[1]) as file:
    cases = json.load(file)
with ThreadPoolExecutor(4) as pool:
    classes = list(pool.map(raised, cases))
print(json.dumps({case["id"]: name for case, name in zip(cases, classes, strict=True)}))

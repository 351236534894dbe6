"""Streams a chat by openai-python and by LangChain, neither of which asks for its usage, and prints what they give to their callers.

Environment: BASE_URL, API_KEY. Output: one JSON object, a list of chunks for each client.
"""

import json
import os

from langchain_openai import ChatOpenAI
from openai import OpenAI

BASE_URL, API_KEY = os.environ["BASE_URL"], os.environ["API_KEY"]
MESSAGES = [{"role": "user", "content": "Hello"}]


def openai():
    client = OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0)
    stream = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
    # As every loop over chunks does that never asked for a chunk without choices.
    chunks = []
    for chunk in stream:
        assert chunk.choices[0].index == 0
        chunks.append(chunk.model_dump())
    return chunks


def langchain():
    model = ChatOpenAI(model="gpt-4o-mini", base_url=BASE_URL, api_key=API_KEY, max_retries=0)
    return [chunk.model_dump(exclude={"id"}, mode="json") for chunk in model.stream("Hello")]


print(json.dumps({"openai": openai(), "langchain": langchain()}))

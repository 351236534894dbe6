# Save as hello.py. Then: pip install llama-index-llms-openai-like && python hello.py
import os

+ca os.environ["SSL_CERT_FILE"] = "@CA@"
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

llm = OpenAILike(
    model="@MODEL@",
    api_base="@BASE_URL@",
    api_key=os.environ["SLUICEGATE_CLIENT_KEY"],
    is_chat_model=True,
    context_window=128_000,
)
for chunk in llm.stream_chat([ChatMessage(role="user", content="Say hello.")]):
    print(chunk.delta, end="", flush=True)
print()

# Save as hello.py. Then: pip install langchain-openai && python hello.py
import os

+ca os.environ["SSL_CERT_FILE"] = "@CA@"
from langchain_openai import ChatOpenAI

# Streams report their usage only with stream_usage.
model = ChatOpenAI(
    model="@MODEL@",
    base_url="@BASE_URL@",
    api_key=os.environ["SLUICEGATE_CLIENT_KEY"],
    stream_usage=True,
)
for chunk in model.stream("Say hello."):
    print(chunk.content, end="", flush=True)
print()

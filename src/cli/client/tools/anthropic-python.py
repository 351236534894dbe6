# Save as hello.py. Then: pip install anthropic && python hello.py
import os
+ca import ssl

import anthropic

+ca trusted = ssl.create_default_context(cafile="@CA@")
client = anthropic.Anthropic(
    base_url="@BASE_URL@",
    api_key=os.environ["SLUICEGATE_CLIENT_KEY"],
+ca     http_client=anthropic.DefaultHttpxClient(verify=trusted),
)
with client.messages.stream(
    model="@MODEL@", max_tokens=200, messages=[{"role": "user", "content": "Say hello."}]
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
print()

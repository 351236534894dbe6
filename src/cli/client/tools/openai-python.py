# Save as hello.py. Then: pip install openai && python hello.py
import os
+ca import ssl

import openai

+ca trusted = ssl.create_default_context(cafile="@CA@")
client = openai.OpenAI(
    base_url="@BASE_URL@",
    api_key=os.environ["SLUICEGATE_CLIENT_KEY"],
+ca     http_client=openai.DefaultHttpxClient(verify=trusted),
)
stream = client.chat.completions.create(
    model="@MODEL@", messages=[{"role": "user", "content": "Say hello."}], stream=True
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

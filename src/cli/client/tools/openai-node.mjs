// Save as hello.mjs. Then: npm install openai && node hello.mjs
+ca // Node reads the gateway's CA from the environment: export NODE_EXTRA_CA_CERTS="@CA@"
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "@BASE_URL@", apiKey: process.env.SLUICEGATE_CLIENT_KEY });
const stream = await client.chat.completions.create({
  model: "@MODEL@",
  messages: [{ role: "user", content: "Say hello." }],
  stream: true,
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
process.stdout.write("\n");

// Save as hello.mjs. Then: npm install ai @ai-sdk/openai-compatible && node hello.mjs
+ca // Node reads the gateway's CA from the environment: export NODE_EXTRA_CA_CERTS="@CA@"
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";

const gateway = createOpenAICompatible({
  name: "sluicegate",
  baseURL: "@BASE_URL@",
  apiKey: process.env.SLUICEGATE_CLIENT_KEY,
  includeUsage: true,
});
const { textStream } = streamText({ model: gateway("@MODEL@"), prompt: "Say hello." });
for await (const text of textStream) process.stdout.write(text);
process.stdout.write("\n");

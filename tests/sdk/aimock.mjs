// A provider that nobody here wrote, with OpenAI's WebSocket APIs. Prints its URL. Ends with its standard input.
import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ port: 0 });
mock.on({ userMessage: "hello" }, { content: "Hello from the mock, in several pieces." });
await mock.start();
console.log(mock.url);
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));

// A provider that nobody here wrote, with OpenAI's and Anthropic's APIs. Prints its URL. Ends with its standard input.
import { LLMock } from "@copilotkit/aimock";

const mock = new LLMock({ port: 0 });
mock.on({ userMessage: "hello" }, { content: "Hello from the mock, in several pieces." });
mock.on({ userMessage: "Hello" }, { content: "Hello from the mock, in several pieces." });
mock.onEmbedding(/./, { embedding: [0.5, -0.25, 0.125] });
mock.onImage(/./, { image: { b64Json: "aW1hZ2U=" } });
mock.onSpeech(/./, { audio: "c3BlZWNo" });
mock.onTranscription({ transcription: { text: "Hello" } });
mock.onModerate(/./, { flagged: false, categories: { violence: false } });
await mock.start();
console.log(mock.url);
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));

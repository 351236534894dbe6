"""A collector of traces and metrics, built on the official protobuf package.

Prints its URL, then a line of JSON for each request: its headers, its spans or metrics, and the problems that it has found in them. What is wrong in any
trace is decided here, by code that shares nothing with the gateway; the tests look at what their own requests should have given.

$FORBIDDEN: texts that must be nowhere in a request, one a line.
"""

import gzip
import http.server
import json
import os
import sys

from google.protobuf.json_format import MessageToDict
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

FORBIDDEN = [text for text in os.environ.get("FORBIDDEN", "").splitlines() if text]

# All that a span may say. Anything else would be a new attribute, of which somebody has to decide that it holds no content.
ALLOWED = {
    "client.address", "error.type", "http.request.method", "http.request.resend_count", "http.response.status_code", "http.route",
    "network.protocol.version", "server.address", "server.port", "url.path", "url.scheme",
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.request.stream", "gen_ai.response.finish_reasons",
    "gen_ai.response.model", "gen_ai.response.time_to_first_chunk", "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cost", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.reasoning.output_tokens",
    "sluicegate.attempts", "sluicegate.caller", "sluicegate.connection.reused", "sluicegate.cost", "sluicegate.cost.currency",
    "sluicegate.cost.estimated", "sluicegate.group", "sluicegate.key", "sluicegate.limit", "sluicegate.phase",
    "sluicegate.queue.duration", "sluicegate.queue.position", "sluicegate.request.bytes", "sluicegate.request_id", "sluicegate.response.bytes", "sluicegate.route", "sluicegate.target",
    "sluicegate.upstream", "sluicegate.websocket.turns", "sluicegate.who",
    "langfuse.observation.completion_start_time", "langfuse.observation.type", "langfuse.observation.usage_details",
    "langfuse.trace.metadata.group", "langfuse.trace.metadata.request_id", "langfuse.trace.metadata.route", "user.id",
    "llm.cost.total", "llm.model_name", "llm.provider", "llm.token_count.completion", "llm.token_count.completion_details.reasoning", "llm.token_count.prompt",
    "llm.token_count.prompt_details.cache_read", "llm.token_count.prompt_details.cache_write", "llm.token_count.total",
    "openinference.span.kind",
}  # fmt: skip

# What names of the configuration's tags are behind.
TAGS = ("sluicegate.tags.", "langfuse.trace.metadata.tag_")


def plain(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return getattr(value, kind)


def attributes(owner):
    return {attribute.key: plain(attribute.value) for attribute in owner.attributes}


def unknown_fields(message):
    if len(UnknownFieldSet(message)):
        return True
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        values = value if field.is_repeated else [value]
        if any(unknown_fields(inner) for inner in values):
            return True
    return False


def span_of(span):
    return {
        "trace": span.trace_id.hex(),
        "span": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "state": span.trace_state,
        "remote_parent": bool(span.flags & 0x200),
        "name": span.name,
        "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": attributes(span),
        "events": {event.name: event.time_unix_nano for event in span.events},
        "status": Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
    }


def problems_of(spans, raw):
    """What must hold in any export."""
    for span in spans:
        name = span["name"]
        if len(span["trace"]) != 32 or len(span["span"]) != 16 or not int(span["trace"], 16) or not int(span["span"], 16):
            yield f"{name}: ids"
        if not span["start"] <= span["end"]:
            yield f"{name}: ends before it starts"
        if not all(span["start"] <= at <= span["end"] for at in span["events"].values()):
            yield f"{name}: an event outside of it"
        times = list(span["events"].values())
        if times != sorted(times):
            yield f"{name}: events out of order"
        for key in span["attributes"].keys() - ALLOWED:
            if key.startswith(TAGS):
                continue
            yield f"{name}: attribute {key}"
    if len({span["span"] for span in spans}) != len(spans):
        yield "two spans have one id"
    for attribute_count, span in raw:
        if attribute_count != len(span["attributes"]):
            yield f"{span['name']}: an attribute is there twice"
    roots = {span["span"]: span for span in spans if span["kind"] == "SERVER"}
    for root in roots.values():
        for key in root["attributes"]:
            if key.startswith(("gen_ai.", "llm.")):
                yield f"{root['name']}: {key} on the root"
    for child in (span for span in spans if span["span"] not in roots):
        root = roots.get(child["parent"])
        if child["kind"] != "CLIENT" or root is None or root["trace"] != child["trace"]:
            yield f"{child['name']}: no attempt of any exchange"
        elif not root["start"] <= child["start"] <= child["end"] <= root["end"]:
            yield f"{child['name']}: not within its exchange"


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        told = {"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}}
        told["problems"] = [f"holds {text}" for text in FORBIDDEN if text.encode() in body]
        if self.path.endswith("/v1/metrics"):
            response = self.metrics(body, told)
        else:
            response = self.traces(body, told)
        print(json.dumps(told), flush=True)
        answer = response.SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def traces(self, body, told):
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        if unknown_fields(request):
            told["problems"].append("unknown fields")
        spans, raw = [], []
        for resource in request.resource_spans:
            told["resource"] = attributes(resource.resource)
            told["schema"] = resource.schema_url
            for scope in resource.scope_spans:
                told["scope"] = scope.scope.name
                for span in scope.spans:
                    spans.append(span_of(span))
                    raw.append((len(span.attributes), spans[-1]))
        told["spans"] = spans
        told["problems"] += problems_of(spans, raw)
        return ExportTraceServiceResponse()

    def metrics(self, body, told):
        request = ExportMetricsServiceRequest()
        request.ParseFromString(body)
        if unknown_fields(request):
            told["problems"].append("unknown fields")
        scopes = [scope for resource in request.resource_metrics for scope in resource.scope_metrics]
        told["metrics"] = [MessageToDict(metric) for scope in scopes for metric in scope.metrics]
        return ExportMetricsServiceResponse()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    sys.stdout.flush()
    server.serve_forever()

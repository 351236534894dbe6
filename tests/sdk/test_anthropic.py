"""The official Anthropic SDK for Python before the gateway's own errors: each exception has its class, its message and its request id."""

import json
import os
import ssl

import anthropic

GATEWAY = os.environ["GATEWAY_URL"]
HELLO = {"max_tokens": 10, "messages": [{"role": "user", "content": "Hello"}]}

report = {"requests": 0, "ids": [], "expect": {}}


def client(key, path=""):
    def on_request(request):
        report["requests"] += 1

    def on_response(response):
        report["ids"].append(response.headers["x-request-id"])

    hooks = {"request": [on_request], "response": [on_response]}
    trust = ssl.create_default_context(cafile=os.environ["GATEWAY_CA"])
    web = anthropic.DefaultHttpxClient(verify=trust, event_hooks=hooks)
    return anthropic.Anthropic(base_url=GATEWAY + path, api_key=key, http_client=web, max_retries=0, timeout=60)


def refused(call, error_class, status, kind, code, param=None):
    try:
        call()
    except error_class as error:
        body = error.body
        told = (type(error), error.status_code, body["type"], body["error"]["type"], body["error"]["code"])
        assert told == (error_class, status, "error", kind, code), told
        assert body["error"]["param"] == param, body
        assert error.request_id == report["ids"][-1] == body["request_id"], error.request_id
        assert body["error"]["message"] in str(error), str(error)
        report["expect"][error.request_id] = {"status": status, "error": code}
        return
    raise AssertionError(f"no {error_class.__name__}")


def lists(known, limited):
    page = known.models.list(limit=2)
    assert ([model.id for model in page.data], page.has_more) == (["default", "gpt-4o"], True), page
    assert [model.id for model in page] == ["default", "gpt-4o", "org/gpt-4o"], "all pages"
    before = known.models.list(limit=1, before_id="org/gpt-4o")
    assert ([model.id for model in before.data], before.has_more) == (["gpt-4o"], True), before
    assert [model.id for model in limited.models.list()] == ["default", "gpt-4o"]
    model = known.models.retrieve("org/gpt-4o")
    assert (model.id, model.type, model.created_at.year) == ("org/gpt-4o", "model", 1970), model
    unknown = lambda: known.models.retrieve("gpt-5")
    refused(unknown, anthropic.NotFoundError, 404, "not_found_error", "model_not_found", "model")
    unknown = lambda: known.messages.create(model="claude-x", **HELLO)
    refused(unknown, anthropic.NotFoundError, 404, "not_found_error", "model_not_found", "model")
    wrong = lambda: known.models.list(limit=0)
    refused(wrong, anthropic.BadRequestError, 400, "invalid_request_error", "invalid_request")


def main():
    known, limited = client(os.environ["KEY_ALL"]), client(os.environ["KEY_MODELS"])
    answer = known.messages.create(model="claude-x", **HELLO)
    assert answer.content[0].text, answer
    report["expect"][report["ids"][-1]] = {"status": 200}
    wrong = lambda: client("sk-sg-nobodys").messages.create(model="m", **HELLO)
    refused(wrong, anthropic.AuthenticationError, 401, "authentication_error", "invalid_api_key")
    other = lambda: limited.messages.create(model="claude-x", **HELLO)
    refused(other, anthropic.PermissionDeniedError, 403, "permission_error", "model_not_allowed", "model")
    nowhere = lambda: client(os.environ["KEY_ALL"], "/nowhere").models.list()
    refused(nowhere, anthropic.NotFoundError, 404, "not_found_error", "route_not_found")
    twice = lambda: known.messages.create(model="m", extra_body={"stream": 1}, **HELLO)
    refused(twice, anthropic.BadRequestError, 400, "invalid_request_error", "invalid_body", "stream")
    lists(client(os.environ["KEY_ALL"], "/listed"), client(os.environ["KEY_MODELS"], "/listed"))
    with open(os.environ["REPORT"], "w") as file:
        json.dump(report, file)


main()

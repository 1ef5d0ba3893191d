"""The client, and the gate that these tests pretend to have, against the examples of docs/session-api-examples.json.

The gate's own tests hold its answers against the same file; here the examples are held against the OpenAPI
document, too.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from fake_gate import SECRET, FakeGate, error
from freshgate import FreshgateError, NoRefreshToken, SignInAgain, TryLater
from freshgate._document import parse
from freshgate._session_api import SessionApi, _UnixConnection

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = json.loads((ROOT / "docs" / "session-api-examples.json").read_text())
DESCRIPTION: Final = json.loads(
    (ROOT / "crates" / "freshgate-gateway" / "src" / "session_api" / "openapi.json").read_text()
)
ERRORS: Final[dict[str, Any]] = {example["when"]: example for example in EXAMPLES["errors"]}


def shape(value: Any) -> Any:
    """The same with every value replaced by its kind. What claims and tokens there are is not the API's to say."""
    if isinstance(value, dict):
        return {name: {} if name in {"claims", "tokens"} else shape(one) for name, one in value.items()}
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__


@pytest.mark.parametrize("document", EXAMPLES["documents"])
def test_the_client_reads_every_document(document: dict[str, Any]) -> None:
    read = parse(json.dumps(document).encode(), document["session"])
    for name in ("provider", "generation", "claims", "tokens", "expires_at", "fresh_until"):
        assert getattr(read, name) == document[name]


def test_the_fake_gate_gives_such_documents(gate: FakeGate) -> None:
    handle = gate.sign_in()
    for method, path in [("GET", "/v1/session"), ("GET", "/v1/session/token"), ("POST", "/v1/session/refresh")]:
        status, answer = ask(gate, method, path, {"Freshgate-Session": handle})
        assert (status, shape(answer)) == (200, shape(EXAMPLES["documents"][0])), path


# What each refusal is to the app.
MEANS: Final = {
    "secret": (TryLater, "unauthorized", 1.0),
    "handle": (TryLater, "bad_request", 1.0),
    "min_validity": (TryLater, "bad_request", 1.0),
    "timeout": (TryLater, "bad_request", 1.0),
    "method": (TryLater, "bad_request", 1.0),
    "path": (TryLater, "not_found", 1.0),
    "parameter": (FreshgateError, "bad_parameter", None),
    "provider": (FreshgateError, "unknown_provider", None),
    "not_exposed": (FreshgateError, "not_exposed", None),
    "unknown": (SignInAgain, "not_signed_in", None),
    "logout": (SignInAgain, "logout", None),
    "refused": (SignInAgain, "refused", None),
    "no_refresh_token": (NoRefreshToken, "no_refresh_token", None),
    "unavailable": (TryLater, "provider_unavailable", 7.0),
    "deadline": (TryLater, "deadline", 0.5),
    "store": (TryLater, "store", 1.0),
}


@pytest.mark.parametrize("when", ERRORS)
def test_the_client_knows_every_refusal(gate: FakeGate, api: SessionApi, when: str) -> None:
    status, body = ERRORS[when]["status"], ERRORS[when]["body"]
    gate.scripted["GET /v1/session"] = lambda _: (status, body)
    kind, reason, retry_after = MEANS[when]
    with pytest.raises(FreshgateError) as caught:
        api.session("h")
    assert (type(caught.value), caught.value.reason, caught.value.retry_after) == (kind, reason, retry_after)
    # What tests have the fake gate say by hand has the same members.
    _, by_hand = error(status, body["error"], body["reason"], body["retry_after"])
    assert shape(by_hand) == shape(body)


@pytest.mark.parametrize(
    ("when", "method", "path", "headers"),
    [
        ("secret", "GET", "/v1/session", {"Authorization": "Bearer wrong"}),
        ("secret", "GET", "/v1/events", {"Authorization": "Bearer wrong"}),
        ("secret", "GET", "/v1/nothing", {"Authorization": SECRET}),
        ("handle", "GET", "/v1/session", {}),
        ("handle", "POST", "/v1/session/refresh", {"Freshgate-Session": ""}),
        ("timeout", "GET", "/v1/session/token", {"Freshgate-Session": "{live}", "Freshgate-Timeout": "x"}),
        ("method", "POST", "/v1/session", {"Freshgate-Session": "{live}"}),
        ("method", "GET", "/v1/session/refresh", {"Freshgate-Session": "{live}"}),
        ("path", "GET", "/v1/nothing", {"Freshgate-Session": "{live}"}),
        ("unknown", "GET", "/v1/session", {"Freshgate-Session": EXAMPLES["documents"][0]["session"]}),
        ("logout", "GET", "/v1/session/token", {"Freshgate-Session": "{over}"}),
        ("logout", "POST", "/v1/session/refresh", {"Freshgate-Session": "{over}"}),
    ],
)
def test_the_fake_gate_refuses_alike(
    gate: FakeGate, when: str, method: str, path: str, headers: dict[str, str]
) -> None:
    handles = {"live": gate.sign_in(), "over": gate.sign_in()}
    assert ask(gate, "DELETE", "/v1/session", {"Freshgate-Session": handles["over"]}) == (204, None)
    headers = {name: value.format(**handles) for name, value in headers.items()}
    status, answer = ask(gate, method, path, headers)
    example = ERRORS[when]
    assert status == example["status"]
    assert shape(answer) == shape(example["body"])
    assert (answer["error"], answer["reason"]) == (example["body"]["error"], example["body"]["reason"])


def test_the_fake_gate_tells_the_same_events(gate: FakeGate, api: SessionApi) -> None:
    handle = gate.sign_in()
    events = api.events()
    ready = next(events)
    gate.wait_for_stream()
    gate.rotate(handle)
    gate.end(handle)
    told = [{"event": event.name, "data": dict(event.data)} for event in (ready, next(events), next(events))]
    for event, example in zip(told, EXAMPLES["events"], strict=True):
        assert (event["event"], shape(event)) == (example["event"], shape(example))


# The OpenAPI document


def described(schema: Mapping[str, Any]) -> Draft202012Validator:
    """A schema of the document, with all that it points at."""
    return Draft202012Validator({**schema, "components": DESCRIPTION["components"]})


def described_events() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for event in DESCRIPTION["components"]["schemas"]["Event"]["oneOf"]:
        yield event["properties"]["event"]["const"], event["properties"]["data"]["contentSchema"]


@pytest.mark.parametrize("document", EXAMPLES["documents"])
def test_the_description_has_every_document(document: dict[str, Any]) -> None:
    schema = DESCRIPTION["components"]["schemas"]["Session"]
    described(schema).validate(document)
    assert document.keys() == schema["properties"].keys()
    for name in document:
        assert not described(schema).is_valid({key: value for key, value in document.items() if key != name})


# What answers requests that no document has.
UNDESCRIBED: Final = {"method", "path"}


@pytest.mark.parametrize("when", ERRORS.keys() - UNDESCRIBED)
def test_the_description_has_every_refusal(when: str) -> None:
    status, body = str(ERRORS[when]["status"]), ERRORS[when]["body"]
    fitting = []
    for path in DESCRIPTION["paths"].values():
        for operation in path.values():
            if status not in operation["responses"]:
                continue
            name = operation["responses"][status]["$ref"].rpartition("/")[2]
            schema = DESCRIPTION["components"]["responses"][name]["content"]["application/json"]["schema"]
            if described(schema).is_valid(body):
                fitting.append(operation["operationId"])
            assert not described(schema).is_valid(body | {"error": "something_else"})
    assert fitting, f"no operation answers {status} {body['error']}"


def test_the_description_has_every_event() -> None:
    schemas = dict(described_events())
    assert [event["event"] for event in EXAMPLES["events"]] == list(schemas)
    for event in EXAMPLES["events"]:
        described(schemas[event["event"]]).validate(event["data"])


def ask(gate: FakeGate, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, Any]:
    """A request as it is, with the secret unless the headers say otherwise."""
    connection: http.client.HTTPConnection = _UnixConnection(str(gate.path), 5)
    connection.request(method, path, headers={"Authorization": f"Bearer {SECRET}", "Connection": "close", **headers})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, json.loads(body) if body else None

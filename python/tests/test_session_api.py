from __future__ import annotations

import json
import time

import pytest

from fake_gate import SECRET, Answer, Drop, FakeGate, Request, error
from freshgate import FreshgateError, NoRefreshToken, SignInAgain, TryLater
from freshgate._document import parse
from freshgate._session_api import SessionApi, is_handle

GOOD = {
    "session": "h",
    "provider": "default",
    "generation": 7,
    "claims": {"iss": "i", "sub": "s"},
    "tokens": {"access": "token-value"},
    "expires_at": 10.5,
    "fresh_until": None,
    "outcome": "shared",
}


def test_reads_a_session(gate: FakeGate, api: SessionApi) -> None:
    handle = gate.sign_in(name="Ada")
    document = api.session(handle)
    assert document.claims["name"] == "Ada"
    assert document.tokens == gate.sessions[handle]["tokens"]
    assert document.generation == 1


def test_refresh_names_its_wait_and_its_session(gate: FakeGate, api: SessionApi) -> None:
    handle = gate.sign_in()
    assert api.refresh(handle, wait=4.2).generation == 2
    assert gate.requests == [Request("POST", "/v1/session/refresh", handle, "4.2")]


def test_prepares_a_login(gate: FakeGate, api: SessionApi) -> None:
    for handle in ("h", None):
        assert api.prepare_login(handle, "okta", {"max_age": 0, "scope": ["a", "b"]}) == "/auth/login?prepared=sealed"
        body = {"provider": "okta", "parameters": {"max_age": 0, "scope": ["a", "b"]}}
        assert gate.requests[-1] == Request("POST", "/v1/login", handle, None, body)


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (error(400, "bad_parameter"), FreshgateError, "bad_parameter"),
        (error(404, "unknown_provider"), FreshgateError, "unknown_provider"),
        (error(404, "not_found"), TryLater, "not_found"),
        ((200, {"path": 5}), TryLater, "unexpected_answer"),
        ((200, {}), TryLater, "unexpected_answer"),
    ],
)
def test_a_login_that_cannot_be_prepared(
    gate: FakeGate, api: SessionApi, answer: Answer, kind: type[FreshgateError], reason: str
) -> None:
    gate.scripted["POST /v1/login"] = lambda _: answer
    with pytest.raises(FreshgateError) as caught:
        api.prepare_login(None, "default", {})
    assert (type(caught.value), caught.value.reason) == (kind, reason)


@pytest.mark.parametrize(
    ("answer", "kind", "reason", "retry_after"),
    [
        (error(410, "sign_in_again", "refused"), SignInAgain, "refused", None),
        (error(410, "sign_in_again"), SignInAgain, "ended", None),
        (error(404, "not_signed_in"), SignInAgain, "not_signed_in", None),
        (error(404, "no_such_path"), TryLater, "no_such_path", 1.0),
        (error(409, "no_refresh_token"), NoRefreshToken, "no_refresh_token", None),
        (error(503, "try_later", "unreachable", 12), TryLater, "unreachable", 12.0),
        (error(503, "try_later", None, float("nan")), TryLater, "try_later", 1.0),
        (error(401, "unauthorized"), TryLater, "unauthorized", 1.0),
        (error(500, "internal"), TryLater, "internal", 1.0),
        ((502, {}), TryLater, "status_502", 1.0),
        ((200, {"tokens": {"access": "token-value"}}), TryLater, "unexpected_answer", 1.0),
    ],
)
def test_says_what_an_answer_means(
    gate: FakeGate, api: SessionApi, answer: Answer, kind: type[FreshgateError], reason: str, retry_after: float
) -> None:
    gate.scripted["GET /v1/session"] = lambda _: answer
    with pytest.raises(kind) as caught:
        api.session("h")
    assert caught.value.reason == reason
    assert caught.value.retry_after == retry_after
    assert "token-value" not in repr(caught.value) + str(caught.value)


def test_a_wrong_secret_signs_nobody_out(gate: FakeGate) -> None:
    with pytest.raises(TryLater, match="cannot be checked"):
        SessionApi(gate.address, "wrong").session(gate.sign_in())


def test_a_gate_that_is_gone_or_hangs_up(gate: FakeGate, api: SessionApi) -> None:
    def drop(_: Request) -> tuple[int, dict[str, object]]:
        raise Drop

    gate.scripted["GET /v1/session"] = drop
    with pytest.raises(TryLater) as caught:
        api.session("h")
    assert caught.value.reason == "unreachable"
    gate.stop()
    with pytest.raises(TryLater) as caught:
        api.session("h")
    assert caught.value.reason == "unreachable"


def test_a_gate_that_hangs_holds_nobody_longer_than_agreed(gate: FakeGate, api: SessionApi) -> None:
    def hang(_: Request) -> tuple[int, dict[str, object]]:
        time.sleep(1)
        return 500, {}

    gate.scripted["GET /v1/session"] = hang
    with pytest.raises(TryLater) as caught:
        api.session("h", timeout=0.1)
    assert caught.value.reason == "timeout"


@pytest.mark.parametrize(
    "address",
    ["", "unix:", "http://gate.example:80", "http://127.0.0.1", "https://127.0.0.1:1", "http://127.0.0.1:x", "tcp:1"],
)
def test_refuses_addresses_off_this_machine(address: str) -> None:
    with pytest.raises(ValueError):
        SessionApi(address, SECRET)


@pytest.mark.parametrize(
    ("text", "good"),
    [("kQ0_-9", True), ("", False), ("a b", False), ("a\r\nX: y", False), ("ä", False), ("a" * 129, False)],
)
def test_handles(text: str, good: bool) -> None:
    assert is_handle(text) is good


def test_reads_a_document() -> None:
    document = parse(json.dumps(GOOD).encode(), "h")
    assert document.subject == ("default", "i", "s")
    assert not document.has_expired(10.4)
    assert document.has_expired(10.5)
    assert document.is_fresh(10.4)
    assert "token-value" not in repr(document)


@pytest.mark.parametrize(
    "change",
    [
        {"session": "another"},
        {"provider": None},
        {"generation": "7"},
        {"claims": None},
        {"tokens": []},
        {"tokens": {"access": 1}},
        {"expires_at": "soon"},
        {"fresh_until": True},
    ],
)
def test_refuses_what_is_no_document(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        parse(json.dumps(GOOD | change).encode(), "h")


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"null"])
def test_refuses_what_is_no_object(body: bytes) -> None:
    with pytest.raises(ValueError):
        parse(body, "h")


def test_follows_events_until_they_drop(gate: FakeGate, api: SessionApi) -> None:
    events = api.events()
    assert next(events).name == "ready"
    gate.wait_for_stream()
    gate.tell("changed", session="h", generation=2, claims_changed=True)
    event = next(events)
    assert (event.name, event.data) == ("changed", {"session": "h", "generation": 2, "claims_changed": True})
    gate.drop_streams()
    with pytest.raises(TryLater):
        next(events)


def test_events_with_a_wrong_secret(gate: FakeGate) -> None:
    with pytest.raises(TryLater) as caught:
        next(SessionApi(gate.address, "wrong").events())
    assert caught.value.reason == "unauthorized"

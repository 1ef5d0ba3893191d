"""The logout modules of the OpenID Foundation's suite for relying parties, against the gate as a program.

No browser: each module is a few requests, sent step by step. What was sent and what the gate did is one line of the
table at the end of the run.
"""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from conftest import Verdicts
from harness.rig import Rig, code_of
from harness.visitor import Socket, Visitor


def made(tmp_path_factory: pytest.TempPathFactory, *channels: str) -> Iterator[Rig]:
    yield from Rig.on_a_stage(tmp_path_factory.mktemp("conformance"), channels=channels)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """With a provider that tells over the back channel."""
    yield from made(tmp_path_factory, "back")


@pytest.fixture(scope="module")
def framed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """With a provider that tells over the front channel."""
    yield from made(tmp_path_factory, "front")


def what_became_of(rig: Rig, visitor: Visitor, socket: Socket, patience: float) -> str:
    """Of the session and of an open socket, in words."""
    closed = socket.seconds_until_closed(patience)
    session = "still signed in" if rig.is_signed_in(visitor) else "signed out"
    return f"{session}, socket open" if closed is None else f"{session}, socket closed after {closed:.1f} s"


@pytest.mark.parametrize(
    ("module", "way_back", "status", "code"),
    [
        ("", {}, 303, None),
        ("-other-state", {"set": {"state": "another"}}, 400, "logout_unconfirmed"),
        ("-no-state", {"omit": ["state"]}, 400, "logout_unconfirmed"),
    ],
    ids=["same_state", "other_state", "no_state"],
)
def test_rp_initiated_logout(
    rig: Rig, verdicts: Verdicts, module: str, way_back: dict[str, Any], status: int, code: str | None
) -> None:
    """RP-Initiated Logout 1.0, sections 2 and 3."""
    rig.provider.misbehave("end_session", times=1, **way_back)
    visitor = rig.sign_in()
    with visitor.open_socket() as socket:
        end_session = rig.ask_to_sign_out(visitor)
        became = what_became_of(rig, visitor, socket, 1.0)
        assert became.startswith("signed out, socket closed"), became
    answer = visitor.navigate(visitor.navigate(end_session, "cross-site").location, "cross-site")

    assert answer.status == status
    if code is None:
        assert answer.location == f"{rig.gate}/"
    else:
        assert code_of(answer) == code
    assert not rig.is_signed_in(visitor)
    said = "shows the app's start" if code is None else f"says {status} {code}"
    back = {"set": "another state", "omit": "no state"}.get(next(iter(way_back), ""), "the same state")
    verdicts.add(f"rp-init-logout{module}", f"the way back has {back}", f"{became}; {said}")


# What the logout token of each module is like, and in words.
BACK_CHANNEL: dict[str, tuple[dict[str, Any], str]] = {
    "-alg-none": ({"signature": "alg_none"}, "alg none, no signature"),
    "-no-event": ({"omit": ["events"]}, "no events"),
    "-with-nonce": ({"set": {"nonce": "a-nonce"}}, "a nonce"),
    "-wrong-alg": ({"signature": "es256"}, "ES256 with a published key, where ID tokens have RS256"),
    "-wrong-aud": ({"set": {"aud": "another-client"}}, "aud of another client"),
    "-wrong-event": ({"set": {"events": {"http://schemas.openid.net/event/another": {}}}}, "another event"),
    "-wrong-iss": ({"set": {"iss": "https://another.example"}}, "iss of another provider"),
}


@pytest.mark.parametrize("module", BACK_CHANNEL, ids=lambda module: module.strip("-").replace("-", "_"))
def test_back_channel_logout_with_a_bad_token(rig: Rig, verdicts: Verdicts, module: str) -> None:
    """Back-Channel Logout 1.0, sections 2.6 and 2.8. The session lives: what is refused ends nothing."""
    fault, words = BACK_CHANNEL[module]
    visitor = rig.sign_in()
    with visitor.open_socket() as socket:
        deliveries = rig.provider.send_logout_tokens("alice", **fault)
        became = what_became_of(rig, visitor, socket, 1.0)
    assert {(one["status"], one["cache_control"]) for one in deliveries} == {(400, "no-store")}
    assert became == "still signed in, socket open"
    verdicts.add(f"rp-backchannel-rpinitlogout{module}", f"a logout token with {words}", f"400, no-store; {became}")
    # And the way out is open.
    visitor.navigate(rig.ask_to_sign_out(visitor), "cross-site")
    assert not rig.is_signed_in(visitor)


def test_back_channel_logout(rig: Rig, verdicts: Verdicts) -> None:
    """Back-Channel Logout 1.0, sections 2.5 to 2.8."""
    told = len(re.findall("told of a logout", rig.provider.process.output()))
    visitor = rig.sign_in()
    back = visitor.navigate(rig.ask_to_sign_out(visitor), "cross-site").location
    assert visitor.navigate(back, "cross-site").status == 303
    # Told during the logout that the app began: nothing was left to end, which is as good.
    assert len(re.findall("told of a logout", rig.provider.process.output())) == told + 1

    visitor, elsewhere = rig.sign_in(), rig.sign_in()
    bystander = rig.sign_in("bob")
    with visitor.open_socket() as socket, elsewhere.open_socket() as other:
        deliveries = rig.provider.send_logout_tokens("alice", omit=["sub"])
        became = what_became_of(rig, visitor, socket, 1.0)
        assert became.startswith("signed out, socket closed"), became
        assert what_became_of(rig, elsewhere, other, 1.0).startswith("signed out, socket closed")
    assert {(one["status"], one["cache_control"]) for one in deliveries} == {(200, "no-store")}
    assert rig.is_signed_in(bystander)
    verdicts.add(
        "rp-backchannel-rpinitlogout",
        "a good logout token, during a logout of the app's and by itself",
        f"200, no-store; {became}",
    )


def test_back_channel_logout_of_a_user(rig: Rig, verdicts: Verdicts) -> None:
    """Without `sid`: all sessions of the user (section 2.7). The same `jti` again: refused (section 2.6, step 8)."""
    everywhere, bystander = [rig.sign_in() for _ in range(3)], rig.sign_in("bob")
    token: dict[str, Any] = {"omit": ["sid"], "set": {"jti": "one-of-a-kind"}}
    first, *others = rig.provider.send_logout_tokens("alice", **token)
    statuses = [delivery["status"] for delivery in (first, *others)]
    assert sorted(statuses) == [200, *[400] * len(others)] and others
    assert not any(rig.is_signed_in(visitor) for visitor in everywhere)
    assert rig.is_signed_in(bystander)
    later = rig.sign_in()
    assert {delivery["status"] for delivery in rig.provider.send_logout_tokens("alice", **token)} == {400}
    assert rig.is_signed_in(later)
    verdicts.add("(by sub)", "a logout token without sid", "200, no-store; all three of the user signed out")
    verdicts.add("(replay)", "another with the same jti", "400, no-store; a later session is still signed in")


def test_front_channel_logout(framed: Rig, verdicts: Verdicts) -> None:
    """Front-Channel Logout 1.0, sections 2 and 3. The frame is in a page of another site, so no cookie comes along."""
    visitor, elsewhere = framed.sign_in(), framed.sign_in()
    page = visitor.navigate(framed.ask_to_sign_out(visitor), "cross-site")
    (frame,) = re.findall(r'<iframe [^>]*src="([^"]*)"', page.body)
    frame = unescape(frame)
    assert parse_qs(urlsplit(frame).query).keys() == {"iss", "sid"}
    frames = Visitor(framed.gate)
    shown = frames.navigate(frame, "cross-site", **{"Sec-Fetch-Dest": "iframe"})
    assert (shown.status, shown.headers["Cache-Control"]) == (200, "no-store")
    assert shown.headers["X-Frame-Options"] is None
    assert "frame-ancestors *" in shown.headers["Content-Security-Policy"]
    (back,) = re.findall(r'id="go-on" href="([^"]*)"', page.body)
    assert visitor.navigate(unescape(back), "cross-site").location == f"{framed.gate}/"
    assert not framed.is_signed_in(visitor)
    verdicts.add(
        "rp-frontchannel-rpinitlogout",
        "a frame with iss and sid, during a logout of the app's",
        "200, no-store, may be framed; signed out",
    )

    # By itself, for a session that lives.
    assert framed.is_signed_in(elsewhere)
    revoked = len(framed.provider.requests("revoke"))
    with elsewhere.open_socket() as socket:
        end_session = f"{framed.provider.issuer}/end_session"
        asked = elsewhere.navigate(end_session, "none")
        (request,) = re.findall(r'name="request" value="([^"]*)"', asked.body)
        form = {"request": unescape(request), "decision": "sign_out"}
        headers = {"Origin": framed.provider.issuer}
        page = elsewhere.send("POST", f"{end_session}/confirm", headers, form)
        (frame,) = re.findall(r'<iframe [^>]*src="([^"]*)"', page.body)
        sid_alone = frames.navigate(re.sub(r"iss=[^&]*&", "", unescape(frame)), "cross-site")
        assert sid_alone.status == 400 and framed.is_signed_in(elsewhere)
        assert frames.navigate(unescape(frame), "cross-site", **{"Sec-Fetch-Dest": "iframe"}).status == 200
        became = what_became_of(framed, elsewhere, socket, 1.0)
        assert became.startswith("signed out, socket closed"), became
    assert len(framed.provider.requests("revoke")) == revoked, "it is not signed: no token is revoked on it"
    verdicts.add("(by the provider)", "a frame with sid alone; then with iss and sid", f"400; then 200, {became}")

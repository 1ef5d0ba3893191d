"""Shows what the app's side of a session sees, one value per element, for the stories to read."""

import hashlib
import json
import urllib.error
import urllib.request
from http import HTTPStatus

import freshgate
import streamlit as st
from streamlit.errors import StreamlitAuthError


def show(key: str, value: object) -> None:
    with st.container(key=key):
        st.text(str(value))


def access_token() -> str:
    return str(st.user.tokens["access"]) if st.user.is_logged_in else ""


def print_of(token: str) -> str:
    """Enough of a token to tell it from another, and nothing that opens anything."""
    return hashlib.sha256(token.encode()).hexdigest()[:12] if token else "none"


def call_api(token: str) -> int:
    request = urllib.request.Request(st.secrets["api"]["url"], headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def call_api_with_proof(url: str) -> int:
    """Whatever kind of token it is; asks again where the API hands out a nonce (RFC 9449, section 9)."""
    nonce: str | None = None
    while True:
        request = urllib.request.Request(url, headers=freshgate.authorization("GET", url, nonce))
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            handed_out = error.headers.get("DPoP-Nonce")
            if nonce is not None or error.code != HTTPStatus.UNAUTHORIZED or handed_out is None:
                return error.code
            nonce = handed_out


state = st.session_state
state.setdefault("runs", 0)
state.setdefault("clicks", 0)
state.setdefault("refreshed", "not yet")
state.runs += 1

st.title("Session")
show("signed_in", st.user.is_logged_in)
show("runs", state.runs)

with st.container(key="count"):
    if st.button("Count"):
        state.clicks += 1
show("clicks", state.clicks)

show("query", json.dumps(st.query_params.to_dict(), sort_keys=True))

if not st.user.is_logged_in:
    with st.container(key="log_in"):
        st.button("Log in", on_click=st.login)
    with st.container(key="log_in_at_work"):
        st.button("Log in at work", on_click=st.login, args=("work",))
    st.stop()

with st.container(key="confirm"):
    st.button("Confirm", on_click=freshgate.login, kwargs={"max_age": 0, "prompt": None})

with st.container(key="second_factor"):
    st.button("Second factor", on_click=freshgate.login, kwargs={"acr_values": ["phr", "mfa"]})

with st.container(key="log_out"):
    st.button("Log out", on_click=st.logout)

with st.container(key="refresh"):
    if st.button("Refresh"):
        before, name_before = print_of(access_token()), st.user.get("name")
        try:
            st.user.refresh()
        except StreamlitAuthError as error:
            state.refreshed = type(error).__name__
            # A session that has ended takes this page away: the log keeps what the page may not show for long.
            print(f"refresh: {state.refreshed}", flush=True)
        else:
            # The same run of the script sees the new token and the new claims.
            changed = "new token" if print_of(access_token()) != before else "same token"
            state.refreshed = f"{changed}, {name_before} -> {st.user.get('name')}"
        state.refreshes = state.get("refreshes", 0) + 1
show("refreshed", state.refreshed)
show("refreshes", state.get("refreshes", 0))
show("last_refresh", freshgate.last_refresh())

with st.container(key="call"):
    if st.button("Call the API"):
        state.answer = call_api(access_token())
show("answer", state.get("answer", "none"))

with st.container(key="call_with_proof"):
    if st.button("Call with a proof"):
        state.proven = call_api_with_proof(st.secrets["api"]["url"])
        state.calls = state.get("calls", 0) + 1
show("proven", f"{state.get('calls', 0)}: {state.get('proven', 'none')}")

show("sub", st.user.get("sub"))
show("name", st.user.get("name"))
show("provider", st.user.get("provider"))
show("acr", st.user.get("acr"))
show("auth_time", st.user.get("auth_time"))
show("groups", len(st.user.get("groups") or []))
show("token", print_of(access_token()))
show("token_size", len(access_token()))
show("userinfo_size", len(st.user.get("biography") or ""))

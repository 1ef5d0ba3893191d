"""Reads the access token twice a second and calls the provider's API with it, as a dashboard would."""

import hashlib
import urllib.error
import urllib.request

import streamlit as st


def show(key: str, value: object) -> None:
    with st.container(key=key):
        st.text(str(value))


def call_api(token: str) -> int:
    request = urllib.request.Request(st.secrets["api"]["url"], headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


state = st.session_state
state.setdefault("started", 0)
state.started += 1
state.setdefault("tokens", [])
state.setdefault("accepted", 0)
state.setdefault("refused", 0)

show("signed_in", st.user.is_logged_in)
show("started", state.started)
if not st.user.is_logged_in:
    with st.container(key="log_in"):
        st.button("Log in", on_click=st.login)
    st.stop()


@st.fragment(run_every=0.5)
def watch() -> None:
    token = str(st.user.tokens["access"])
    known = hashlib.sha256(token.encode()).hexdigest()
    if known not in state.tokens:
        state.tokens.append(known)
    if call_api(token) == 200:
        state.accepted += 1
    else:
        state.refused += 1
    show("tokens", len(state.tokens))
    show("accepted", state.accepted)
    show("refused", state.refused)


watch()

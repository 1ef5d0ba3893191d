"""Sign in once, stay signed in: what a Streamlit app gets from freshgate.

    make run          or          freshgate dev examples/streamlit/app.py --token-lifetime 30s

Nothing here imports freshgate: `st.login`, `st.user` and `st.user.tokens` are Streamlit's own, and behind the gate
`st.user.refresh()` is there too and no token that is read is ever stale.
"""

import hashlib
import json
import time
import urllib.error
import urllib.request
from typing import Any

import pandas as pd
import streamlit as st

HISTORY_SECONDS = 120
COLOR = "#14b8a6"


def call_api(token: str) -> tuple[int, dict[str, Any]]:
    """A small API of the development provider: a made-up share price. It answers 401 to a token that is over."""
    address = f"{st.user['iss']}/api/quote"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, {}


def sign_in_page() -> None:
    with st.container(border=True, key="welcome"):
        st.subheader("Sign in once, stay signed in")
        st.write(
            "The tokens of this app live for seconds, not hours. Sign in, leave the page open, and watch: "
            "they are renewed behind your back, and neither the page nor its state notices."
        )
        st.button("Sign in", type="primary", icon=":material/login:", on_click=st.login)


def who() -> None:
    name = str(st.user.get("name") or st.user["sub"])
    with st.container(border=True, key="who"):
        person, log_out = st.columns([5, 1], vertical_alignment="center")
        person.markdown(f"#### :material/account_circle: {name}")
        person.caption(f"signed in as `{st.user.get('email', st.user['sub'])}` at `{st.user['iss']}`")
        log_out.button("Log out", on_click=st.logout, width="stretch")


def actions() -> None:
    counter, refresh = st.columns(2, border=True)
    with counter:
        st.markdown("**A counter in `st.session_state`**")
        st.session_state.setdefault("counter", 0)
        if st.button("Count", icon=":material/add:"):
            st.session_state.counter += 1
        st.metric("Your clicks", st.session_state.counter, help="A full login would have lost this.")
    with refresh:
        st.markdown("**New tokens and claims, in this run**")
        if st.button("Refresh now", icon=":material/refresh:"):
            before = st.user.tokens["access"]
            try:
                st.user.refresh()
            except st.errors.StreamlitAuthError as error:
                st.session_state.told = f"Not now: {error}"
            else:
                changed = st.user.tokens["access"] != before
                st.session_state.told = "A new token, and no reload." if changed else "The same token."
        st.caption(st.session_state.get("told", "No redirect, no reload: the next line of the script has them."))


@st.fragment(run_every=1)
def life() -> None:
    """Once a second: read the token, call an API with it, show how long it has left to live."""
    token = st.user.tokens["access"]
    status, quote = call_api(token)

    seen = st.session_state.setdefault("seen", {"tokens": [], "calls": 0, "accepted": 0, "history": []})
    short = hashlib.sha256(token.encode()).hexdigest()[:8]
    if short not in seen["tokens"]:
        seen["tokens"].append(short)
    seen["calls"] += 1
    seen["accepted"] += status == 200
    left = quote.get("token_remaining_seconds", 0.0)
    now = time.time()
    seen["history"].append((now, left))
    seen["history"] = [point for point in seen["history"] if point[0] > now - HISTORY_SECONDS]

    with st.container(border=True, key="life"):
        remaining, tokens, calls, price = st.columns(4)
        remaining.metric("This token lives for", f"{left:.0f} s")
        tokens.metric("Tokens so far", len(seen["tokens"]), help=f"The newest: {short}…")
        calls.metric("API calls accepted", f"{seen['accepted']} of {seen['calls']}")
        price.metric(f"What it says of {quote.get('symbol', '?')}", f"{quote.get('price', 0):.2f}")
        line = pd.DataFrame(seen["history"], columns=["time", "seconds left"])
        line["ago"] = line["time"] - now
        st.area_chart(
            line,
            x="ago",
            y="seconds left",
            x_label="seconds ago",
            y_label="seconds left",
            color=COLOR,
            height=170,
        )
        st.caption("Each rise is a refresh: before the token ends, in the background, once for all your tabs.")


st.set_page_config(page_title="freshgate", page_icon=":material/key:")
st.title("freshgate")
if st.user.is_logged_in:
    who()
    life()
    actions()
else:
    sign_in_page()

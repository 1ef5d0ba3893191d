"""Sends whoever has to sign in again there at once, as the package's documentation shows."""

import freshgate
import streamlit as st


def show(key: str, value: object) -> None:
    with st.container(key=key):
        st.text(str(value))


show("signed_in", st.user.is_logged_in)
if not st.user.is_logged_in:
    with st.container(key="log_in"):
        st.button("Log in", on_click=st.login)
    st.stop()

with st.container(key="refresh"):
    if st.button("Refresh"):
        try:
            st.user.refresh()
        except freshgate.SignInAgain:
            st.login()

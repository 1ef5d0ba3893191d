"""Uses whatever of Streamlit goes over other routes than the page's socket."""

import hashlib
import io
import wave
from pathlib import Path

import streamlit as st
import streamlit.components.v1 as components
from PIL import Image


def show(key: str, value: object) -> None:
    with st.container(key=key):
        st.text(str(value))


def tone() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(1)
        out.setframerate(8000)
        out.writeframes(bytes(128 + (60 if i // 10 % 2 else -60) for i in range(4000)))
    return file.getvalue()


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (120, 80), "teal").save(file, "PNG")
    return file.getvalue()


def files() -> None:
    uploaded = st.file_uploader("A file")
    show("uploaded", hashlib.sha256(uploaded.getvalue()).hexdigest() if uploaded else "nothing")
    with st.container(key="download"):
        st.download_button("Download", data=b"\x00\x01 downloaded \xff" * 100_000, file_name="data.bin")


def media() -> None:
    with st.container(key="picture"):
        st.image(picture())
    with st.container(key="sound"):
        st.audio(tone(), format="audio/wav")


def component() -> None:
    declared = components.declare_component("sender", path=str(Path(__file__).parent / "component"))
    show("component_value", declared(key="sender", default="nothing yet"))


def session() -> None:
    show("sub", st.user.get("sub") if st.user.is_logged_in else "nobody")


show("signed_in", st.user.is_logged_in)
if not st.user.is_logged_in:
    with st.container(key="log_in"):
        st.button("Log in", on_click=st.login)
pages = [
    st.Page(files, default=True),
    st.Page(media),
    st.Page(component),
    st.Page(session),
]
st.navigation(pages).run()

"""Can be kept from hearing of the gate: what is connected to it is cut, and nothing connects to it."""

import os
import socket
import threading
import time
from pathlib import Path

import streamlit as st

# As the process was started: the module takes it out of `os.environ`.
VARIABLES = Path("/proc/self/environ").read_text().split("\0")
GATE = dict(line.split("=", 1) for line in VARIABLES if "=" in line)["FRESHGATE_SESSION_API"].removeprefix("unix:")
HERE = Path(__file__).parent


def cut_all() -> int:
    """Cuts this process's connections to the gate; how many there were."""
    cut = 0
    for fd in list(Path("/proc/self/fd").iterdir()):
        try:
            with socket.socket(fileno=os.dup(int(fd.name))) as one:
                if one.family == socket.AF_UNIX and one.getpeername() == GATE:
                    one.shutdown(socket.SHUT_RDWR)
                    cut += 1
        except OSError:
            pass  # no socket, not connected, or closed meanwhile
    return cut


def be_deaf() -> None:
    """Until the story says that it is enough."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        if address == GATE:
            raise ConnectionRefusedError
        connect(self, address)

    socket.socket.connect = refuse
    while not (HERE / "hear").exists():
        # More than once: a connection may have been on its way when they began to be refused.
        if cut_all():
            (HERE / "deaf").touch()
        time.sleep(0.01)
    socket.socket.connect = connect


def show(key: str, value: object) -> None:
    with st.container(key=key):
        st.text(str(value))


show("signed_in", st.user.is_logged_in)
if not st.user.is_logged_in:
    with st.container(key="log_in"):
        st.button("Log in", on_click=st.login)
    st.stop()

with st.container(key="be_deaf"):
    st.button("Be deaf", on_click=lambda: threading.Thread(target=be_deaf, daemon=True).start())
with st.container(key="refresh"):
    if st.button("Refresh"):
        st.user.refresh()
show("name", st.user.get("name"))

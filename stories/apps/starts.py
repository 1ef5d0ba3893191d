"""Starts processes of its own: one that ends when it is asked to, and one that does not."""

import subprocess
import sys

import streamlit as st

POLITE = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


@st.cache_resource
def started() -> str:
    polite = subprocess.Popen([sys.executable, "-c", POLITE])
    stubborn = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    return f"{polite.pid} {stubborn.pid}"


with st.container(key="started"):
    st.text(started())

"""A Gradio app behind the gate: who you are, and calls to your provider's API that never fail for an old token.

    python app.py

Behind a gate, its environment says where that is (docs/session-api.md). Without one, nobody is signed in.
"""

import html
import os

import freshgate
import gradio as gr
import httpx

SIGNED_OUT = '<p>You are not signed in. <a href="/auth/login">Sign in</a></p>'


def hello(request: gr.Request) -> str:
    """What the page shows of who looks at it."""
    user = freshgate.user(request)
    if user is None:
        return SIGNED_OUT
    name = html.escape(user.claims.get("name", user.claims["sub"]))
    return f'<p>Hello <b>{name}</b>, you are signed in. <a href="/auth/logout">Sign out</a></p>'


def refresh(request: gr.Request) -> str:
    user = freshgate.user(request)
    if user is not None:
        try:
            user.refresh()
        except freshgate.FreshgateError as error:
            gr.Warning(str(error))
    return hello(request)  # as the provider has it now


def call(calls: int, request: gr.Request) -> tuple[int, str, str]:
    """Calls the provider's API. However long ago the user signed in, the token is good."""
    user = freshgate.user(request)
    if user is None:
        return calls, "", SIGNED_OUT
    try:
        token = user.access_token()
    except freshgate.FreshgateError as error:
        return calls, str(error), hello(request)
    address = os.environ.get("API_URL") or f"{user.claims['iss']}/api/quote"
    answer = httpx.get(address, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    return calls + 1, f"Call {calls + 1}: {answer.status_code}", hello(request)


with gr.Blocks(title="freshgate and Gradio", analytics_enabled=False) as demo:
    gr.Markdown("# freshgate and Gradio")
    who = gr.HTML()  # a link in Markdown would open a tab of its own
    with gr.Row():
        refresh_button, call_button = gr.Button("Refresh"), gr.Button("Call the API")
    told, calls = gr.Markdown(), gr.State(0)
    demo.load(hello, None, who)
    refresh_button.click(refresh, None, who)
    call_button.click(call, calls, [calls, told, who])

if __name__ == "__main__":
    demo.launch(server_name="127.0.0.1", server_port=int(os.environ.get("PORT", "9000")))

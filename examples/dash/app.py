"""A Dash app behind the gate: who you are, and calls to your provider's API that never fail for an old token.

    python app.py

Behind a gate, its environment says where that is (docs/session-api.md). Without one, nobody is signed in.
"""

import os

import flask
import freshgate
import httpx
from dash import Dash, Input, Output, html

app = Dash(__name__, title="freshgate and Dash", update_title="")


def hello() -> html.P:
    """What the page shows of who looks at it."""
    user = freshgate.user(flask.request)
    if user is None:
        return html.P(["You are not signed in. ", html.A("Sign in", href="/auth/login")])
    name = user.claims.get("name", user.claims["sub"])
    return html.P(["Hello ", html.B(name), ", you are signed in. ", html.A("Sign out", href="/auth/logout")])


@app.callback(Output("who", "children"), Input("refresh", "n_clicks"))
def refresh(clicks: int | None) -> html.P:
    user = freshgate.user(flask.request)
    if clicks and user is not None:
        user.refresh()
    return hello()  # as the provider has it now


@app.callback(Output("told", "children"), Input("call", "n_clicks"), prevent_initial_call=True)
def call(clicks: int) -> str:
    """Calls the provider's API. However long ago the user signed in, the token is good."""
    user = freshgate.user(flask.request)
    if user is None:
        return "Sign in first."
    address = os.environ.get("API_URL") or f"{user.claims['iss']}/api/quote"
    token = user.access_token()
    answer = httpx.get(address, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    return f"Call {clicks}: {answer.status_code}"


app.layout = html.Div(
    [
        html.H1("freshgate and Dash"),
        html.Div(id="who"),
        html.Button("Refresh", id="refresh"),
        html.Button("Call the API", id="call"),
        html.P(id="told"),
    ]
)

if __name__ == "__main__":
    app.run(host="127.0.0.1", port=os.environ.get("PORT", "9000"))

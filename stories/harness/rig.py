"""A gate and the scripted provider for many short tests: no browser, a few requests each."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from .providers import DevProvider
from .stage import Stage
from .visitor import Answer, Visitor
from .waiting import until

SESSION_COOKIE = "freshgate"

# As long as any test runs: nothing is refreshed ahead while a test counts requests.
TOKEN_SECONDS = 3600.0


class Rig:
    """The scripted provider and a gate with an app behind it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.gate = stage.project.address
        assert isinstance(stage.provider, DevProvider)
        self.provider: DevProvider = stage.provider

    @classmethod
    def on_a_stage(
        cls,
        folder: Path,
        names: Mapping[str, Mapping[str, Any]] | None = None,
        channels: Sequence[str] = ("back",),
        settings: str = "",
        app: str = "session.py",
        **provider: Any,
    ) -> Iterator[Self]:
        """Sets one up, and ends it.

        `names` are further names under which the gate has the same provider, with what is different in their
        `[auth.NAME]`: each has metadata and keys of its own, which it learns at its first login. `settings` is the
        `freshgate.toml`. The app `mirror` brings what runs in Streamlit's place. `provider` has the provider's
        settings.
        """
        stage = Stage(folder, None, partial(DevProvider, **provider))
        try:
            stage.prepare(app, channels=channels, token_seconds=TOKEN_SECONDS)
            rig = cls(stage)
            rig._configure(names or {}, settings)
            with rig.misbehaving(discovery={"respond": {"status": 503}}):
                stage.start_gate(*(("--python", str(stage.project.folder / "python")) if app == "mirror" else ()))
            begins = f"{rig.gate}/auth/login"
            until(lambda: Visitor(rig.gate).navigate(begins).status == 303, "the provider to be asked again", 30)
            yield rig
        finally:
            leaked = stage.end()
        assert not leaked, f"secrets in what the gate wrote: {leaked}"

    def _configure(self, names: Mapping[str, Mapping[str, Any]], settings: str) -> None:
        project = self.stage.project
        default = project.auth(self.provider)
        of_the_gate = {"redirect_uri", "cookie_secret", "expose_tokens"}
        own = {name: value for name, value in default.items() if name not in of_the_gate}
        tables = {f"auth.{name}": _without_none({**own, **changes}) for name, changes in names.items()}
        project.write_secrets(auth=default, **tables, api={"url": self.provider.api_url})
        (project.folder / "freshgate.toml").write_text(settings)

    @contextmanager
    def misbehaving(self, **actions: Mapping[str, Any]) -> Iterator[None]:
        """The provider does these at these endpoints (`token_code` is `token:code`), until this is over.

        `{issuer}` stands for its name.
        """
        for endpoint, action in actions.items():
            text = json.dumps(action).replace("{issuer}", self.provider.issuer)
            self.provider.misbehave(endpoint.replace("token_", "token:"), **json.loads(text))
        try:
            yield
        finally:
            self.provider.behave()

    def begin(self, visitor: Visitor, name: str | None = None, user: str = "alice") -> Answer:
        """A login up to where the provider sends the browser back; or what the gate says instead of beginning one."""
        begun = visitor.navigate(f"{self.gate}/auth/login" + ("" if name is None else f"?provider={name}"))
        if begun.status != 303:
            return begun
        return visitor.navigate(f"{begun.location}&auto_login={user}", "cross-site")

    def finish(self, visitor: Visitor, way_back: Answer) -> Answer:
        """The browser comes back."""
        self.stage.remember(*parse_qs(urlsplit(way_back.location).query).get("code", []))
        answer = visitor.navigate(way_back.location, "cross-site")
        self.stage.remember(visitor.cookie(SESSION_COOKIE) or "")
        return answer

    def log_in(self, visitor: Visitor, name: str | None = None, user: str = "alice") -> Answer:
        """A whole login; what the gate says at its end, or instead of beginning one."""
        way_back = self.begin(visitor, name, user)
        return self.finish(visitor, way_back) if way_back.status in (302, 303) else way_back

    def sign_in(self, user: str = "alice", name: str | None = None) -> Visitor:
        """Somebody new, who signs in; the provider asks nothing."""
        visitor = Visitor(self.gate)
        answer = self.log_in(visitor, name, user)
        assert answer.status == 303, f"{answer.status}: {code_of(answer)}"
        assert self.is_signed_in(visitor)
        return visitor

    def is_signed_in(self, visitor: Visitor) -> bool:
        return visitor.send("GET", f"{self.gate}/auth/user", {}).status == 200

    def claims(self, visitor: Visitor) -> dict[str, Any]:
        """What `st.user` would show."""
        return dict(visitor.send("GET", f"{self.gate}/auth/user", {}).json())

    def refresh(self, visitor: Visitor) -> Answer:
        """What a page's own script asks for."""
        headers = {"Origin": self.gate, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
        return visitor.send("POST", f"{self.gate}/auth/refresh", headers)

    def ask_to_sign_out(self, visitor: Visitor) -> str:
        """The app's log-out button: where it sends the browser."""
        end_session = visitor.navigate(f"{self.gate}/auth/logout").location
        query = parse_qs(urlsplit(end_session).query)
        assert end_session.startswith(self.provider.issuer)
        assert query["post_logout_redirect_uri"] == [f"{self.gate}/oauth2callback"]
        assert query.keys() >= {"id_token_hint", "state"}
        self.stage.remember(*query["id_token_hint"], *query["state"])
        return end_session


def code_of(answer: Answer) -> str:
    """The stable code of what the gate refused, on a page or in JSON."""
    found = re.search(r"<code>([a-z_]+)</code>", answer.body) or re.search(r'"error":"([a-z_]+)"', answer.body)
    return found[1] if found else "no code"


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if value is not None}

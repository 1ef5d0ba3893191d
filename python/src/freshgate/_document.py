"""The session document, as the gate answers it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Document:
    """One session as it stood at one generation. Its repr shows no claim and no token."""

    handle: str
    provider: str
    generation: int
    claims: Mapping[str, Any] = field(repr=False)
    #: Only those that the operator exposes.
    tokens: Mapping[str, str] = field(repr=False)
    #: When the access token ends, in unix seconds. `None`: unknown.
    expires_at: float | None
    #: From when on the gate must be asked for the tokens again. `None`: never.
    fresh_until: float | None
    #: What came of asking: `refreshed`, `shared`, `not_needed`, … (docs/refresh.md). `None`: the gate is an older one.
    outcome: str | None = None

    @property
    def subject(self) -> tuple[str, Any, Any]:
        """Whose session this is. It never changes while a session lives."""
        return self.provider, self.claims.get("iss"), self.claims.get("sub")

    def has_expired(self, now: float) -> bool:
        """Whether the access token is known to be over."""
        return self.expires_at is not None and now >= self.expires_at

    def is_fresh(self, now: float) -> bool:
        """Whether the tokens may be given out without asking the gate."""
        return not self.has_expired(now) and (self.fresh_until is None or now < self.fresh_until)


def parse(body: bytes, handle: str) -> Document:
    """Reads the answer about `handle`. Raises `ValueError` for anything that is not its document."""
    raw = json.loads(body)
    if not isinstance(raw, dict):
        raise ValueError("the session document is not an object")
    tokens = _object(raw, "tokens")
    if not all(isinstance(token, str) for token in tokens.values()):
        raise ValueError("a token is not a string")
    if raw.get("session") != handle:
        raise ValueError("the document is about another session")
    provider, generation = raw.get("provider"), raw.get("generation")
    if not isinstance(provider, str) or not isinstance(generation, int):
        raise ValueError("the session document has no provider or no generation")
    return Document(
        handle=handle,
        provider=provider,
        generation=generation,
        claims=_object(raw, "claims"),
        tokens=tokens,
        expires_at=_seconds(raw, "expires_at"),
        fresh_until=_seconds(raw, "fresh_until"),
        outcome=outcome if isinstance(outcome := raw.get("outcome"), str) else None,
    )


def _object(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = raw.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")
    return value


def _seconds(raw: Mapping[str, Any], name: str) -> float | None:
    value = raw.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} is not a number")
    return float(value)

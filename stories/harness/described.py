"""What schemathesis loads (`SCHEMATHESIS_HOOKS`): some of the sessions that it names exist.

A handle that it makes up fits the schema and names nothing, so by itself it would see refusals alone.
"""

import json
import os
import random
from typing import Any

import schemathesis

KEPT: list[str] = json.loads(os.environ["SESSIONS_TO_KEEP"])
"""These are not ended."""
GIVEN_UP: list[str] = json.loads(os.environ["SESSIONS_TO_END"])
OFTEN = 0.7

# Names sessions, no secrets; and each run is to be the same.
_chance = random.Random(5)  # noqa: S311


@schemathesis.hook
def map_headers(context: Any, headers: dict[str, Any] | None) -> dict[str, Any] | None:
    """Puts a session that is there in the place of a handle that is well formed."""
    operation = context.operation
    handle = (headers or {}).get("Freshgate-Session")
    if headers is None or not isinstance(handle, str) or len(handle) != len(KEPT[0]) or _chance.random() > OFTEN:
        return headers
    ends = operation is not None and operation.method.upper() == "DELETE"
    headers["Freshgate-Session"] = _chance.choice(GIVEN_UP if ends else KEPT + GIVEN_UP)
    return headers


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Names the provider that there is, where one is named."""
    if isinstance(body, dict) and isinstance(body.get("provider"), str) and _chance.random() < OFTEN:
        body["provider"] = "default"
    return body

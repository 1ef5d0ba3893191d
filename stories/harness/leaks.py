"""No token, code, cookie or client secret may stand in a log or, in the clear, in the gate's store."""

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

# Shorter ones would be found by chance.
SHORTEST = 16

# What tokens look like, for those that a story never sees: JWTs, and the development provider's.
SHAPES = re.compile(rb"eyJ[\w-]{10,}\.[\w-]{10,}|\b[ar]t-[\w-]{20,}")


def leaks(secrets: Iterable[str], files: Iterable[Path]) -> list[str]:
    """Which files hold which kind of secret; the secrets themselves are not repeated."""
    wanted = {form for secret in secrets if len(secret) >= SHORTEST for form in (secret, quote(secret, safe=""))}
    found = []
    for file in files:
        content = file.read_bytes()
        for secret in wanted:
            place = content.find(secret.encode())
            if place >= 0:
                line = content.count(b"\n", 0, place) + 1
                found.append(f"{file.name}:{line}: a secret of {len(secret)} characters, {secret[:3]}…")
        for match in SHAPES.finditer(content):
            line = content.count(b"\n", 0, match.start()) + 1
            found.append(f"{file.name}:{line}: what looks like a token, {match[0][:5].decode()}…")
    return found

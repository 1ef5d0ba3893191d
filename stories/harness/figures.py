"""What storms measure, as the table that is shown at the end."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Figures:
    """One line of the table. Times are in seconds."""

    story: str
    provider: str
    sessions: int
    token_requests: int
    """How many token requests the provider handled."""
    reuse_detected: int
    """How often the provider saw a refresh token that had been used before."""
    lost_sessions: int
    p50: float
    p99: float
    time: float
    in_flight: int
    """The most token requests that were at the provider at once."""
    peak_connections: int
    """The most connections to the provider at once."""


def percentile(of: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by this share of them."""
    return sorted(of)[max(0, math.ceil(share * len(of)) - 1)]


def table(rows: Sequence[Figures]) -> list[str]:
    """The lines of the table."""
    names = [one.name.replace("_", " ") for one in fields(Figures)]
    cells = [[_cell(getattr(row, one.name)) for one in fields(Figures)] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    is_text = [one.type is str for one in fields(Figures)]

    def line(of: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(of, widths, is_text, strict=True)
        ]
        return "  ".join(aligned).rstrip()

    return [line(names), *map(line, cells)]


def _cell(value: object) -> str:
    match value:
        case float() if value < 10:
            return f"{value:.2f} s"
        case float():
            return f"{value:.1f} s"
        case int():
            return f"{value:,}"
        case _:
            return str(value)

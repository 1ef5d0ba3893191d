"""What a program says, compared with what it said when somebody last read it."""

import difflib
import os
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "snapshots"


def assert_says_as_before(name: str, said: str) -> None:
    """Compares with `snapshots/NAME.txt`. `UPDATE_SNAPSHOTS=1` writes that anew; read the difference then."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(said)
    before = path.read_text() if path.exists() else ""
    difference = difflib.unified_diff(before.splitlines(), said.splitlines(), str(path), "now", lineterm="")
    assert said == before, "\n".join(["it says otherwise:", *difference, "UPDATE_SNAPSHOTS=1 accepts it"])

"""Runs the tests with every Streamlit that is supported: `python tests/matrix.py [--folder DIR] [VERSION …]`.

Makes one environment per version under the folder, or uses the one that is there. Every Python on the machine will do
that the Streamlit in question works with; this one is used.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

VERSIONS: Final = ("1.50.0", "1.53.1", "1.57.0", "1.61.1", "1.67.0")
PACKAGE: Final = Path(__file__).resolve().parent.parent


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("versions", nargs="*", default=VERSIONS, metavar="VERSION")
    arguments.add_argument("--folder", type=Path, help="where the environments are kept; without it, they are not")
    given = arguments.parse_args()
    with TemporaryDirectory(prefix="freshgate-matrix-") as passing:
        folder = (given.folder or Path(passing)).resolve()
        failed = [version for version in given.versions if not passes(version, folder)]
    print("failed: " + ", ".join(failed) if failed else "all passed")
    return 1 if failed else 0


def passes(version: str, folder: Path) -> bool:
    python = folder / version / "bin" / "python"
    if not python.exists():
        venv.create(folder / version, with_pip=True)
        requirements = [f"streamlit=={version}", "pytest>=8.4", "websockets>=13"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
    print(f"Streamlit {version}", flush=True)
    return subprocess.run([python, "-m", "pytest", "--quiet"], cwd=PACKAGE, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())

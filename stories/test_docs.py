"""The documentation holds together: links lead somewhere, pages are found, examples can be read.

What is in its TOML and its commands, `config/tests/pages.rs` of the gateway looks at.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

from harness.gate import ROOT

REPOSITORY = "https://github.com/freshgate/freshgate/blob/main/"
BOOK = ROOT / "docs"
CONTENTS = BOOK / "README.md"


@cache
def pages() -> list[Path]:
    """Every Markdown file of the project."""
    listed = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [ROOT / name for name in names if (ROOT / name).is_file()]
    assert CONTENTS in found and ROOT / "README.md" in found
    return sorted(found)


def prose(page: Path) -> str:
    """A page without its examples."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def examples(page: Path, language: str) -> Iterator[str]:
    for found in re.finditer(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL):
        yield found[1]


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """The links to files of this project: as they are written, the file, the anchor."""
    without_code = re.sub(r"`[^`]*`", "`", prose(page))
    for written in re.findall(r"\]\(([^)\s]+)\)", without_code):
        target, _, anchor = written.partition("#")
        if target.startswith(REPOSITORY):
            yield written, ROOT / target.removeprefix(REPOSITORY), anchor
        elif "://" not in target and not target.startswith("mailto:"):
            yield written, (page.parent / unquote(target)).resolve() if target else page, anchor


def anchors(page: Path) -> set[str]:
    """The names that headings of a page get: its words, with hyphens between them, and a number from the second on."""
    seen: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(page), flags=re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        names.add(name if name not in seen else f"{name}-{seen[name]}")
        seen[name] = seen.get(name, 0) + 1
    return names


def test_links_of_the_documentation_lead_somewhere() -> None:
    broken = []
    followed = 0
    for page in pages():
        for written, target, anchor in links(page):
            followed += 1
            if not target.exists():
                broken.append(f"{page.relative_to(ROOT)}: {written}: no such file")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                broken.append(f"{page.relative_to(ROOT)}: {written}: no such heading")
    assert not broken, "\n".join(broken)
    assert followed > 60


def test_every_page_is_reached_from_the_table_of_contents() -> None:
    reached, queue = {CONTENTS}, [CONTENTS]
    while queue:
        for _, target, _ in links(queue.pop()):
            if target.suffix == ".md" and target.is_relative_to(BOOK) and target not in reached and target.exists():
                reached.add(target)
                queue.append(target)
    missed = {page for page in pages() if page.is_relative_to(BOOK)} - reached
    assert not missed, f"docs/README.md leads nowhere near {sorted(str(page.relative_to(ROOT)) for page in missed)}"
    assert any(target == CONTENTS for _, target, _ in links(ROOT / "README.md"))


def indented(example: str) -> str:
    return f"async def part():\n{example}" if example.startswith(" ") else example


@pytest.mark.parametrize("language", ["python", "json"])
def test_examples_in_the_documentation_can_be_read(language: str) -> None:
    found = 0
    for page in pages():
        for example in examples(page, language):
            found += 1
            try:
                if language == "python":
                    # Those that are a part of a function are indented.
                    compile(indented(example), str(page), "exec")
                else:
                    # As documents are shown to people: with comments.
                    json.loads(re.sub(r" //.*", "", example))
            except (SyntaxError, json.JSONDecodeError) as error:
                raise AssertionError(f"{page.relative_to(ROOT)}: {error}\n{example}") from error
    assert found


def test_what_the_page_for_python_apps_shows_is_in_the_examples() -> None:
    apps = [(ROOT / "examples" / name / "app.py").read_text() for name in ("fastapi", "gradio", "dash")]
    shown = list(examples(BOOK / "python.md", "python"))
    assert len(shown) >= 5
    for snippet in shown:
        assert any(f"\n{snippet}" in app for app in apps), f"no example has:\n{snippet}"

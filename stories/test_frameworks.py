"""The examples for other frameworks than Streamlit, each behind `freshgate serve`: one story, the same for all."""

import pytest
from playwright.sync_api import Page, expect

from harness.example import Example
from harness.stage import Stage

STARTED_BY = {
    "fastapi": ["-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", "{port}"],
    "gradio": ["app.py"],
    "dash": ["app.py"],
}
TOKEN_SECONDS = 6
PATIENCE = 30_000
# A page of Gradio or Dash comes alive some time after it is there.
expect.set_options(timeout=PATIENCE)


def is_signed_in(page: Page, name: str) -> None:
    expect(page.get_by_text("you are signed in.")).to_contain_text(f"Hello {name}, you are signed in.")


def is_signed_out(page: Page) -> None:
    expect(page.get_by_text("You are not signed in.")).to_be_visible()


@pytest.mark.providers("devidp")
@pytest.mark.parametrize("framework", STARTED_BY)
def test_an_app_of_any_framework_keeps_its_user(stage: Stage, framework: str) -> None:
    example = Example(stage.prepare(token_seconds=TOKEN_SECONDS), framework, *STARTED_BY[framework])
    try:
        page = stage.profile().new_page()
        page.goto(example.address)
        is_signed_out(page)

        page.get_by_role("link", name="Sign in").click()
        page.wait_for_url(f"{stage.provider.origin}/**", timeout=PATIENCE)
        stage.provider.fill_in_login(page, "alice")
        is_signed_in(page, "Alice Example")

        # New claims, in place.
        page.evaluate("window.sameDocument = true")
        stage.provider.change_user("alice", name="Alice Renamed")
        page.get_by_role("button", name="Refresh").click()
        is_signed_in(page, "Alice Renamed")

        # Over several lives of the token no call is refused.
        calls, refreshes = 0, stage.provider.refreshes()
        while stage.provider.refreshes() < refreshes + 3:
            calls += 1
            page.get_by_role("button", name="Call the API").click()
            expect(page.get_by_text(f"Call {calls}: ")).to_have_text(f"Call {calls}: 200")
        assert page.evaluate("window.sameDocument"), "the page was loaded again"
        assert stage.provider.most_at_once() == 1

        # Signed out in one tab, signed out in all.
        other = page.context.new_page()
        other.goto(example.address)
        is_signed_in(other, "Alice Renamed")
        other.get_by_role("link", name="Sign out").click()
        is_signed_out(other)
        page.get_by_role("button", name="Refresh").click()
        is_signed_out(page)
    finally:
        example.end()

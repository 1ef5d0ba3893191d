"""A browser tab with a Streamlit app in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Locator, Page, expect

from .providers import Provider

PATIENCE = 20_000

# Keeps the page's sockets where a story can count and close them.
KEEP_SOCKETS = """
window.storySockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...all) { super(...all); window.storySockets.push(this); }
};
"""


class Tab:
    """One tab. Values of the app are read by the key of the container that shows them."""

    def __init__(self, page: Page, address: str, provider: Provider) -> None:
        page.add_init_script(KEEP_SOCKETS)
        self.page = page
        self.address = address
        self.provider = provider

    def open(self, path: str = "/") -> "Tab":
        self.page.goto(self.address + path, wait_until="commit")
        return self

    def part(self, key: str) -> Locator:
        return self.page.locator(f".st-key-{key}")

    def text(self, key: str) -> str:
        """What the app shows under a key, now."""
        return self.part(key).inner_text(timeout=PATIENCE).strip()

    def glimpse(self, key: str) -> str:
        """What the app shows under a key this very moment; nothing if it is not there."""
        return "".join(self.part(key).all_inner_texts()).strip()

    def number(self, key: str) -> int:
        return int(self.text(key))

    def shows(self, key: str, value: object, seconds: float = 20.0) -> "Tab":
        """Waits until the app shows a value."""
        expect(self.part(key)).to_have_text(str(value), timeout=seconds * 1000)
        return self

    def shows_other(self, key: str, value: object, seconds: float = 20.0) -> "Tab":
        """Waits until the app shows anything else than a value."""
        expect(self.part(key)).not_to_have_text(str(value), timeout=seconds * 1000)
        return self

    def click(self, key: str) -> "Tab":
        # During a run, elements of the last one are still there and about to go.
        expect(self.page.get_by_test_id("stApp")).to_have_attribute(
            "data-test-script-state", "notRunning", timeout=PATIENCE
        )
        self.part(key).locator("button").click(timeout=PATIENCE)
        return self

    def is_signed_in(self, seconds: float = 20.0) -> "Tab":
        return self.shows("signed_in", True, seconds)

    def is_signed_out(self, seconds: float = 20.0) -> "Tab":
        return self.shows("signed_in", False, seconds)

    def sign_in(self, user: str = "alice") -> "Tab":
        """From the app's log-in button over the provider's page and back."""
        return self.click("log_in").pass_the_providers_page(user)

    def pass_the_providers_page(self, user: str) -> "Tab":
        """Does what a person does at the provider, and waits for the app."""
        self.page.wait_for_url(f"{self.provider.origin}/**", timeout=PATIENCE)
        self.provider.fill_in_login(self.page, user)
        return self.is_signed_in()

    def log_out(self) -> "Tab":
        """From the app's log-out button over the provider's page, where it shows one, and back."""
        # The page that is left shows a signed-out user before the browser has gone anywhere.
        with self.page.expect_event("domcontentloaded", lambda page: page.url.startswith(self.address)):
            self.click("log_out")
            self.provider.confirm_logout(self.page)
        return self.is_signed_out()

    def refresh(self) -> str:
        """Clicks "Refresh" and tells what the app says came of it."""
        before = self.number("refreshes")
        self.click("refresh").shows("refreshes", before + 1)
        return self.text("refreshed")

    def call_api(self) -> str:
        """Has the app call the provider's API with the access token it reads; the status."""
        self.shows_other("answer", "")
        self.click("call").shows_other("answer", "none")
        return self.text("answer")

    def sockets(self) -> int:
        """How many times this page has opened its socket."""
        return int(self.page.evaluate("window.storySockets.length"))

    def is_connected(self) -> bool:
        """Whether the page's newest socket is open."""
        return bool(self.page.evaluate("window.storySockets.at(-1)?.readyState === WebSocket.OPEN"))

    @contextmanager
    def offline(self) -> Iterator[None]:
        """Cuts the page's socket, and lets it connect again only afterwards."""
        self.page.route("**/_stcore/**", lambda route: route.abort("internetdisconnected"))
        self.page.evaluate("window.storySockets.at(-1).close()")
        yield
        self.page.unroute("**/_stcore/**")

    def cookies(self) -> dict[str, Any]:
        """The cookies that the browser would send to the gate."""
        return {one["name"]: one for one in self.page.context.cookies(self.address)}

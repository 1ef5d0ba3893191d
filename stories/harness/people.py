"""People who sign in by the hundred: the requests that a browser sends, without a browser for each."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp
from yarl import URL

from .providers import OidcProvider, Provider

AT_ONCE = 24
COOKIE = "freshgate"


async def sign_in(address: str, provider: Provider, user: str) -> str:
    """Signs somebody in at the gate of this address; the cookie that her browser then has."""
    # Cookies know no ports: everybody has a jar of her own. Addresses such as 127.0.0.1 have cookies too.
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        authorize = await _redirect(browser, "GET", f"{address}/auth/login")
        back = await _pass_the_provider(browser, provider, authorize, user)
        assert back.startswith(f"{address}/oauth2callback"), f"{user} was sent to {urlsplit(back)._replace(query='')}"
        await _redirect(browser, "GET", back)
        cookies = browser.cookie_jar.filter_cookies(URL(address))
        assert COOKIE in cookies, f"{user} came back without a session"
        return cookies[COOKIE].value


async def sign_in_all(addresses: Sequence[str], provider: Provider, users: Sequence[str]) -> list[str]:
    """Signs people in, at each gate as many; their cookies."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, user: str) -> str:
        async with turns:
            return await sign_in(addresses[number % len(addresses)], provider, user)

    return list(await asyncio.gather(*(one(number, user) for number, user in enumerate(users))))


async def _pass_the_provider(browser: aiohttp.ClientSession, provider: Provider, authorize: str, user: str) -> str:
    """From the authorization request to the address that the browser is sent back to."""
    if isinstance(provider, OidcProvider):
        form = await _redirect(browser, "GET", authorize)
        resume = await _redirect(browser, "POST", form, {"prompt": "login", "login": user, "password": "any"})
        return await _redirect(browser, "GET", resume)
    return await _redirect(browser, "GET", f"{authorize}&{urlencode({'auto_login': user})}")


async def _redirect(browser: aiohttp.ClientSession, method: str, url: str, form: dict[str, str] | None = None) -> str:
    """Where a request is sent on to."""
    # As the address came: another spelling of the same could be refused.
    async with browser.request(method, URL(url, encoded=True), data=form, allow_redirects=False) as answer:
        place = urlsplit(url)._replace(query="").geturl()
        assert "Location" in answer.headers, f"{place} answered {answer.status}: {(await answer.text())[:500]}"
        return urljoin(url, answer.headers["Location"])

"""Cookies, proxy and credentials: from the environment only, and kept out of every text.

PIPELINE_COOKIES: a cookie file in Netscape form. PIPELINE_PROXY: http(s) or SOCKS URL.
PIPELINE_YTDLP_OPTIONS: a JSON object over ``download.ytdlp_options``, for what is private.
"""

import http.cookiejar
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline_src.config.page_options import option_problem
from pipeline_src.errors import ConfigError
from pipeline_src.manifest.ledger import MAX_DETAIL_CHARS
from pipeline_src.system.url_secrets import HIDDEN, hide_secrets

COOKIES_VARIABLE = "PIPELINE_COOKIES"
PROXY_VARIABLE = "PIPELINE_PROXY"
OPTIONS_VARIABLE = "PIPELINE_YTDLP_OPTIONS"
MIN_SECRET_CHARS = 4
# Longer messages are cut off before and after: a page can be in them.
MAX_SCRUBBED_CHARS = 100_000


@dataclass(frozen=True)
class Secrets:
    """What must not be written anywhere; ``scrub`` every text that a foreign library wrote."""

    proxy: str = field(default="", repr=False)
    cookie_text: str = field(default="", repr=False)
    cookies: tuple[http.cookiejar.Cookie, ...] = field(default=(), repr=False)
    ytdlp_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def scrub(self, text: str) -> str:
        """Return ``text`` in bounds and without any secret, those in addresses included."""
        text = hide_secrets(text[:MAX_SCRUBBED_CHARS])
        for secret in sorted(set(self._values()), key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text[:MAX_DETAIL_CHARS]

    def _values(self) -> Iterator[str]:
        found = [self.proxy, *(cookie.value or "" for cookie in self.cookies)]
        if self.proxy:
            address = urlsplit(self.proxy)
            found += [address.netloc, address.username or "", address.password or ""]
        found += _texts(self.ytdlp_options)
        for value in found:
            for form in (value, unquote(value)):
                if len(form) >= MIN_SECRET_CHARS:
                    yield form


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def read_secrets(environ: Mapping[str, str] = os.environ) -> Secrets:
    """Read the secrets from the environment.

    Raises:
        ConfigError: a variable is set to something unusable; its value is not shown.
    """
    cookie_file = environ.get(COOKIES_VARIABLE, "")
    proxy = environ.get(PROXY_VARIABLE, "")
    if proxy and not urlsplit(proxy).hostname:
        raise ConfigError(f"{PROXY_VARIABLE} is no URL such as http://user:password@host:port")
    return Secrets(
        proxy,
        *(_read_cookies(Path(cookie_file)) if cookie_file else ("", ())),
        _read_options(environ.get(OPTIONS_VARIABLE, "") or "{}"),
    )


def _read_cookies(path: Path) -> tuple[str, tuple[http.cookiejar.Cookie, ...]]:
    jar = http.cookiejar.MozillaCookieJar(path)
    try:
        jar.load(ignore_discard=True, ignore_expires=True)
        for cookie in jar:
            cookie.expires = cookie.expires or None  # browsers export 0 for a session's cookies
        return path.read_text(encoding="utf-8"), tuple(jar)
    except (OSError, UnicodeDecodeError) as error:  # LoadError is an OSError
        problem = error.strerror if isinstance(error, OSError) and error.strerror else "not in form"
        raise ConfigError(
            f"{COOKIES_VARIABLE}: the cookie file cannot be read ({problem}); it must be in "
            "Netscape form, first line '# Netscape HTTP Cookie File'"
        ) from None


def _read_options(text: str) -> dict[str, Any]:
    try:
        options = json.loads(text)
    except json.JSONDecodeError:
        options = None
    if not isinstance(options, dict):
        raise ConfigError(f"{OPTIONS_VARIABLE} is no JSON object such as " + '{"username": "x"}')
    if problem := option_problem(options, is_private=True):
        raise ConfigError(f"{OPTIONS_VARIABLE}: {problem}")
    return options

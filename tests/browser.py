"""A real headless Chromium: the system's own, driven by Playwright."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium here: install it, as .ci/run does"
)
FLAGS = (
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
    *("--autoplay-policy=no-user-gesture-required", "--disable-gpu"),
)
REFUSED = "the server responded with a status of 422"
WAIT_MS = 60_000.0
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser. Until it ends, asyncio has a loop in this thread: run none of one's own."""
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=FLAGS,
            chromium_sandbox=os.geteuid() != 0,  # root has none
            timeout=2 * WAIT_MS,
        )
        yield chromium
        chromium.close()


@contextmanager
def open_page(browser: Browser, url: str, **options) -> Iterator[Page]:
    """Open a page in a profile of its own; it must meet no error and ask its own host alone."""
    problems: list[str] = []
    asked: set[str] = set()
    context = browser.new_context(**options)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if _is_problem(said) else None)
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.goto(url)
    yield page
    context.close()
    assert not problems
    assert asked <= {urlsplit(url).netloc, ""}


def _is_problem(said: ConsoleMessage) -> bool:
    """Tell an error from the line that a browser writes of each file that a server refuses."""
    return said.type == "error" and REFUSED not in said.text


def wait_until(page: Page, condition: str) -> None:
    """Wait until an expression is true, also where the page's policy forbids it to evaluate any."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"never true: {condition}"
        page.wait_for_timeout(100)

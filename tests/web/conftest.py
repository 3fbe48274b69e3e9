"""Fixtures of the web page's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext
from playwright.sync_api import Page as Tab
from web_rig import Device, Page, start_browser


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device with a history of two days, which listens."""
    return Device(tmp_path)


@pytest.fixture
def page(device: Device, tmp_path: Path) -> Iterator[Page]:
    """The page of the device, on this machine only."""
    page = Page(tmp_path)
    try:
        yield page.start()
    finally:
        page.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    yield from start_browser()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A fresh profile of the browser, in Britain, which waits patiently on a busy machine."""
    context = browser.new_context(locale="en-GB", viewport={"width": 1400, "height": 900})
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def tab(context: BrowserContext) -> Iterator[Tab]:
    """A tab that must end without an error in its console, but for lost connections."""
    tab = context.new_page()
    faults: list[str] = []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on(
        "console",
        lambda message: (
            faults.append(message.text) if message.type == "error" and "net::ERR_" not in message.text else None
        ),
    )
    yield tab
    assert faults == []

"""A browser for the pages that gliorun writes, and what to ask of a page in it."""

from __future__ import annotations

import shutil

import pytest

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
WIDER_THAN_ITS_PLACE = """[...document.querySelectorAll("td, dd, dt, li, p, h1, h2, summary")]
    .filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.innerText.slice(0, 80))"""
"""Gives the texts that stick out of the window."""
TOO_DARK = """[...document.querySelectorAll("h1, h2, p, td, th, dt, dd, small, summary, code")]
    .filter(e => getComputedStyle(e).color.match(/\\d+/g).slice(0, 3).every(c => c < 140))
    .map(e => e.innerText)"""
"""Gives the texts that cannot be read on a dark page."""


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no Chromium: none of {', '.join(BROWSERS)} is on the path")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path)
        yield browser
        browser.close()

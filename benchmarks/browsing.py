"""The page in Debian's Chromium, as somebody sees it who is logged in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page, expect, sync_playwright

from llmser_tasks.services.airflow_settings import ADMIN
from llmser_tasks.services.stack import Stack


@contextmanager
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium")
    if found is None:
        raise SystemExit("There is no chromium on the PATH; Debian has it in a package of that name.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, here: Stack, size: tuple[int, int], scheme: str) -> Iterator[Page]:
    """A tab with somebody logged in."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    tab = context.new_page()
    expect.set_options(timeout=60_000)
    tab.set_default_timeout(60_000)
    tab.goto(f"{here.url}/auth/login/")
    tab.locator("input[name=username]").fill(ADMIN)
    tab.locator("input[name=password]").fill(here.password)
    tab.locator("button[type=submit]").click()
    tab.wait_for_url(lambda url: "/auth/" not in url)
    yield tab
    context.close()


def shown(tab: Page, here: Stack, path: str) -> None:
    """Open one of our pages, and wait until it has content and has asked for all of it."""
    tab.goto(f"{here.url}/llmser/{path}")
    content(tab)
    tab.wait_for_load_state("networkidle")


def content(tab: Page) -> None:
    """Wait for the first of it that comes from the warehouse."""
    expect(tab.locator("main .card, main .tile").first).to_be_visible()

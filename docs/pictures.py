"""The story of a run with failed batches in a browser, and the README's pictures of it, from the running product.

    llmser up &
    python docs/pictures.py [--every FOLDER]

A run on sample data, while the ranker says of some questions that the quota is used up, so that batches fail. The fault
ends, "Rerun failed batches" is pressed on the page, and the run goes on to its figures. The answers that the ledger
holds before and after are counted. --every takes each view, light, dark and 390 pixels wide, into a folder. Needs
Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import text

from llmser_tasks import settings
from llmser_tasks.sample import write_sample
from llmser_tasks.services import airflow_api, stack
from llmser_tasks.services.environment import ADMIN
from llmser_tasks.services.stack import Stack
from llmser_tasks.warehouse.engine import transaction

IMAGES = Path(__file__).parent / "images"
USERS = 1000
SETTINGS = {"dataset": "sample-amazon", "epochs": 12, "users_per_batch": 50, "seeds": [42, 43]}
FAULT = "arrears=0.004"  # the share of distinct questions that find the quota used up
PATIENCE_MS = 30 * 60_000
WIDE, PHONE = (1200, 844), (390, 844)
LOOKS = {"light": (WIDE, "light"), "dark": (WIDE, "dark"), "phone": (PHONE, "light")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=Path, metavar="FOLDER")
    every = parser.parse_args().every
    here = stack.attached(settings.home())
    chromium = shutil.which("chromium")
    if here is None or chromium is None:
        raise SystemExit("Start the services with `llmser up`, and have chromium on the PATH.")
    seed = int(time.time())  # other titles each time, so that the ledger does not know the questions yet
    files = write_sample(here.home / "pictures" / str(seed), users=USERS, seed=seed)
    values = SETTINGS | {"reviews": str(files.reviews), "items": str(files.items)}
    with sync_playwright() as playwright, here.client() as client, httpx.Client(trust_env=False) as faults:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def fault(spec: str) -> None:
            ranker = here.addresses.ranker.removesuffix("/v1")
            faults.post(f"{ranker}/faults", json={"spec": spec}).raise_for_status()

        try:
            fault(FAULT)
            run_id = airflow_api.trigger(client, values)
            _over(client, run_id)
        finally:
            fault("")
        before = _answers(here)
        with _opened(browser, here, *LOOKS["light"]) as tab:
            _rerun(tab, here, run_id)
        with _opened(browser, here, (390, 720), "dark") as tab:
            _show(tab, here, f"run?run={quote(run_id)}&view=results")
            tab.screenshot(path=IMAGES / "page-phone.png")
        print(f"{before} answers when the batches had failed, {_answers(here)} at the end; none is asked for twice.")
        if every:
            _every(browser, here, run_id, every)
        browser.close()


def _rerun(tab: Page, here: Stack, run_id: str) -> None:
    """From the failed batches to the figures, with the pictures on the way."""
    tab.goto(f"{here.url}/dags/{airflow_api.DAG}/runs/{quote(run_id)}")
    tab.locator("a[href$='/plugin/llmser_run']").click()
    frame = tab.frame_locator("iframe")
    expect(frame.locator(".cell.failed").first).to_be_visible()
    tab.set_viewport_size({"width": 1200, "height": 1100})
    tab.screenshot(path=IMAGES / "page-batches.png")
    failed = frame.locator(".grid .cell.failed").count()
    frame.get_by_role("button", name="Rerun failed batches").click()
    frame.locator("dialog").get_by_role("button", name="Rerun", exact=True).click()
    expect(frame.locator("dialog")).to_have_count(0)
    print(f"{failed} failed batches of {run_id} run again.")
    expect(frame.locator(".badge").first).to_have_text("succeeded", timeout=PATIENCE_MS)
    expect(frame.locator(".grid .cell.failed")).to_have_count(0)
    frame.get_by_role("button", name="Results").click()
    expect(frame.locator("canvas").first).to_be_visible()
    _show(tab, here, f"run?run={quote(run_id)}&view=results")
    tab.set_viewport_size({"width": 1200, "height": 1500})
    tab.locator(".figures").first.scroll_into_view_if_needed()
    tab.locator(".figures").first.screenshot(path=IMAGES / "page-results.png")


def _every(browser: Browser, here: Stack, run_id: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    views = {view: f"run?run={quote(run_id)}&view={view}" for view in ("progress", "results", "users", "costs")}
    pages = {"overview": "", "dataset": "dataset?dataset=sample-amazon"} | views
    for look, (size, scheme) in LOOKS.items():
        with _opened(browser, here, size, scheme) as tab:
            for name, path in pages.items():
                _show(tab, here, path)
                tab.screenshot(path=folder / f"{name}-{look}.png", full_page=True)


@contextmanager
def _opened(browser: Browser, here: Stack, size: tuple[int, int], scheme: str) -> Iterator[Page]:
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


def _show(tab: Page, here: Stack, path: str) -> None:
    tab.goto(f"{here.url}/llmser/{path}")
    expect(tab.locator("main .card, main .tile").first).to_be_visible()
    tab.wait_for_load_state("networkidle")


def _over(client: httpx.Client, run_id: str) -> None:
    """Wait until Airflow has nothing more to do for a run."""
    while True:
        with suppress(httpx.TransportError):  # busy for a moment
            if airflow_api.run(client, run_id)["state"] in ("success", "failed"):
                return
        time.sleep(1)


def _answers(here: Stack) -> int:
    with transaction(here.addresses.warehouse) as connection:
        return int(connection.scalar(text("select count(*) from answers")) or 0)


if __name__ == "__main__":
    main()

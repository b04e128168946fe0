"""The story of a run with failed batches in a browser, and the README's pictures of it, from the running product.

    LLMSER_RANKER_FAULTS= llmser up &
    python docs/pictures.py [--every FOLDER]

A run on sample data is triggered by Airflow's form, while the ranker says of some questions that the quota is used up,
so that two batches fail. The fault ends, "Rerun failed batches" is pressed on the page, and the run goes on to its
figures. The answers that the ledger holds before and after are counted. --every takes each view, light, dark and 390
pixels wide, into a folder. Needs Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import httpx
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import text

from llmser_tasks.asking.ask import plan
from llmser_tasks.sample import write_sample
from llmser_tasks.services import airflow_api
from llmser_tasks.services.stack import Stack
from llmser_tasks.warehouse.engine import transaction

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import browsing
import failing
import services

IMAGES = Path(__file__).parent / "images"
USERS = 1000
BATCH = 50
FAILING = 2  # batches
DATASET = "sample-amazon"
SECTIONS = {"epochs": "Recommender", "users_per_batch": "LLM endpoint"}  # of the form, beside the one that is open
PATIENCE_MS = 30 * 60_000
WIDE, PHONE = (1200, 844), (390, 844)
LOOKS = {"light": (WIDE, "light"), "dark": (WIDE, "dark"), "phone": (PHONE, "light")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=Path, metavar="FOLDER")
    every = parser.parse_args().every
    here = services.running()
    seed = int(time.time())  # other titles each time, so that the ledger does not know the questions yet
    files = write_sample(here.home / "sample" / str(seed), users=USERS, seed=seed)
    values = {"dataset": DATASET, "reviews": str(files.reviews), "items": str(files.items)}
    values |= {"epochs": "12", "users_per_batch": str(BATCH)}
    with browsing.chromium() as browser, here.client() as client:
        with services.faulty(here, _fault(here, values)):
            with browsing.opened(browser, here, *LOOKS["light"]) as tab:
                run_id = _trigger(tab, here, client, values)
            _over(client, run_id)
        before = _counted(here, run_id)
        with browsing.opened(browser, here, *LOOKS["light"]) as tab:
            _rerun(tab, here, run_id)
        with browsing.opened(browser, here, (390, 720), "dark") as tab:
            browsing.shown(tab, here, f"run?run={quote(run_id)}&view=results")
            tab.screenshot(path=IMAGES / "page-phone.png")
        print(f"SNF, answers and requests: {before} when two batches had failed, {_counted(here, run_id)} at the end.")
        if every:
            _every(browser, here, run_id, every)


def _fault(here: Stack, values: dict[str, str]) -> str:
    """The fault by which two of the run's batches fail."""
    run, refs = failing.prepared(values, here.warehouse)
    batches = plan(failing.users(run, refs), BATCH)
    return failing.fault(run, refs, batches, run.config.dataset.noun, FAILING)


def _trigger(tab: Page, here: Stack, client: httpx.Client, values: dict[str, str]) -> str:
    """Fill in Airflow's form and send it; the run's id."""
    before = {run["dag_run_id"] for run in airflow_api.runs(client)}
    tab.goto(f"{here.url}/dags/{airflow_api.DAG}")
    tab.get_by_role("button", name="Trigger").first.click()
    form = tab.get_by_role("dialog")
    for name, value in values.items():
        if name in SECTIONS:  # one section is open at a time
            form.get_by_role("button", name=SECTIONS[name]).click()
        field = form.locator(f"input[name=element_{name}]")
        field.fill(value)
        field.press("Tab")
    form.get_by_role("button", name="Trigger", exact=True).click()
    expect(form).to_have_count(0)
    (run_id,) = {run["dag_run_id"] for run in airflow_api.runs(client)} - before
    return str(run_id)


def _rerun(tab: Page, here: Stack, run_id: str) -> None:
    """From the failed batches to the figures, with the pictures on the way."""
    tab.goto(f"{here.url}/dags/{airflow_api.DAG}/runs/{quote(run_id)}")
    tab.locator("a[href$='/plugin/llmser_run']").click()
    frame = tab.frame_locator("iframe")
    expect(frame.locator(".cell.failed").first).to_be_visible()
    tab.set_viewport_size({"width": 1200, "height": 1340})
    tab.screenshot(path=IMAGES / "page-batches.png")
    expect(frame.locator(".grid .cell.failed")).to_have_count(FAILING)
    frame.get_by_role("button", name="Rerun failed batches").click()
    frame.locator("dialog").get_by_role("button", name="Rerun", exact=True).click()
    expect(frame.locator("dialog")).to_have_count(0)
    print(f"{FAILING} failed batches of {run_id} run again.")
    expect(frame.locator(".badge").first).to_have_text("succeeded", timeout=PATIENCE_MS)
    expect(frame.locator(".grid .cell.failed")).to_have_count(0)
    frame.get_by_role("button", name="Results").click()
    expect(frame.locator("canvas").first).to_be_visible()
    browsing.shown(tab, here, f"run?run={quote(run_id)}&view=results")
    tab.set_viewport_size({"width": 1200, "height": 1500})
    tab.locator(".figures").first.scroll_into_view_if_needed()
    tab.locator(".figures").first.screenshot(path=IMAGES / "page-results.png")


def _every(browser: Browser, here: Stack, run_id: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    views = {view: f"run?run={quote(run_id)}&view={view}" for view in ("progress", "results", "users", "costs")}
    pages = {"overview": "", "dataset": f"dataset?dataset={DATASET}"} | views
    for look, (size, scheme) in LOOKS.items():
        with browsing.opened(browser, here, size, scheme) as tab:
            for name, path in pages.items():
                browsing.shown(tab, here, path)
                tab.screenshot(path=folder / f"{name}-{look}.png", full_page=True)


def _over(client: httpx.Client, run_id: str) -> None:
    """Wait until Airflow has nothing more to do for a run."""
    while True:
        with suppress(httpx.TransportError):  # busy for a moment
            if airflow_api.run(client, run_id)["state"] in ("success", "failed"):
                return
        time.sleep(1)


def _counted(here: Stack, run_id: str) -> tuple[int, int]:
    """Answers of SNF in the ledger, and requests made for them."""
    statement = text(
        "select (select count(*) from answers where run_id = :run and step = 'snf'),"
        " (select sum(calls) from batches where run_id = :run and step = 'snf')"
    )
    with transaction(here.warehouse) as connection:
        answers, requests = connection.execute(statement, {"run": run_id}).one()
    return int(answers), int(requests or 0)


if __name__ == "__main__":
    main()

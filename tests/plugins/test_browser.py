"""The page in a browser: what it shows, what it refuses to run, and the button that reruns failed batches."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from filled_warehouse import (
    BEFORE_IT,
    BROKEN,
    DATASET,
    FINISHED,
    GONE,
    HOSTILE,
    OTHER,
    SEVERAL,
    STUCK,
    STUDY,
    fill_several,
)
from patience import PATIENCE_S
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, expect, sync_playwright
from playwright.sync_api import Page as Tab
from served_page import Page
from sqlalchemy import text

from llmser_tasks.core.config import from_flat, to_flat
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.names import BY_PART, CONDITIONAL, INTERVALS, OF_ITEM_MAPS, ONE_SEED, about_item_map
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import acceptance, runs

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")
RUN, SHOP, STOOD = quote(FINISHED, safe=""), quote(DATASET, safe=""), quote(STUCK, safe="")
VIEWS = [f"/run?run={RUN}&view={view}" for view in ("progress", "results", "users", "costs")]
STUDIES = ["/studies", f"/study?study={quote(STUDY, safe='')}"]
EVERY = ["/", f"/dataset?dataset={SHOP}", *STUDIES, *VIEWS, f"/run?run={BROKEN}", f"/run?run={STOOD}"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def as_somebody(browser: Browser, page: Page, role: str, **how: Any) -> BrowserContext:
    context = browser.new_context(**how)
    context.set_default_timeout(1_000 * PATIENCE_S)
    expect.set_options(timeout=1_000 * PATIENCE_S)
    context.add_cookies([{"name": "_token", "value": page.token(role), "url": page.url, "httpOnly": True}])
    return context


def shown(tab: Tab, page: Page, path: str) -> None:
    """Open a page and wait for its data."""
    tab.goto(f"{page.url}/llmser{path}")
    expect(tab.locator("main h1")).to_be_visible()
    expect(tab.locator("main .card, main .tile").first).to_be_visible()
    tab.wait_for_load_state("networkidle") if BROKEN not in path else None


@pytest.fixture(scope="module")
def viewer(chromium: Browser, page: Page) -> Iterator[Tab]:
    context = as_somebody(chromium, page, "viewer")
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("path", EVERY)
def test_hostile_text_is_text_and_nothing_inline_is_needed(viewer: Tab, page: Page, path: str) -> None:
    said: list[str] = []
    viewer.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    viewer.on("console", lambda message: said.append(message.text) if _wrong(message) else None)
    viewer.on("pageerror", lambda error: said.append(str(error)))
    shown(viewer, page, path)
    assert said == []
    assert viewer.locator("main script, main img, main iframe, main u, bdi *").count() == 0


def _wrong(message: ConsoleMessage) -> bool:
    """An error; but for Airflow's word that it does not know a run, which then is one of `llmser run`."""
    return message.type == "error" and "/api/v2/dags/llmser/dagRuns/" not in message.location["url"]


def test_titles_answers_and_messages_appear_as_they_are(viewer: Tab, page: Page) -> None:
    shown(viewer, page, VIEWS[2])
    user = viewer.locator("article").nth(1)
    expect(user).to_contain_text("user <u>01</u>")
    assert user.locator("bdi").filter(has_text="onerror").first.inner_text() == HOSTILE
    user.locator("summary").click()
    expect(user.locator("pre")).to_have_text(HOSTILE)
    expect(user.locator(".written bdi").last).to_have_text(HOSTILE)
    shown(viewer, page, f"/run?run={BROKEN}")
    expect(viewer.locator("[role=alert]")).to_contain_text(HOSTILE)


def test_figures_are_those_of_the_warehouse(viewer: Tab, page: Page) -> None:
    shown(viewer, page, VIEWS[1])
    everyone = viewer.locator("tr.ours").filter(has_text="all")
    expect(everyone).to_contain_text(".1150.2150***+87.0 %+.1000 [+.0500, +.1500]< .001")
    for words in (CONDITIONAL, INTERVALS, "Difference, 99.55 % interval"):
        expect(viewer.locator("main")).to_contain_text(words)
    assert ONE_SEED not in viewer.locator("main").inner_text()
    chosen = "those of LLMSeR, the best on validation items (N@10: base .0900, LLMSeR .1000)."
    expect(viewer.locator("main")).to_contain_text(chosen)
    assert chooser(viewer).count() == 0, "there is nothing to choose"
    expect(viewer.locator(".tile .big.up").first).to_have_text("+87.0 %*** significant")
    earlier = viewer.locator("section").filter(has_text="Against earlier runs").locator("tbody tr")
    expect(earlier).to_contain_text("▼**")
    assert viewer.locator("canvas").count() == 8
    for name in ("metrics", "comparisons", "rungs", "item-maps", "earlier", "omega"):
        assert viewer.locator(f"a.csv[href*='/csv/{name}?']").count() == 1
    viewer.get_by_label("Metric").select_option("H@10")
    expect(viewer.locator(".tile").first).to_contain_text("H@10")


def test_what_each_part_brought_is_told_beside_its_chart_also_to_those_who_do_not_see_it(
    viewer: Tab, page: Page
) -> None:
    shown(viewer, page, VIEWS[1])
    expect(viewer.locator("main")).to_contain_text("from the base to LLMSeR + text start. " + BY_PART)
    expect(viewer.locator("main")).to_contain_text("97.5 % intervals of these differences")
    drawn = viewer.locator("canvas[aria-label^='What each part']")
    expect(drawn).to_have_count(2)
    told = "base .1150; +\N{NO-BREAK SPACE}text start +.0100 [−.0400, +.0600]; +\N{NO-BREAK SPACE}LLMSeR +.1000"
    assert told in str(drawn.first.get_attribute("aria-label"))
    viewer.get_by_label("Metric").select_option("H@10")
    expect(drawn).to_have_count(2)


def test_maps_of_items_say_in_words_what_they_show(viewer: Tab, page: Page) -> None:
    shown(viewer, page, VIEWS[1])
    expect(viewer.locator("main")).to_contain_text(OF_ITEM_MAPS)
    maps = viewer.locator("figure").filter(has=viewer.locator("canvas[aria-label*='silhouette']"))
    expect(maps.locator("h3")).to_have_text(["Base", "LLMSeR"])
    told = about_item_map([0.5, 0.25], 0.3, 0.3, 0.05)
    expect(maps.first.locator("figcaption")).to_have_text(told)
    expect(maps.first.locator("canvas")).to_have_attribute("aria-label", f"Base: {told}")


@pytest.mark.parametrize(("seeds", "word"), [(2, "not significant"), (1, "one seed")])
def test_a_gain_that_is_not_significant_is_not_green_and_says_so(
    viewer: Tab, page: Page, filled: Warehouse, seeds: int, word: str
) -> None:
    with transaction(filled) as connection:
        before = connection.execute(text("select user_group, metric, seeds, stars, p_holm from comparisons")).all()
        changed = "update comparisons set stars = '', seeds = :seeds, p_holm = :p"
        connection.execute(text(changed), {"seeds": seeds, "p": 0.35 if seeds > 1 else 0.0004})
    try:
        for path in (VIEWS[1], "/"):
            shown(viewer, page, path)
            expect(viewer.locator(".tile .big").first).to_have_text(f"+87.0 % {word}")
            assert viewer.locator(".tile .up, tr.ours .up").count() == 0
            expect(viewer.locator("main")).to_contain_text(CONDITIONAL)
        shown(viewer, page, VIEWS[1])
        assert (ONE_SEED in viewer.locator("main").inner_text()) == (seeds == 1)
    finally:
        with transaction(filled) as connection:
            connection.execute(
                text(
                    "update comparisons set seeds = :seeds, stars = :stars, p_holm = :p_holm"
                    " where user_group = :user_group and metric = :metric"
                ),
                [dict(row._mapping) for row in before],
            )


def chooser(tab: Tab) -> Locator:
    """Of the method that is shown against the reference."""
    return tab.locator(".field").filter(has_text="Method").locator("select")


@pytest.fixture
def several(filled: Warehouse) -> Iterator[None]:
    """Another dataset, whose runs have several methods."""
    fill_several(filled)
    yield
    with transaction(filled) as connection:
        for table in ("publications", "runs"):
            connection.execute(text(f"delete from {table} where dataset = :dataset"), {"dataset": OTHER})


@pytest.mark.usefixtures("several")
def test_results_show_one_method_against_the_reference_first_the_published_one(viewer: Tab, page: Page) -> None:
    shown(viewer, page, f"/run?run={SEVERAL}&view=results")
    main, change = viewer.locator("main"), viewer.locator(".tile .big").first
    figures = f"base .1200, LLMSeR .1100, {GONE} .2500"
    expect(main).to_contain_text(f"Recommendations are those of {GONE}, the best on validation items (N@10: {figures})")
    expect(viewer.locator("h2").filter(has_text="against the")).to_have_text(f"{GONE} against the base")
    expect(change).to_have_text("+173.9 %*** significant")
    methods = viewer.locator("section").filter(has_text="Every method, all users").locator("tbody tr")
    expect(methods.locator("td:first-child")).to_have_text(["Base", "LLMSeR", "Co-occurrence", "Popularity", GONE])
    expect(methods.and_(viewer.locator(".ours"))).to_contain_text(GONE)
    assert viewer.locator("canvas").count() == 3, "no histogram of ω, which this run has not"
    chooser(viewer).select_option("LLMSeR")
    expect(viewer.locator("h2").filter(has_text="against the")).to_have_text("LLMSeR against the base")
    expect(change).to_have_text("+43.5 %*** significant")


@pytest.mark.usefixtures("several")
def test_a_dataset_shows_the_method_whose_recommendations_its_runs_have(viewer: Tab, page: Page) -> None:
    shown(viewer, page, "/")
    tile = viewer.locator(".tile").filter(has_text=OTHER)
    expect(tile).to_contain_text(f"N@10 base .1150 → {GONE} .3150")
    expect(tile).to_contain_text(f"Recommendations by{GONE}")
    runs = viewer.locator("section").filter(has_text="All runs").locator("tr")
    expect(runs.filter(has_text=SEVERAL)).to_contain_text(f".1150{GONE} .3150+173.9 %")
    expect(runs.filter(has_text=BEFORE_IT)).to_contain_text(".1150(LLMSeR) .0950−17.4 %")
    shown(viewer, page, f"/dataset?dataset={OTHER}")
    moved = viewer.locator("section").filter(has_text="Drift: each run").locator("tbody tr")
    expect(moved.first).to_contain_text(f".1150{GONE}.3150+.2000")
    assert viewer.locator("canvas").count() == 2, "no course of ω, which these runs have not"
    published = viewer.locator("section").filter(has=viewer.get_by_role("heading", name="Published", exact=True))
    expect(published.locator("tbody tr")).to_contain_text([f"{GONE}.2500", "Base.1200"])


def test_a_run_that_asks_nobody_says_so_and_shows_no_empty_views(viewer: Tab, page: Page, filled: Warehouse) -> None:
    config = to_flat(from_flat({"dataset": OTHER, "methods": ["base"]}))
    runs.create(filled, "silent", OTHER, config)
    try:
        shown(viewer, page, "/run?run=silent&view=costs")
        expect(viewer.locator(".tabs button")).to_have_text(["Progress", "Results"])
        expect(viewer.locator("main")).to_contain_text("No LLM is asked: base needs no answers.")
        expect(viewer.locator(".tile")).to_have_count(1)
        assert viewer.locator(".filters").count() == 0
    finally:
        with transaction(filled) as connection:
            connection.execute(text("delete from runs where dataset = :dataset"), {"dataset": OTHER})


def test_users_are_found_by_id_and_come_a_page_at_a_time(viewer: Tab, page: Page) -> None:
    shown(viewer, page, VIEWS[2])
    users = viewer.locator("article")
    expect(users).to_have_count(10)
    viewer.get_by_text("More users").click()
    expect(users).to_have_count(20)
    viewer.get_by_role("searchbox").fill("user <u>24")
    viewer.get_by_role("button", name="Find").click()
    expect(users).to_have_count(1)
    viewer.get_by_label("Order").select_option("most")
    expect(users.first).to_contain_text("user <u>24</u>")


def test_batches_are_filtered_and_tell_more(viewer: Tab, page: Page) -> None:
    shown(viewer, page, f"/run?run={BROKEN}")
    cells = viewer.locator(".grid .cell")
    expect(cells).to_have_count(5)
    viewer.get_by_label("State").select_option("failed")
    expect(cells).to_have_count(2)
    expect(cells.first).to_contain_text("6 of 10")
    cells.nth(1).click()
    expect(viewer.locator(".chosen")).to_contain_text("map index 3, users 30–39")
    expect(viewer.locator("p.message")).to_have_text(HOSTILE)
    expect(viewer.locator(".actions").first).to_contain_text("Your role may look, not rerun.")
    assert viewer.get_by_role("button", name="Rerun failed batches").count() == 0


def test_readers_version_is_shown_where_people_look_for_it(viewer: Tab, page: Page) -> None:
    shown(viewer, page, f"/dataset?dataset={SHOP}")
    panel = viewer.locator("section").filter(has=viewer.get_by_role("heading", name="Published", exact=True))
    rows = panel.locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text(f"2 readers have it{FINISHED}")
    expect(panel.locator("li")).to_contain_text("which readers keep; the gate allows 5.0%")
    expect(panel).to_contain_text("llmser rollback 'hostile <b>shop</b>'")
    expect(viewer.locator(".badge.published")).to_have_count(2)  # in the panel, and among the runs
    shown(viewer, page, VIEWS[0])
    expect(viewer.locator(".badge.published")).to_have_text("published, version 2")
    shown(viewer, page, f"/run?run={STOOD}")
    expect(viewer.locator(".badge.published")).to_have_count(0)
    expect(viewer.locator(".banner[role=status]")).to_contain_text("the gate allows 5.0%")
    expect(viewer.locator(".chips")).to_contain_text(f"readers have {FINISHED}")
    shown(viewer, page, "/")
    expect(viewer.locator(".tile")).to_contain_text("Readers haveversion 2")


def test_a_study_shows_its_cells_and_its_main_table(viewer: Tab, page: Page) -> None:
    shown(viewer, page, "/")
    viewer.get_by_role("link", name="Studies").click()
    row = viewer.locator("tbody tr").filter(has_text=STUDY)
    expect(row).to_contain_text(HOSTILE)
    expect(row.locator("td").nth(2)).to_have_text("2")
    row.get_by_role("link").click()
    expect(viewer.locator("h1")).to_have_text(HOSTILE)
    figures = viewer.locator("section").filter(has_text="Main table").locator("tbody tr")
    expect(figures.filter(has_text="LLMSeR")).to_contain_text(".2150 ± .0071")
    expect(figures.filter(has_text="Base")).to_contain_text(".1150 ± .0071")
    expect(viewer.locator("main")).to_contain_text(CONDITIONAL)
    cells = viewer.locator("section").filter(has_text="In the order in which they run").locator("tbody tr")
    assert cells.locator(".badge").all_inner_texts() == ["succeeded", "failed", "open"]
    expect(cells.nth(1)).to_contain_text("2 of 20 unanswered")
    expect(cells.nth(2)).to_contain_text("no longer in the file")
    expect(cells.nth(2)).to_contain_text(f"noun {HOSTILE}")
    cells.first.get_by_role("link", name=FINISHED).click()
    expect(viewer.locator("h1")).to_contain_text(DATASET)


@pytest.mark.parametrize("path", EVERY)
def test_a_phone_shows_it_without_scrolling_sideways(chromium: Browser, page: Page, path: str) -> None:
    context = as_somebody(chromium, page, "viewer", viewport={"width": 390, "height": 844})
    tab = context.new_page()
    shown(tab, page, path)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_it_is_light_or_dark_as_airflow_is(chromium: Browser, page: Page) -> None:
    context = as_somebody(chromium, page, "viewer", color_scheme="dark")
    tab = context.new_page()
    background = "getComputedStyle(document.body).backgroundColor"
    shown(tab, page, "/")
    dark = tab.evaluate(background)
    other = context.new_page()
    other.goto(f"{page.url}/llmser/static/page.css")  # a window of the same origin, as Airflow's own page is
    other.evaluate("localStorage.setItem('theme', 'light')")
    tab.wait_for_function("document.documentElement.dataset.theme === 'light'")
    expect(tab.locator("main h1")).to_be_visible()
    assert tab.evaluate(background) != dark == "rgb(15, 21, 28)"
    context.close()


def test_airflow_shows_it_in_its_navigation_and_on_a_run(chromium: Browser, page: Page) -> None:
    context = as_somebody(chromium, page, "viewer")
    tab = context.new_page()
    tab.goto(f"{page.url}/dags/llmser/runs/{BROKEN}")
    tab.locator("a[href$='/plugin/llmser_run']").click()
    frame = tab.frame_locator("iframe")
    expect(frame.locator("h1")).to_have_text(DATASET)
    tab.goto(f"{page.url}/plugin/llmser")
    expect(tab.frame_locator("iframe").locator("h1")).to_have_text("LLMSeR")
    context.close()


def test_it_looks_again_as_long_as_a_run_goes_on_and_reruns_exactly_what_failed(chromium: Browser, page: Page) -> None:
    context = as_somebody(chromium, page, "user")
    tab = context.new_page()
    looks: list[str] = []
    tab.on("request", lambda request: looks.append(request.url) if "/api/run?" in request.url else None)
    tab.clock.install()
    shown(tab, page, f"/run?run={BROKEN}")
    expect(tab.locator(".badge").first).to_have_text("failed")
    tab.clock.run_for(60_000)
    assert len(looks) == 1, "a run that is over is not looked at again"

    tab.get_by_role("button", name="Rerun failed batches").click()
    dialog = tab.locator("dialog")
    expect(dialog).to_contain_text("2 failed batches run again")
    expect(dialog.locator("li")).to_have_text("snf 1, 3")
    follows = dialog.get_by_text("What waits for them follows").inner_text()
    assert "pseudo" in follows and "publish" in follows and "train_base" not in follows
    assert states(page)["snf", 1] == "failed", "nothing is cleared before it is confirmed"
    dialog.get_by_role("button", name="Rerun", exact=True).click()
    expect(dialog).to_have_count(0)
    expect(tab.locator(".badge").first).to_have_text("running")
    assert tab.get_by_role("button", name="Rerun failed batches").count() == 0

    after = states(page)
    assert {key: after[key] for key in after if key[0] == "snf"} == {
        ("snf", 0): "success", ("snf", 1): None, ("snf", 2): "success", ("snf", 3): None, ("snf", 4): "success",
    }  # fmt: skip
    assert after["pseudo", -1] is None and after["ingest", -1] == "success"
    assert after["train_base", -1] == "failed", "what does not wait for the batches is left alone"
    before = len(looks)
    with tab.expect_request("**/api/run?**"):
        tab.clock.run_for(3_500)
    assert len(looks) > before
    context.close()


def test_going_on_without_users_says_for_whom_and_clears_exactly_these_batches(
    chromium: Browser, page: Page, filled: Warehouse
) -> None:
    context = as_somebody(chromium, page, "user")
    tab = context.new_page()
    shown(tab, page, f"/run?run={STOOD}")
    expect(tab.get_by_text("2 users accepted without an answer")).to_be_visible()
    tab.locator(".grid .cell").first.click()
    expect(tab.locator(".chosen")).to_contain_text("Accepted2 users")
    tab.get_by_role("button", name="Go on without 8 users").click()
    dialog = tab.locator("dialog")
    expect(dialog).to_contain_text("At most 8 users go without an answer, of 2 failed batches")
    expect(dialog.locator("li")).to_have_text("snf 1 (users 10–19, 4 without); 3 (users 30–39, 4 without)")
    assert "publish" in dialog.get_by_text("What waits for them follows").inner_text()
    assert states(page, STUCK)["snf", 1] == "failed" and not acceptance.is_accepted(filled, STUCK, "snf", 1)
    dialog.get_by_role("button", name="Go on", exact=True).click()
    expect(dialog).to_have_count(0)
    expect(tab.locator(".badge").first).to_have_text("running")
    after = states(page, STUCK)
    assert [after["snf", batch] for batch in range(5)] == ["success", None, "success", None, "success"]
    assert after["pseudo", -1] is None and after["train_base", -1] == "failed"
    accepted = [batch for batch in range(5) if acceptance.is_accepted(filled, STUCK, "snf", batch)]
    assert accepted == [0, 1, 3]
    context.close()


def states(page: Page, run_id: str = BROKEN) -> dict[tuple[str, int], str | None]:
    with page.client("viewer") as client:
        found = client.get(f"/api/v2/dags/llmser/dagRuns/{quote(run_id, safe='')}/taskInstances?limit=100").json()
    return {(task["task_id"], task["map_index"]): task["state"] for task in found["task_instances"]}

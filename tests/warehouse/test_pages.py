"""What the page reads, where it computes: order, what is left, what is planned, changes from run to run."""

from __future__ import annotations

import re
from pathlib import Path

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
    USERS,
    fill,
    fill_several,
)
from sqlalchemy import text

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import METHODS, QUESTION_STEPS, USUAL
from llmser_tasks.core.names import steps as steps_of
from llmser_tasks.warehouse import pages
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.pages import costs, drift, overview, progress, published, reading, results, tables
from llmser_tasks.warehouse.tables import batches, publications, runs
from llmser_tasks.warehouse.tables.steps import recorded


@pytest.fixture
def warehouse(warehouse: Warehouse) -> Warehouse:
    fill(warehouse)
    return warehouse


def execute(warehouse: Warehouse, statement: str) -> None:
    with transaction(warehouse) as connection:
        connection.execute(text(statement))


def steps(warehouse: Warehouse, run_id: str) -> dict[str, dict[str, object]]:
    return {row["step"]: row for row in progress.run(warehouse, run_id)["steps"]}


def test_steps_stand_in_order_also_those_to_come(warehouse: Warehouse) -> None:
    found = progress.run(warehouse, BROKEN)
    assert [row["step"] for row in found["steps"]] == list(steps_of(USUAL))
    states = {row["step"]: row["state"] for row in found["steps"]}
    assert (states["ingest"], states["pseudo"], states["publish"]) == ("done", "waiting", "waiting")


def test_a_running_step_says_how_fast_it_is_and_how_long_it_takes_still(warehouse: Warehouse) -> None:
    execute(
        warehouse,
        "insert into steps (run_id, step, state, done, total, unit, started_at, updated_at)"
        f" values ('{BROKEN}', 'llmser', 'running', 30, 90, 'epochs', now() - interval '20 seconds',"
        " now() - interval '10 seconds')",
    )
    step = steps(warehouse, BROKEN)["llmser"]
    assert step["state"] == "running"
    assert step["rate"] == pytest.approx(3.0) and step["seconds_left"] == pytest.approx(20.0)
    assert step["seconds"] == pytest.approx(20.0, abs=5)


def test_batches_that_have_not_begun_are_planned_and_count(warehouse: Warehouse) -> None:
    runs.create(warehouse, "half", DATASET, {})
    execute(
        warehouse,
        "insert into steps (run_id, step, state, summary)"
        """ values ('half', 'sequences', 'done', '{"training": {"users": 47}}');"""
        "insert into steps (run_id, step, part, state, done, total, unit, started_at)"
        " select 'half', 'snf', 'users ' || b, 'done', 10, 10, 'questions', now() - interval '10 s'"
        " from generate_series(0, 1) b",
    )
    for batch in (0, 1):
        batches.record(
            warehouse,
            batches.Account("half", "snf", batch),
            f"users {batch}",
            10,
            batches.Standing("done", answered=10),
        )
    assert progress.run(warehouse, "half")["planned"] == {"snf": 5}
    step = steps(warehouse, "half")["snf"]
    assert (step["state"], step["done"], step["total"]) == ("running", 20, 50)
    assert step["seconds_left"] == pytest.approx(15, rel=0.2)


def test_a_step_that_had_nothing_to_do_is_not_waited_for(warehouse: Warehouse) -> None:
    runs.create(warehouse, "unchanged", DATASET, {})
    for step in (
        "ingest",
        "sequences",
        "item-vectors",
        "reverse",
        "ccg",
        "pseudo",
    ):  # nobody had changed, so that nobody was asked
        execute(warehouse, f"insert into steps (run_id, step, state) values ('unchanged', '{step}', 'done')")
    found = {name: row["state"] for name, row in steps(warehouse, "unchanged").items()}
    assert {name for name, state in found.items() if state == "skipped"} == {"estimate", "snf"}
    assert found["reason"] == found["llmser"] == found["publish"] == "waiting"
    execute(warehouse, "update runs set state = 'succeeded' where run_id = 'unchanged'")
    assert {row["state"] for row in steps(warehouse, "unchanged").values()} == {"done", "skipped"}


def test_only_the_steps_of_the_runs_own_methods_are_shown(warehouse: Warehouse) -> None:
    runs.create(warehouse, "plain", DATASET, {"methods": ["base", GONE]})
    assert list(steps(warehouse, "plain")) == list(steps_of(["base"]))
    assert progress.run(warehouse, "plain")["asks"] is False and progress.run(warehouse, FINISHED)["asks"] is True
    execute(warehouse, f"insert into steps (run_id, step, state) values ('plain', '{GONE}', 'done')")
    assert steps(warehouse, "plain")[GONE]["title"] == GONE


def test_there_is_no_such_run(warehouse: Warehouse) -> None:
    with pytest.raises(InputError, match="There is no run 'none' in the warehouse"):
        progress.run(warehouse, "none")


def test_datasets_show_their_latest_run_and_the_figures_of_the_last_that_succeeded(warehouse: Warehouse) -> None:
    runs.create(warehouse, "elsewhere", "another", {})
    found = {row["dataset"]: row for row in overview.datasets(warehouse)}
    assert set(found) == {DATASET, "another"}
    assert found[DATASET]["run_id"] == BROKEN and found[DATASET]["succeeded"] == FINISHED
    assert found[DATASET]["mean"] == pytest.approx(0.215) and found[DATASET]["p_holm"] == 0.0004
    assert found["another"]["mean"] is None
    assert [row["run_id"] for row in overview.runs(warehouse, dataset=DATASET)] == [BROKEN, STUCK, FINISHED, "earlier"]


def test_runs_come_a_page_at_a_time_each_once(warehouse: Warehouse) -> None:
    for number in range(60):
        runs.create(warehouse, f"r{number:02d}", "many", {})
    execute(
        warehouse,
        "update runs set started_at = '2031-01-01'::timestamptz + (right(run_id, 2)::int / 2) * interval '1 h'"
        " where dataset = 'many'",
    )  # fmt: skip - two start at the same moment
    found: list[str] = []
    before = None
    while page := overview.runs(warehouse, dataset="many", before=before):
        found += [row["run_id"] for row in page]
        before = (page[-1]["started_at"], page[-1]["run_id"])
    assert found == [f"r{number:02d}" for number in reversed(range(60))]


def test_drift_is_the_change_from_the_run_before(warehouse: Warehouse) -> None:
    execute(warehouse, f"update metrics set value = value + .1 where run_id = '{FINISHED}' and method = 'llmser'")
    first, second = drift.drift(warehouse, DATASET)
    assert (first["run_id"], second["run_id"]) == ("earlier", FINISHED)
    assert first["N@10 change"] is None
    assert second["N@10 change"] == pytest.approx(0.1) and second["reference N@10 change"] == pytest.approx(0)
    assert (second["users"], second["users_change"], second["items"]) == (50, 0, 30)
    assert second["omega"] == pytest.approx((USERS - 1) / 2 / USERS)


def test_costs_and_rates_are_those_of_the_views(warehouse: Warehouse) -> None:
    found = costs.costs(warehouse, FINISHED)
    assert found["costs"][0]["cost"] == pytest.approx(5 * 0.25)
    quality = found["answer-quality"][0]
    assert (quality["users"], quality["hallucination_rate"], quality["repair_rate"]) == (USERS, 0.5, 0.0)
    with transaction(warehouse) as connection:
        view = connection.execute(text("select * from answer_quality where run_id = :run"), {"run": FINISHED}).one()
        kept = connection.execute(
            text("select * from counted_answer_quality where run_id = :run"), {"run": FINISHED}
        ).one()
    assert view == kept


def test_omega_and_means_add_up(warehouse: Warehouse) -> None:
    found = results.results(warehouse, FINISHED)
    assert sum(row["users"] for row in found["omega"]) == USERS
    everyone = [row for row in found["metrics"] if (row["method"], row["user_group"]) == ("llmser", "all")]
    assert len(everyone) == 10 and {row["seeds"] for row in everyone} == {2}
    assert everyone[0]["sd"] == pytest.approx(0.01 / 2**0.5)


def test_what_each_part_brought_comes_from_the_reference_up_and_earlier_runs_have_none(warehouse: Warehouse) -> None:
    rungs = results.results(warehouse, FINISHED)["rungs"]
    assert [(row["place"], row["user_group"], row["previous"], row["added"]) for row in rungs] == [
        (1, "all", "base", "text-start"), (1, "tail users", "base", "text-start"),
        (2, "all", "base+text-start", "llmser"), (2, "tail users", "base+text-start", "llmser"),
    ]  # fmt: skip
    assert [row["difference"] for row in rungs] == [0.01, 0.01, 0.1, 0.1]
    fill_several(warehouse)
    assert results.results(warehouse, SEVERAL)["rungs"] == []


def test_results_have_maps_of_items_and_say_what_they_show(warehouse: Warehouse) -> None:
    fill_several(warehouse)
    maps = {row["method"]: row for row in results.results(warehouse, FINISHED)["item_maps"]}
    assert maps.keys() == {"base", "llmser"}
    assert (maps["base"]["xs"], maps["base"]["heads"]) == ([1.0, -0.5, 0.25], [True, False, False])
    assert "Head and tail items lie apart (silhouette +0.30)" in maps["base"]["told"]
    assert "Head and tail items are mixed (silhouette \N{MINUS SIGN}0.02)" in maps["llmser"]["told"]
    assert results.results(warehouse, SEVERAL)["item_maps"] == []
    with tables.read(warehouse, "item-maps", run_id=FINISHED, dataset=None) as read:
        listed = [dict(zip(read.columns, row, strict=True)) for row in read.rows]
    one = {"method": "base", "seed": 1, "item_id": HOSTILE, "item_group": "head", "count": 9, "x": 1.0, "y": 0.125}
    assert len(listed) == 6 and listed[0] == one


@pytest.mark.parametrize("name", [*tables.OF_RUN, *tables.OF_DATASET, *tables.OF_STUDY, *tables.OF_ALL])
def test_every_table_can_be_read(warehouse: Warehouse, name: str) -> None:
    with tables.read(warehouse, name, run_id=FINISHED, dataset=DATASET, study=STUDY) as found:
        rows = list(found.rows)
    assert found.columns and (rows or name in ("recommendations", "tried"))  # the run did not search


def test_what_a_search_tried_is_listed_and_told_of_the_run_that_searched_alone(warehouse: Warehouse) -> None:
    best = {"title": HOSTILE, "ndcg": 0.06, "tail_ndcg": None, "epochs": 9, "best_epoch": 7, "how": "h", "chosen": True}
    other = best | {"title": "base", "ndcg": 0.05, "tail_ndcg": 0.04, "chosen": False}
    summary = {"tried": [best, other], "reference": 0.05, "listed": 40, "epochs": 18, "full": 9, "budget": "2"}
    fill_several(warehouse)
    with recorded(warehouse, SEVERAL, "search") as step:
        step.summary(summary | {"taken_over": False})
    with tables.read(warehouse, "tried", run_id=SEVERAL, dataset=DATASET) as found:
        rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [(row["place"], row["title"], row["N@10"], row["tail"]) for row in rows] == [
        (1, HOSTILE, 0.06, None),
        (2, "base", 0.05, 0.04),
    ]
    shown = results.results(warehouse, SEVERAL)
    assert len(shown["tried"]) == 2 and shown["told_of_search"].startswith("Searched on validation items: 2 of 40 ways")
    assert not results.results(warehouse, FINISHED)["told_of_search"]


def test_what_readers_have_is_told_with_every_switch_and_who_was_kept_back(warehouse: Warehouse) -> None:
    publications.rollback(warehouse, DATASET)
    found = published.published(warehouse, DATASET)
    assert [(row["version"], row["run_id"], row["how"], row["current"]) for row in found["versions"]] == [
        (3, "earlier", "rollback", True), (2, FINISHED, "run", False), (1, "earlier", "run", False),
    ]  # fmt: skip
    assert [row["run_id"] for row in found["kept_back"]] == [STUCK]
    assert "the gate allows 5.0%" in found["kept_back"][0]["unpublished"]
    assert published.published(warehouse, "another") == {"versions": [], "kept_back": []}
    (dataset,) = overview.datasets(warehouse)
    assert (dataset["published_run"], dataset["published_version"]) == ("earlier", 3)
    assert {row["run_id"]: (row["published_version"], row["kept_back"]) for row in overview.runs(warehouse)} == {
        BROKEN: (None, False), STUCK: (None, True), FINISHED: (None, False), "earlier": (3, False),
    }  # fmt: skip
    run = progress.run(warehouse, STUCK)
    assert (run["published_run"], run["published_version"]) == ("earlier", 3)
    assert run["unpublished"] == found["kept_back"][0]["unpublished"]


def test_of_how_many_users_anything_can_be_asked_is_known_from_the_histories(warehouse: Warehouse) -> None:
    runs.create(warehouse, "mute", DATASET, {})
    assert progress.run(warehouse, "mute")["askable"] is None and runs.askable(warehouse, "mute") is None
    execute(
        warehouse,
        "insert into steps (run_id, step, state, summary) values ('mute', 'sequences', 'done',"
        """ '{"askable": {"users": 9, "steps": {"snf": 0}, "gaining": 0, "titled": 1, "items": 7}}')""",
    )
    assert progress.run(warehouse, "mute")["askable"] == runs.askable(warehouse, "mute")
    assert runs.askable(warehouse, "mute") == {"users": 9, "steps": {"snf": 0}, "gaining": 0, "titled": 1, "items": 7}


def test_accepted_users_are_counted_by_step_and_stand_in_their_batch(warehouse: Warehouse) -> None:
    found = progress.run(warehouse, STUCK)
    assert found["accepted"] == {"snf": 2} and progress.run(warehouse, BROKEN)["accepted"] == {}
    assert [(row["batch"], row["accepted"], row["accepted_at"] is not None) for row in found["batches"][:2]] == [
        (0, 2, True), (1, 0, False),
    ]  # fmt: skip


@pytest.fixture
def several(warehouse: Warehouse) -> Warehouse:
    fill_several(warehouse)
    return warehouse


def test_beside_the_reference_stands_what_the_run_recommends_or_else_the_best_of_the_others(several: Warehouse) -> None:
    now = {row["dataset"]: row for row in overview.datasets(several)}[OTHER]
    assert (now["run_id"], now["chosen"], now["method"]) == (SEVERAL, GONE, GONE)
    assert (now["reference_mean"], now["mean"]) == (pytest.approx(0.115), pytest.approx(0.315))
    assert now["difference"] == pytest.approx(0.2), "the comparison of that method, and each dataset once"
    rows = {row["run_id"]: row for row in overview.runs(several, dataset=OTHER)}
    assert [(rows[run]["chosen"], rows[run]["method"]) for run in (SEVERAL, BEFORE_IT)] == [
        (GONE, GONE), ("base", "llmser"),
    ]  # fmt: skip
    assert rows[BEFORE_IT]["mean"] == pytest.approx(0.095)


def test_a_run_of_the_reference_alone_has_none_beside_it(several: Warehouse) -> None:
    execute(several, f"delete from validations where run_id = '{BEFORE_IT}' and method <> 'base'")
    (row,) = [row for row in overview.runs(several, dataset=OTHER) if row["run_id"] == BEFORE_IT]
    assert (row["method"], row["mean"], row["reference_mean"]) == (None, None, pytest.approx(0.115))


def test_drift_follows_what_runs_recommend_and_charts_every_method_that_they_trained(several: Warehouse) -> None:
    first, second = drift.drift(several, OTHER)
    assert [(row["run_id"], row["method"]) for row in (first, second)] == [(BEFORE_IT, "base"), (SEVERAL, GONE)]
    assert second["N@10 change"] == pytest.approx(0.2) and second["reference N@10 change"] == pytest.approx(0)
    assert first["methods"] == {"base": pytest.approx(0.115), "llmser": pytest.approx(0.095)}
    assert set(second["methods"]) == {"base", "llmser", GONE}


def test_results_say_which_method_is_published_and_why(several: Warehouse) -> None:
    found = results.results(several, SEVERAL)
    assert (found["chosen"], found["chosen_by"], found["method"]) == (GONE, "validation", GONE)
    assert found["validation"] == {"base": 0.12, "llmser": 0.11, GONE: 0.25}
    assert {(row["method"], row["reference"]) for row in found["comparisons"]} == {("llmser", "base"), (GONE, "base")}
    before = results.results(several, BEFORE_IT)
    assert (before["chosen"], before["method"]) == ("base", "llmser")
    assert [row["method"] for row in published.published(several, OTHER)["versions"]] == [GONE, "base"]


def test_an_earlier_comparison_says_both_methods(warehouse: Warehouse) -> None:
    execute(warehouse, "update runs set chosen = 'base' where run_id = 'earlier'")
    (row,) = results.results(warehouse, FINISHED)["earlier"]
    assert (row["earlier_method"], row["method"]) == ("base", "llmser")


def test_the_page_knows_no_method_and_no_question_step_by_its_name() -> None:
    """Titles, colours, order and the reference come from what the methods' files declare."""
    here = Path(pages.__file__).parent
    names = "|".join([*METHODS, *QUESTION_STEPS])
    literal = re.compile(rf"""(["'`])({names})\1""")
    files = [*here.glob("*.py"), *(here.parents[1] / "page" / "static").glob("*.js")]
    found = [f"{file.name}: {hit[0]}" for file in files for hit in literal.finditer(file.read_text(encoding="utf-8"))]
    assert files and not found


def test_every_methods_colour_is_one_of_the_pages_light_and_dark() -> None:
    style = (Path(pages.__file__).parents[2] / "page" / "static" / "page.css").read_text(encoding="utf-8")
    assert {name: style.count(f" --{one.colour}: ") for name, one in METHODS.items()} == dict.fromkeys(METHODS, 2)


def test_question_steps_stand_in_the_order_in_which_they_are_asked(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in QUESTION_STEPS:
        batches.record(
            warehouse, batches.Account(BROKEN, step, 9), "users 90–99", 10, batches.Standing("done", answered=10)
        )
    for order in ([*QUESTION_STEPS], [*QUESTION_STEPS][::-1]):
        monkeypatch.setitem(reading.GIVEN, "asking", order)
        for rows in (progress.run(warehouse, BROKEN)["batches"], costs.costs(warehouse, BROKEN)["costs"]):
            assert list(dict.fromkeys(row["step"] for row in rows)) == order

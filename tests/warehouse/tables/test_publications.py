"""One switch, the way back, and what keeps a run from readers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from patience import PATIENCE_S
from sqlalchemy import text

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import failed_runs, publications, runs
from llmser_tasks.warehouse.tables.publications import Chosen


def finished(
    warehouse: Warehouse, run_id: str, validation: float = 0.1, gate: float | None = 0.05, ablation: bool = False
) -> publications.KeptBack | None:
    """A run that ends; returns why readers are not given it."""
    runs.create(warehouse, run_id, "tiny", {})
    return concluded(warehouse, run_id, validation, gate, ablation)


def concluded(
    warehouse: Warehouse, run_id: str, validation: float = 0.1, gate: float | None = 0.05, ablation: bool = False
) -> publications.KeptBack | None:
    with transaction(warehouse) as connection:
        runs.finish(connection, run_id)
        return publications.conclude(
            connection, run_id, Chosen("llmser", validation, "name"), gate=gate, ablation=ablation
        )


def now(warehouse: Warehouse) -> str:
    found = publications.current(warehouse, "tiny")
    assert found is not None
    return found.run_id


def test_every_good_run_takes_the_place_of_the_one_before(warehouse: Warehouse) -> None:
    assert publications.current(warehouse, "tiny") is None
    for run_id in ("a", "b", "c"):
        assert finished(warehouse, run_id) is None
        assert now(warehouse) == run_id
    with publications.listed(warehouse) as found:
        assert [(row[1], row[2], row[3]) for row in found.rows] == [(3, "*", "c"), (2, "", "b"), (1, "", "a")]


def test_the_list_says_which_method_each_run_recommends_by_and_why(warehouse: Warehouse) -> None:
    finished(warehouse, "a")
    runs.create(warehouse, "b", "tiny", {})
    with transaction(warehouse) as connection:
        runs.finish(connection, "b")
        insert = text("insert into validations (run_id, method, ndcg) values ('b', :method, :ndcg)")
        connection.execute(insert, [{"method": "llmser", "ndcg": 0.08}, {"method": "base", "ndcg": 0.09}])
        publications.conclude(connection, "b", Chosen("base", 0.09, "validation"), gate=None, ablation=False)
    with publications.listed(warehouse) as found:
        assert list(found.columns)[-2:] == ["method", "why"]
        assert [tuple(row)[-2:] for row in found.rows] == [
            ("base", "the best on validation items (N@10: base .0900, LLMSeR .0800)"),
            ("llmser", "as the settings say"),
        ]
    with transaction(warehouse) as connection:
        connection.execute(text("update runs set chosen_by = null"))
    with publications.listed(warehouse) as found:
        assert [row[-1] for row in found.rows] == [None, None], "runs from before this was noted"


def test_rollbacks_go_further_and_further_back(warehouse: Warehouse) -> None:
    for run_id in ("a", "b", "c"):
        finished(warehouse, run_id)
    assert publications.rollback(warehouse, "tiny").run_id == "b"
    assert publications.rollback(warehouse, "tiny").run_id == "a"
    with pytest.raises(InputError, match="Nothing of dataset tiny was published before run a"):
        publications.rollback(warehouse, "tiny")
    assert publications.rollback(warehouse, "tiny", "c").run_id == "c"
    assert publications.rollback(warehouse, "tiny", "c").version == 6, "to what is there already changes nothing"
    with pytest.raises(InputError, match="Run 'd' of dataset tiny was never published; these were: a, b, c"):
        publications.rollback(warehouse, "tiny", "d")
    with pytest.raises(InputError, match="Nothing of dataset 'none' is published"):
        publications.rollback(warehouse, "none")


@pytest.mark.parametrize(
    ("validation", "gate", "published"),
    [(0.0951, 0.05, True), (0.0949, 0.05, False), (0.0999, 0.0, False), (0.0, None, True), (0.2, 0.0, True)],
)
def test_the_gate_lets_pass_what_falls_by_no_more_than_its_margin(
    warehouse: Warehouse, validation: float, gate: float | None, published: bool
) -> None:
    finished(warehouse, "a", 0.1)
    why = finished(warehouse, "b", validation, gate)
    assert (why is None) is published
    assert now(warehouse) == ("b" if published else "a")
    assert runs.load(warehouse, "b").unpublished == (why and why.told)
    if why:
        assert why.by == "gate" and "run a, which readers keep" in why.why and "`llmser publish b`" in why.told
        assert publications.publish(warehouse, "b").how == "hand"
        assert now(warehouse) == "b" and runs.load(warehouse, "b").unpublished is None


def test_a_fall_after_a_rollback_is_measured_against_what_readers_have(warehouse: Warehouse) -> None:
    finished(warehouse, "a", 0.1)
    finished(warehouse, "b", 0.2)
    publications.rollback(warehouse, "tiny")
    assert finished(warehouse, "c", 0.1) is None


def test_where_the_metric_of_the_published_run_is_unknown_the_gate_is_open(warehouse: Warehouse) -> None:
    finished(warehouse, "a", 0.1)
    with transaction(warehouse) as connection:
        connection.execute(text("update runs set validation = null"))
    assert finished(warehouse, "b", 0.01) is None


def test_what_leaves_out_parts_of_the_method_is_published_by_hand_only(warehouse: Warehouse) -> None:
    why = finished(warehouse, "a", ablation=True)
    assert why is not None and why.by == "ablation" and "leaves out parts of the method" in why.told
    assert publications.current(warehouse, "tiny") is None


def test_a_run_that_ends_late_does_not_undo_a_newer_one(warehouse: Warehouse) -> None:
    finished(warehouse, "first")
    runs.create(warehouse, "slow", "tiny", {})
    finished(warehouse, "quick")
    why = concluded(warehouse, "slow", 0.9)
    assert why is not None and why.by == "older" and "because run quick, which is, was started later" in why.told
    assert now(warehouse) == "quick"
    assert concluded(warehouse, "quick", 0.0) is None, "the published run, run again, stays so"
    assert now(warehouse) == "quick"


def test_a_run_without_results_is_not_published(warehouse: Warehouse) -> None:
    runs.create(warehouse, "a", "tiny", {})
    failed_runs.fail(warehouse, "a", "The disk is full.")
    with pytest.raises(InputError, match="Run a has no results to publish, it is failed: The disk is full"):
        publications.publish(warehouse, "a")


def test_who_switches_at_the_same_time_waits(warehouse: Warehouse) -> None:
    for run_id in ("a", "b", "c"):
        finished(warehouse, run_id)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda run_id: publications.publish(warehouse, run_id), ["a", "b", "c"] * 4))
    with transaction(warehouse) as connection:
        versions = list(connection.scalars(text("select version from publications order by version")))
    assert versions == list(range(1, len(versions) + 1))


def test_who_ends_meanwhile_is_judged_by_what_is_published_then(warehouse: Warehouse) -> None:
    for run_id in ("first", "older", "newer"):
        runs.create(warehouse, run_id, "tiny", {})
    concluded(warehouse, "first")
    waits = text(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    )
    with ThreadPoolExecutor(1) as pool:
        with transaction(warehouse) as connection:
            runs.finish(connection, "newer")
            assert (
                publications.conclude(connection, "newer", Chosen("llmser", 0.1, "name"), gate=None, ablation=False)
                is None
            )
            late = pool.submit(concluded, warehouse, "older")
            with transaction(warehouse) as other:
                while not late.done() and not other.scalar(waits):
                    other.execute(text("select pg_stat_clear_snapshot()"))
        kept_back = late.result(PATIENCE_S)
    assert kept_back is not None and kept_back.by == "older"
    assert now(warehouse) == "newer"


def test_a_published_run_cannot_be_deleted_under_its_readers(warehouse: Warehouse) -> None:
    finished(warehouse, "a")
    with pytest.raises(Exception, match="publications"), transaction(warehouse) as connection:
        connection.execute(text("delete from runs"))


def of_method(warehouse: Warehouse, run_id: str, method: str, **validation: float) -> publications.KeptBack | None:
    """A run that ends with figures of several methods and has the recommendations of one."""
    runs.create(warehouse, run_id, "tiny", {})
    with transaction(warehouse) as connection:
        for name, ndcg in validation.items():
            values = {"run": run_id, "method": name, "ndcg": ndcg}
            connection.execute(text("insert into validations values (:run, :method, :ndcg)"), values)
        runs.finish(connection, run_id)
        chosen = Chosen(method, validation[method], "validation")
        return publications.conclude(connection, run_id, chosen, gate=0.05, ablation=False)


def test_the_gate_compares_the_same_method_where_the_published_run_has_it(warehouse: Warehouse) -> None:
    assert of_method(warehouse, "first", "llmser", base=0.08, llmser=0.1) is None
    assert of_method(warehouse, "second", "base", base=0.081, llmser=0.07) is None, "the base is as good as it was"
    kept_back = of_method(warehouse, "third", "base", base=0.07)
    assert (
        kept_back is not None and "NDCG@10 of base of 0.0700 is 13.6% below the 0.0810 of run second" in kept_back.why
    )


def test_of_a_method_that_the_published_run_lacks_the_gate_compares_what_readers_are_given(
    warehouse: Warehouse,
) -> None:
    assert of_method(warehouse, "first", "base", base=0.1) is None
    kept_back = of_method(warehouse, "second", "llmser", base=0.05, llmser=0.06)
    assert kept_back is not None and "validation NDCG@10 of 0.0600 is 40.0% below the 0.1000" in kept_back.why

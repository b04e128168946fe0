from __future__ import annotations

import pytest
from evaluated_world import Trained
from noted_run import changed, note_run

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.evaluation.earlier import COLUMNS, against_earlier
from llmser_tasks.warehouse.engine import engine


def found(warehouse: Warehouse, run_id: str, trained: Trained) -> list[dict[str, object]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in against_earlier(warehouse, run_id, trained.workspace)]


@pytest.fixture
def warehouse(warehouse: Warehouse, trained: Trained) -> Warehouse:
    for run_id in ("one", "two", "three"):
        note_run(warehouse, trained, run_id)
    return warehouse


def test_each_earlier_run_of_the_dataset_is_compared_newest_first(trained: Trained, warehouse: Warehouse) -> None:
    rows = found(warehouse, "three", trained)
    assert list(dict.fromkeys(row["earlier_run"] for row in rows)) == ["two", "one"]
    assert {row["user_group"] for row in rows} == {"all", "tail users", "head users"}
    assert {row["metric"] for row in rows} == {"H@10", "N@10", "H@20", "N@20", "MRR"}
    for row in rows:  # the same models: nothing differs
        assert (row["difference"], row["low"], row["high"], row["p_holm"]) == (0.0, 0.0, 0.0, 1.0)
        assert row["earlier"] == row["mean"]


def test_other_models_differ_by_what_their_figures_differ(trained: Trained, warehouse: Warehouse) -> None:
    swapped = {f"llmser/{seed}": trained.made[f"base/{seed}"] for seed in (42, 43)}
    note_run(warehouse, trained, "four", **swapped)
    rows = found(warehouse, "four", trained)
    assert any(row["difference"] for row in rows)
    for row in rows:
        assert row["difference"] == pytest.approx(row["mean"] - row["earlier"])  # type: ignore[operator]
        assert row["low"] <= row["difference"] <= row["high"]  # type: ignore[operator]
        assert row["p"] <= row["p_holm"] <= 1  # type: ignore[operator]


def test_a_run_tested_otherwise_or_unfinished_is_left_out(trained: Trained, warehouse: Warehouse) -> None:
    with engine(warehouse).begin() as connection:
        connection.exec_driver_sql("update runs set state = 'failed' where run_id = 'two'")
        connection.exec_driver_sql("update steps set artefacts = null where run_id = 'one'")
    assert found(warehouse, "three", trained) == []


def test_the_first_run_has_nothing_to_compare_with(trained: Trained, database_url: str) -> None:
    warehouse = Warehouse(database_url)  # one of its own
    note_run(warehouse, trained, "one", changed(trained, "augmentation"))
    assert found(warehouse, "one", trained) == []

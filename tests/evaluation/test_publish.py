from __future__ import annotations

import json
import multiprocessing
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from evaluated_world import USERS, Trained
from patience import PATIENCE_S
from sqlalchemy import Connection, text

from llmser_tasks.core.config import RunConfig, to_flat
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import write_json
from llmser_tasks.evaluation import figures
from llmser_tasks.evaluation.publish import publish
from llmser_tasks.warehouse.engine import engine
from llmser_tasks.warehouse.rows import replace_rows
from llmser_tasks.warehouse.tables import runs

RUN = "run-1"
TABLES = (
    "metrics", "validations", "comparisons", "rungs", "item_maps", "earlier_comparisons", "recommendations", "reports",
)  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lengths", "tail_and_head", "differences", "waterfall", "item_map", "reliability"):
        monkeypatch.setattr(figures, name, lambda *_: "<svg></svg>")


@pytest.fixture
def warehouse(warehouse: Warehouse, trained: Trained) -> Warehouse:
    runs.create(warehouse, RUN, "tiny", to_flat(trained.config))
    return warehouse


def put(
    trained: Trained, warehouse: Warehouse, run_id: str = RUN, config: RunConfig | None = None, **report: Any
) -> dict[str, Any]:
    def write(folder: Path) -> dict[str, Any]:
        write_json(folder / "report.json", report)
        return {}

    ingest = trained.workspace.produce("ingest", "tiny", write, inputs={}, config=report)
    refs = trained.refs(evaluation=trained.evaluated(config), ingest=ingest)
    return publish(trained.run(config, warehouse, run_id), refs)[0]


def ask(warehouse: Warehouse, statement: str) -> list[tuple[Any, ...]]:
    with engine(warehouse).connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def counts(warehouse: Warehouse) -> dict[str, int]:
    return {table: ask(warehouse, f"select count(*) from {table} where run_id = '{RUN}'")[0][0] for table in TABLES}


def test_everything_arrives_under_original_ids(trained: Trained, warehouse: Warehouse) -> None:
    written = put(trained, warehouse)
    assert written == counts(warehouse)
    assert written["recommendations"] == USERS and written["reports"] == 1
    users = {row[0] for row in ask(warehouse, "select user_id from recommendations")}
    assert users == {f"u{user:03d}" for user in range(USERS)}
    items, scores = ask(warehouse, "select item_ids, scores from recommendations where user_id = 'u007'")[0]
    assert len(items) == len(scores) == 4 and all(item.startswith("i") for item in items)
    assert scores == sorted(scores, reverse=True)
    assert ask(warehouse, "select state from runs") == [("succeeded",)]
    assert "<h2>Full ranking</h2>" in ask(warehouse, "select html from reports")[0][0]
    assert ask(warehouse, "select count(*) from tail_report where p_holm is not null")[0][0] > 0


def test_rungs_of_the_run_arrive_and_of_an_evaluation_from_before_there_were_none(
    trained: Trained, warehouse: Warehouse
) -> None:
    put(trained, warehouse)
    asked = "select place, user_group, previous, method, added, seeds from rungs order by place, user_group"
    assert ask(warehouse, asked) == [
        (1, "all", "base", "llmser", "llmser", 2), (1, "tail users", "base", "llmser", "llmser", 2),
    ]  # fmt: skip
    compared = "select difference from comparisons where (protocol, metric, user_group) = ('full', 'N@10', 'all')"
    assert ask(warehouse, "select difference from rungs where user_group = 'all'") == ask(warehouse, compared)

    evaluated = trained.evaluated()
    folder = trained.workspace.folder(evaluated)

    def write(before: Path) -> dict[str, Any]:
        for file in folder.iterdir():
            (before / file.name).write_bytes(file.read_bytes())
        facts = json.loads((before / "facts.json").read_text(encoding="utf-8"))
        del facts["rungs"]
        write_json(before / "facts.json", facts)
        return {}

    before = trained.workspace.produce("evaluation-before", "tiny", write, inputs={}, config={})
    assert publish(trained.run(None, warehouse, RUN), trained.refs(evaluation=before))[0]["rungs"] == 0
    assert ask(warehouse, asked) == []
    assert "What each part brought" not in ask(warehouse, "select html from reports")[0][0]


def test_maps_of_items_arrive_under_original_ids_and_of_an_evaluation_from_before_there_were_none(
    trained: Trained, warehouse: Warehouse
) -> None:
    put(trained, warehouse)
    found = ask(
        warehouse, "select method, seed, cardinality(item_ids), item_ids[1], heads, xs from item_maps order by 1"
    )
    assert [row[:3] for row in found] == [("base", 42, 30), ("llmser", 42, 30)]
    assert {row[3] for row in found} == {trained.world.known.item_ids[0].as_py()} and found[0][4] == found[1][4]
    assert found[0][5] != found[1][5] and max(map(abs, found[0][5])) <= 1
    assert "What items are to each model" in ask(warehouse, "select html from reports")[0][0]

    folder = trained.workspace.folder(trained.evaluated())

    def write(before: Path) -> dict[str, Any]:
        for name in ("metrics.parquet", "comparisons.parquet", "recommendations.parquet", "ranks.parquet"):
            (before / name).write_bytes((folder / name).read_bytes())
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        del facts["item_maps"]
        write_json(before / "facts.json", facts)
        return {}

    before = trained.workspace.produce("evaluation-without-maps", "tiny", write, inputs={}, config={})
    assert publish(trained.run(None, warehouse, RUN), trained.refs(evaluation=before))[0]["item_maps"] == 0
    assert ask(warehouse, "select * from item_maps") == []
    assert "What items are to each model" not in ask(warehouse, "select html from reports")[0][0]


def test_again_doubles_nothing_and_leaves_other_runs_alone(trained: Trained, warehouse: Warehouse) -> None:
    runs.create(warehouse, "other", "tiny", to_flat(trained.config))
    put(trained, warehouse, "other")
    first = put(trained, warehouse)
    before = ask(warehouse, "select * from metrics order by 1, 2, 3, 4, 5, 6")
    assert put(trained, warehouse) == first == counts(warehouse)
    assert ask(warehouse, "select * from metrics order by 1, 2, 3, 4, 5, 6") == before


def test_synthetic_dumps_mark_run_and_report(trained: Trained, warehouse: Warehouse) -> None:
    put(trained, warehouse, synthetic=True)
    assert ask(warehouse, "select synthetic from runs") == [(True,)]
    assert "SYNTHETIC DATA" in ask(warehouse, "select html from reports")[0][0]


def test_who_answered_is_named(trained: Trained, warehouse: Warehouse) -> None:
    with engine(warehouse).begin() as connection:
        connection.execute(
            text(
                "insert into answers (question_key, step, prompt_version, model, answered_by, content, attempts)"
                " values ('k', 'snf', '1', 'asked-for', 'served-by', '{}', 1);"
                "insert into picks (run_id, step, user_id, question_key, shuffle_seed, item_ids, sources)"
                " values ('run-1', 'snf', 'u000', 'k', 1, '{}', '{}');"
            )
        )
    other = trained.config.model_copy(update={"llm": trained.config.llm.model_copy(update={"endpoint": "glm"})})
    put(trained, warehouse, config=other)
    assert "<bdi>served-by</bdi> (1)" in ask(warehouse, "select html from reports")[0][0]


def test_a_run_that_is_not_there_is_named(trained: Trained, database_url: str) -> None:
    warehouse = Warehouse(database_url)  # one of its own
    with pytest.raises(InputError, match="no run 'nowhere'"):
        put(trained, warehouse, "nowhere")


@pytest.mark.parametrize("published_before", [True, False])
@pytest.mark.parametrize("table", ["metrics", "reports"])
def test_killed_while_writing_the_old_results_stay(
    trained: Trained, warehouse: Warehouse, table: str, published_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if published_before:
        put(trained, warehouse)
        with engine(warehouse).begin() as connection:
            connection.execute(text("update metrics set value = 0.5; update reports set html = 'old'"))
    before = counts(warehouse)
    trained.evaluated()
    processes = multiprocessing.get_context("fork")
    reached = processes.Event()
    module = sys.modules["llmser_tasks.evaluation.publish"]

    def halting(connection: Connection, written: str, *rest: Any, **where: Any) -> int:
        rows = replace_rows(connection, written, *rest, **where)
        if written == table:
            reached.set()
            time.sleep(PATIENCE_S)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(module, "replace_rows", halting)
        publisher = processes.Process(target=put, args=(trained, warehouse))
        publisher.start()
        assert reached.wait(PATIENCE_S)
        publisher.kill()
        publisher.join()
    assert publisher.exitcode == -signal.SIGKILL

    assert counts(warehouse) == before
    if published_before:
        assert ask(warehouse, "select distinct value from metrics") == [(0.5,)]
        assert ask(warehouse, "select html from reports") == [("old",)]
    assert put(trained, warehouse) == counts(warehouse)
    assert ask(warehouse, "select html = 'old' from reports") == [(False,)]

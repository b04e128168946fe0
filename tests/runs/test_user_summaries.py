"""Runs that have an LLM summarise users: to their end, again, refreshed, and what they know of held-out items."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_double import Block, Double, by_title, llm, llm_server
from sqlalchemy import text
from test_leakage import files, permuted
from tiny_dumps import DAY, SMALL, FakeEncoder, careers, write_dumps

from llmser_tasks.core.environment import configuration
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.runs import arrivals, pipeline
from llmser_tasks.runs.estimate import before_training
from llmser_tasks.texts.encoder import Encoder
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.pages import progress, users
from llmser_tasks.warehouse.tables import artefacts, runs

__all__ = ["llm", "llm_server"]

USERS = 60
WANTED = {"methods": ["base", "llm-esr"], "user_vectors": "summary", "endpoint": "double", "dataset": "tiny"}

Go = Callable[..., str]


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path))
    monkeypatch.delenv("LLMSER_INBOX", raising=False)
    monkeypatch.setattr(Encoder, "open", FakeEncoder.open)


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return SMALL | {"gate": None, "epochs": 1} | WANTED | write_dumps(tmp_path / "dumps", careers(USERS))


@pytest.fixture
def go(tmp_path: Path, values: dict[str, Any], warehouse: Warehouse, llm: Double) -> Go:
    """Run the pipeline to its end, with these settings over the usual ones."""

    def run(run_id: str, **knobs: Any) -> str:
        llm.reset()
        where = {"workspace": Workspace(tmp_path / "artefacts"), "warehouse": warehouse}
        return pipeline.run_all(values | knobs, endpoint=llm.endpoint, run_id=run_id, **where)

    return run


def rows(warehouse: Warehouse, query: str, **given: Any) -> list[dict[str, Any]]:
    with transaction(warehouse) as connection:
        return [dict(row) for row in connection.execute(text(query), given).mappings()]


def neighbours(warehouse: Warehouse, workspace: Workspace, run_id: str) -> bytes:
    made = artefacts.of_run(warehouse, run_id)["user-neighbours"]
    return b"".join(files(workspace, {"near": made.reference()}, "near").values())


def test_llm_esr_learns_from_whom_summaries_say_are_alike_and_a_second_run_pays_nothing(
    go: Go, tmp_path: Path, warehouse: Warehouse, llm: Double
) -> None:
    go("one")
    assert runs.load(warehouse, "one").state == "succeeded"
    (bill,) = rows(warehouse, "select * from run_costs where run_id = 'one'")
    assert (bill["step"], bill["users"], bill["answered"]) == ("user-summary", USERS, USERS)
    assert bill["calls"] == len(llm.asked) > USERS / 2
    (written,) = rows(warehouse, "select count(*) as n, count(text) as texts from user_texts where run_id = 'one'")
    assert written["n"] == USERS and written["texts"] >= USERS - 5
    (foretold,) = rows(warehouse, "select summary from steps where run_id = 'one' and step = 'estimate'")
    assert foretold["summary"].keys() == {"user-summary"}
    assert abs(foretold["summary"]["user-summary"]["calls"] - bill["calls"]) <= 3
    shown = progress.run(warehouse, "one")
    assert shown["asks"] and "user-summary" in [step["step"] for step in shown["steps"]]
    assert users.users(warehouse, "one")[0]["texts"][0]["text"].startswith("Likes Thing number")
    assert rows(warehouse, "select step from counted_answer_quality where run_id = 'one'") == [{"step": "user-summary"}]

    workspace = Workspace(tmp_path / "artefacts")
    go("two")
    assert llm.asked == []
    assert neighbours(warehouse, workspace, "one") == neighbours(warehouse, workspace, "two")
    assert rows(warehouse, "select state from steps where run_id = 'two' and step = 'llm-esr'") == [
        {"state": "unchanged"}
    ]
    go("mean", user_vectors="mean")
    assert llm.asked == [] and rows(warehouse, "select * from run_costs where run_id = 'mean'") == []
    assert neighbours(warehouse, workspace, "one") != neighbours(warehouse, workspace, "mean")
    shown = progress.run(warehouse, "mean")
    assert not shown["asks"] and "user-summary" not in [step["step"] for step in shown["steps"]]


def test_summaries_and_picks_are_asked_in_one_run(go: Go, warehouse: Warehouse) -> None:
    go("both", methods=["base", "llm-esr", "llmser"])
    asked = rows(warehouse, "select step, users from run_costs where run_id = 'both' order by step")
    assert [(row["step"], row["users"]) for row in asked] == [
        ("reason", USERS),
        ("snf", USERS),
        ("user-summary", USERS),
    ]
    shown = users.users(warehouse, "both")
    assert shown[0]["texts"] and shown[0]["answers"] and shown[0]["omega"] is not None


def test_a_run_that_fails_half_way_is_taken_up_without_paying_twice(
    go: Go, tmp_path: Path, values: dict[str, Any], warehouse: Warehouse, llm: Double
) -> None:
    def gone(block: Block, schema: dict[str, Any]) -> Any:
        if len(llm.asked) > 30:
            return 401, {"error": {"code": "invalid_api_key", "message": "no"}}
        return by_title(block, schema)

    llm.script = gone
    where = {"workspace": Workspace(tmp_path / "artefacts"), "warehouse": warehouse, "endpoint": llm.endpoint}
    with pytest.raises(Exception, match="refuses its key"):
        pipeline.run_all(values, run_id="half", **where)
    (known,) = rows(warehouse, "select count(*) as n from answers")
    go("half")
    (all_,) = rows(warehouse, "select count(*) as n from answers")
    assert known["n"] > 20 and len(llm.asked) == all_["n"] - known["n"]


def test_a_refresh_asks_only_about_who_changed(go: Go, tmp_path: Path, warehouse: Warehouse, llm: Double) -> None:
    go("first")
    inbox = tmp_path / "inbox" / "tiny" / "new.json"
    inbox.parent.mkdir(parents=True)
    lines = [
        {"reviewerID": user, "asin": f"A{item:03d}", "unixReviewTime": 200 * DAY, "overall": 5}
        for user, item in (("U001", 20), ("U002", 21))
    ]
    inbox.write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.utime(inbox, (time.time() - 3600,) * 2)
    go("second", **arrivals.values(warehouse, "tiny"))
    (bill,) = rows(warehouse, "select users, calls from run_costs where run_id = 'second'")
    assert (bill["users"], bill["calls"]) == (2, len(llm.asked)) and 0 < len(llm.asked) <= 2
    texts = "select user_id, text from user_texts where run_id = :r order by user_id"
    before, after = ({row["user_id"]: row["text"] for row in rows(warehouse, texts, r=r)} for r in ("first", "second"))
    assert before.keys() == after.keys()
    assert {user for user in before if before[user] != after[user]} <= {"U001", "U002"}


def test_held_out_items_change_no_question_and_no_vector(tmp_path: Path, warehouse: Warehouse, llm: Double) -> None:
    made = []
    for name, people in (("before", careers()), ("after", permuted(careers()))):
        workspace = Workspace(tmp_path / name)
        values = SMALL | WANTED | write_dumps(tmp_path / f"{name}-dumps", people)
        run = pipeline.start(name, values, workspace=workspace, warehouse=warehouse)
        llm.reset()
        made.append((workspace, pipeline.augment(run, llm.endpoint), len(llm.asked)))
    (here, ours, asked), (there, theirs, asked_again) = made
    assert files(here, ours, "test") != files(there, theirs, "test")
    assert asked > 0 and asked_again == 0, "the ledger answers every question of the second world"
    for name in ("user-vectors", "user-neighbours"):
        assert files(here, ours, name) == files(there, theirs, name)
    inputs = here.manifest(Artefact(**ours["user-vectors"]))["inputs"]
    assert inputs.keys() == {"training", "catalogue", "item-vectors", "summaries"}


@pytest.mark.parametrize("methods", [["base", "llm-esr"], ["base", "llmser", "llm-esr"]])
def test_the_embedded_ranker_is_refused_before_anything_begins(
    tmp_path: Path, values: dict[str, Any], warehouse: Warehouse, llm: Double, methods: list[str]
) -> None:
    sentence = "The embedded ranker writes no text; name an endpoint or set user_vectors to titles."
    wrong = values | {"endpoint": "llmser_ranker", "methods": methods}
    with pytest.raises(InputError) as told:
        pipeline.run_all(wrong, run_id="wrong", workspace=Workspace(tmp_path / "w"), warehouse=warehouse)
    assert str(told.value) == sentence
    assert rows(warehouse, "select * from runs") == [] and llm.asked == []
    ranker = type(llm.endpoint)(name="llmser_ranker", url=llm.endpoint.url, model="embedding-ranker")
    with pytest.raises(InputError) as told:
        before_training(Workspace(tmp_path / "w"), configuration(wrong), endpoint=ranker, warehouse=warehouse)
    assert str(told.value) == sentence
    assert configuration(wrong | {"user_vectors": "titles"})

"""The steps in order: reruns, knobs, ablations, kills."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import psycopg2
import pytest
from endpoint_double import Block, Double, by_title, llm, llm_server
from patience import PATIENCE_S, until
from psycopg2 import sql
from sqlalchemy import text
from tiny_dumps import ITEMS, SMALL, FakeEncoder, careers, write_dumps
from tiny_world import read

from llmser_tasks.core.environment import configuration
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.workspace import MANIFEST, Artefact, Workspace
from llmser_tasks.llm.fleet.ratelimit import BYTES_PER_TOKEN
from llmser_tasks.postgres import embedded
from llmser_tasks.ranker import child as embedded_ranker
from llmser_tasks.runs import pipeline
from llmser_tasks.runs.estimate import before_training
from llmser_tasks.runs.pipeline import Made, Run
from llmser_tasks.texts.encoder import Encoder
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.engine import engine, transaction
from llmser_tasks.warehouse.migrations import migrate
from llmser_tasks.warehouse.tables import acceptance, artefacts, runs

__all__ = ["llm", "llm_server"]

USERS = 60
Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    monkeypatch.setattr(Encoder, "open", FakeEncoder.open)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dumps and a workspace that the tests of this module share, so that only what differs is made."""
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module")
def values(shared: Path) -> dict[str, Any]:
    return SMALL | write_dumps(shared / "dumps", careers(USERS))


@pytest.fixture(scope="module")
def warehouse(postgres: embedded.Server) -> Iterator[Warehouse]:
    """A database for all tests of this module."""
    administer(postgres, "create database pipeline owner llmser")
    made = Warehouse(postgres.url_of("pipeline", "llmser"))
    migrate(made)
    yield made
    engine(made).dispose()
    administer(postgres, "drop database pipeline with (force)")


def administer(server: embedded.Server, statement: str) -> None:
    connection = psycopg2.connect(server.url_of("postgres").replace("+psycopg2", ""))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(statement))
    connection.close()


Augmented = Callable[..., tuple[Run, Made]]


@pytest.fixture
def augmented(shared: Path, values: dict[str, Any], warehouse: Warehouse, llm: Double) -> Augmented:
    """Run everything up to α with these knobs."""

    def run(run_id: str, **knobs: Any) -> tuple[Run, Made]:
        made = pipeline.start(run_id, values | knobs, workspace=Workspace(shared / "artefacts"), warehouse=warehouse)
        return made, pipeline.augment(made, llm.endpoint)

    return run


def rows(warehouse: Warehouse, query: str, **given: Any) -> Rows:
    with transaction(warehouse) as connection:
        return [dict(row) for row in connection.execute(text(query), given).mappings()]


def states(warehouse: Warehouse, run_id: str) -> dict[str, str]:
    """State per step; of batches and seeds the last one's."""
    return {
        row["step"]: row["state"]
        for row in rows(warehouse, "select step, state from steps where run_id = :r", r=run_id)
    }


def table(run: Run, refs: Made, name: str, file: str) -> dict[str, list[Any]]:
    loaded: dict[str, list[Any]] = read(run.workspace, Artefact(**refs[name]), file).to_pydict()
    return loaded


# A whole run ---------------------------------------------------------------------------------------------------------


def test_a_run_fills_postgres_and_a_second_one_repeats_nothing(
    shared: Path, values: dict[str, Any], warehouse: Warehouse, llm: Double
) -> None:
    workspace = Workspace(shared / "artefacts")

    def go(run_id: str) -> None:
        assert (
            pipeline.run_all(values, workspace=workspace, warehouse=warehouse, endpoint=llm.endpoint, run_id=run_id)
            == run_id
        )

    go("whole")
    assert runs.load(warehouse, "whole").state == "succeeded"
    counted = {
        name: rows(warehouse, f"select count(*) as n from {name} where run_id = 'whole'")[0]["n"]
        for name in ("picks", "pseudo_items", "reliability", "recommendations", "metrics", "reports")
    }
    assert counted["picks"] == 2 * USERS
    assert counted["pseudo_items"] == counted["reliability"] == counted["recommendations"] == USERS
    assert counted["metrics"] > 0
    assert counted["reports"] == 1
    costs = {row["step"]: row for row in rows(warehouse, "select * from run_costs where run_id = 'whole'")}
    assert costs["snf"]["calls"] + costs["reason"]["calls"] == len(llm.asked)
    assert costs["snf"]["users"] == costs["snf"]["answered"] == USERS
    assert set(states(warehouse, "whole").values()) == {"done"}
    noted = artefacts.of_run(warehouse, "whole")
    assert {"training", "test", "catalogue", "pseudo", "evaluation", "base/42", "llmser/42"} <= set(noted)
    assert all((workspace.folder(artefact) / MANIFEST).is_file() for artefact in noted.values())

    llm.reset()
    go("again")
    assert llm.asked == []
    again = states(warehouse, "again")
    made = {step for step, state in again.items() if state == "done"}
    assert made == {"estimate", "snf", "reason", "publish"}, "these write the run's own rows; the rest is there already"
    figures = "select method, protocol, user_group, metric, value from metrics where run_id = :r order by 1, 2, 3, 4"
    assert rows(warehouse, figures, r="whole") == rows(warehouse, figures, r="again")

    go("whole")
    assert rows(warehouse, "select count(*) as n from recommendations where run_id = 'whole'") == [{"n": USERS}]


def test_the_price_is_known_before_anything_is_asked(
    shared: Path, values: dict[str, Any], warehouse: Warehouse, llm: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The double bills 100 tokens in and 10 out for every question, whatever its size."""
    priced = replace(llm.endpoint, model="priced", price_per_million_prompt=10.0, price_per_million_completion=100.0)
    given = {"workspace": Workspace(shared / "artefacts"), "warehouse": warehouse}
    size = "select sum(prompt_bytes) as bytes from answers where run_id = 'poor' and step = :step"
    other = values | {"noun": "thing with a price"}
    before = {
        e.step: e
        for e in before_training(given["workspace"], configuration(other), endpoint=priced, warehouse=warehouse)
    }
    assert llm.asked == []

    with pytest.raises(InputError, match=r"will cost about .*, and its budget has 0\.0001 left; nothing was asked"):
        pipeline.run_all(other | {"budget": 1e-4}, run_id="poor", endpoint=priced, **given)
    assert llm.asked == [] and states(warehouse, "poor")["estimate"] == "failed"

    runs.set_budget(warehouse, "poor", 1.0)
    pipeline.run_all(other | {"budget": 1e-4}, run_id="poor", endpoint=priced, **given)
    (row,) = rows(warehouse, "select summary from steps where run_id = 'poor' and step = 'estimate'")
    bill = {row["step"]: row for row in rows(warehouse, "select * from run_costs where run_id = 'poor'")}
    for step in ("snf", "reason"):
        foretold = row["summary"][step]
        assert foretold["users"] == USERS and min(foretold["questions"], before[step].questions) >= USERS - 2
        assert abs(foretold["calls"] - bill[step]["calls"]) <= 3, "few users share a question"
        sent = rows(warehouse, size, step=step)[0]["bytes"]
        for told in (foretold["prompt_tokens"], before[step].prompt_tokens):
            assert told * BYTES_PER_TOKEN == pytest.approx(sent, rel=0.15)
        assert foretold["cost"] < foretold["most"] and foretold["hours"] is None
        assert bill[step]["cost"] == pytest.approx(bill[step]["calls"] * 0.002)
    assert bill["snf"]["prompt_tokens"] == 100 * bill["snf"]["calls"]
    groups = rows(warehouse, "select * from user_group_costs where run_id = 'poor'")
    assert {group["user_group"] for group in groups} <= {"tail users", "head users"}
    assert sum(group["cost"] for group in groups) == pytest.approx(sum(row["cost"] for row in bill.values()))

    after = before_training(given["workspace"], configuration(other), endpoint=priced, warehouse=warehouse)
    assert after[0].prompt_tokens == pytest.approx(100 * after[0].calls, rel=0.2), "it has learned what a token is"


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({}, "has a test item that is new to them"),
        ({"encoder": "/nowhere/bert"}, "is neither 'minilm' nor a folder"),
    ],
)
def test_what_would_be_in_vain_ends_before_anything_is_trained_or_asked(
    tmp_path: Path, warehouse: Warehouse, llm: Double, knobs: dict[str, str], sentence: str
) -> None:
    people = careers(USERS)
    if not knobs:
        people = {user: [*items, items[0]] for user, items in people.items()}
    values = SMALL | write_dumps(tmp_path / "dumps", people) | knobs
    run_id = f"in-vain-{len(knobs)}"
    with pytest.raises(InputError, match=sentence):
        pipeline.run_all(
            values, run_id=run_id, workspace=Workspace(tmp_path / "w"), warehouse=warehouse, endpoint=llm.endpoint
        )
    assert llm.asked == []
    assert states(warehouse, run_id) == {"ingest": "done", "sequences": "failed"}
    with pytest.raises(InputError, match=sentence) if not knobs else contextlib.nullcontext():
        before_training(Workspace(tmp_path / "w"), configuration(values), endpoint=llm.endpoint, warehouse=warehouse)


def test_a_failed_run_says_why_and_is_taken_up_where_it_stopped(
    shared: Path, values: dict[str, Any], warehouse: Warehouse, llm: Double
) -> None:
    given = {"workspace": Workspace(shared / "artefacts"), "warehouse": warehouse, "endpoint": llm.endpoint}
    llm.script = lambda *_: (401, {"error": {"code": "invalid_api_key", "message": "no"}})
    other = values | {"noun": "thing that fails"}  # a new prompt, so that the ledger does not know the answers
    with pytest.raises(Exception, match="refuses its key"):
        pipeline.run_all(other, run_id="fails", **given)
    row = runs.load(warehouse, "fails")
    assert row.state == "failed"
    assert "refuses its key" in str(row.message)
    assert states(warehouse, "fails")["snf"] == "failed"
    llm.reset()
    pipeline.run_all(other, run_id="fails", **given)
    assert runs.load(warehouse, "fails").state == "succeeded"
    assert runs.load(warehouse, "fails").message is None


def test_a_run_whose_endpoint_is_gone_goes_on_without_who_has_no_answer(
    shared: Path, values: dict[str, Any], warehouse: Warehouse, llm: Double
) -> None:
    given = {"workspace": Workspace(shared / "artefacts"), "warehouse": warehouse, "endpoint": llm.endpoint}
    other = values | {"noun": "thing that is let go"}  # a new prompt, so that the ledger does not know the answers
    batches = "select batch, state, answered, failed, accepted from batches where run_id = 'let-go' and step = :step"

    def gone_after(questions: int) -> Callable[..., Any]:
        refusal = 401, {"error": {"code": "invalid_api_key", "message": "no"}}
        return lambda block, schema: by_title(block, schema) if len(llm.asked) <= questions else refusal

    llm.script = gone_after(40)
    with pytest.raises(Exception, match="refuses its key"):
        pipeline.run_all(other, run_id="let-go", **given)
    assert [part.step for part in acceptance.accept(warehouse, "let-go")] == ["snf", "snf"], (
        "its second batch and the third"
    )
    answered = rows(warehouse, "select count(*) as n from answers where run_id = 'let-go'")[0]["n"]
    assert 30 <= answered <= 40

    llm.reset()
    llm.script = gone_after(0)
    with pytest.raises(Exception, match="refuses its key"):
        pipeline.run_all(other, run_id="let-go", **given)
    assert {row["state"] for row in rows(warehouse, batches, step="snf")} == {"done"}
    assert {part.step for part in acceptance.accept(warehouse, "let-go")} == {"reason"}

    llm.reset()
    pipeline.run_all(other, run_id="let-go", **given)
    assert llm.asked == []
    assert runs.load(warehouse, "let-go").state == "succeeded"
    without = acceptance.users(warehouse, "let-go")
    assert 0 < without["snf"] < USERS and without["reason"] > 0
    alphas = rows(
        warehouse,
        "select alpha, r.reason from reliability r join picks p using (run_id, user_id)"
        " where run_id = 'let-go' and p.reason = 'unanswered: accepted'",
    )
    assert len(alphas) >= without["snf"] and {row["alpha"] for row in alphas} == {0.0}
    report = queries.report(warehouse, "let-go")
    assert f"{without['snf']} users accepted without an answer</strong> in snf" in report


def test_a_run_that_breaks_does_not_look_as_if_it_ran(
    shared: Path, values: dict[str, Any], warehouse: Warehouse, llm: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline.publishing, "publish", broken)
    with pytest.raises(ZeroDivisionError):
        pipeline.run_all(
            values,
            workspace=Workspace(shared / "artefacts"),
            warehouse=warehouse,
            endpoint=llm.endpoint,
            run_id="breaks",
        )
    row = runs.load(warehouse, "breaks")
    assert (row.state, row.message) == ("failed", "ZeroDivisionError; see the log.")


def test_a_dataset_file_fills_what_is_not_given(
    tmp_path: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.json").write_text('{"noun": "book", "item_core": 7}')
    run = pipeline.start(
        "file", {"dataset": "mine", "item_core": 4}, workspace=Workspace(tmp_path), warehouse=warehouse
    )
    assert (run.config.dataset.noun, run.config.dataset.item_core) == ("book", 4)
    assert pipeline.load("file", workspace=run.workspace, warehouse=warehouse) == run


def test_a_run_that_can_ask_nobody_ends_before_anything_is_trained(
    tmp_path: Path, warehouse: Warehouse, llm: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path))
    people = {f"U{n}": [1 + n % 4, 16, 5 + n % 2, 7 + n % 9, 17 + n % 7] for n in range(60)}  # masked are 5 and 6
    values = SMALL | {"dataset": "mute"} | write_dumps(tmp_path / "dumps", people)  # which have no title
    given: dict[str, Any] = {
        "workspace": Workspace(tmp_path / "artefacts"),
        "warehouse": warehouse,
        "endpoint": llm.endpoint,
    }
    llm.reset()
    with pytest.raises(InputError, match=r"can be asked anything: 21 of 23 items.*reason: 0 of 60.*before anything is"):
        pipeline.run_all(values, run_id="mute", **given)
    assert set(states(warehouse, "mute")) == {"ingest", "sequences"} and not llm.asked
    assert runs.askable(warehouse, "mute") == {
        "users": 60,
        "steps": {"snf": 60, "reason": 0},
        "gaining": 0,
        "titled": 21,
        "items": 23,
    }
    with pytest.raises(InputError, match="can be asked anything"):
        before_training(given["workspace"], configuration(values), endpoint=llm.endpoint, warehouse=warehouse)
    pipeline.run_all(values | {"without": ["snf", "arv"]}, run_id="asked-for", **given)  # nobody is asked on purpose


def test_a_step_out_of_turn_says_what_is_missing(tmp_path: Path, warehouse: Warehouse) -> None:
    run = pipeline.start("turn", {}, workspace=Workspace(tmp_path), warehouse=warehouse)
    with pytest.raises(InputError, match="The artefact ingest has not been made yet"):
        pipeline.sequences(run, {})


def test_a_run_that_asks_nothing_starts_no_ranker(
    shared: Path, values: dict[str, Any], warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> Any:
        raise AssertionError("nobody is asked anything")

    monkeypatch.setattr(embedded_ranker, "running", refused)
    monkeypatch.delenv("LLMSER_RANKER_URL", raising=False)
    alone = values | {"methods": ["base"]}
    pipeline.run_all(alone, workspace=Workspace(shared / "artefacts"), warehouse=warehouse, run_id="alone")
    assert runs.load(warehouse, "alone").chosen == "base"


# Knobs and ablations -------------------------------------------------------------------------------------------------

UP_TO_SNF = {"ingest", "sequences", "item-vectors", "near-texts", "reverse", "forward"}


@pytest.mark.parametrize(
    ("knobs", "kept"),
    [
        ({"beta": 0.25}, {"ccg", "pseudo", "rcs"}),
        ({"tail_threshold": 2}, {"ccg", "pseudo", "rcs"}),
        ({"pseudo_items": 2}, {"ccg"}),
        ({"reason_pool": 3}, {"ccg", "pseudo"}),
        ({"pool": 5}, set()),
        ({"recommendations": 4, "enhance_inference": False}, {"ccg", "pseudo", "rcs", "reliability"}),
    ],
)
def test_a_changed_knob_reruns_what_depends_on_it_and_nothing_else(
    augmented: Augmented, warehouse: Warehouse, knobs: dict[str, Any], kept: set[str]
) -> None:
    name = "knob-" + "-".join(knobs)
    augmented("plain")
    augmented(name, **knobs)
    seen = states(warehouse, name)
    if "tail_threshold" in knobs:  # the training step notes T; its histories come out the same
        assert seen.pop("sequences") == "done"
    unchanged = {step for step, state in seen.items() if state == "unchanged"}
    assert unchanged == (UP_TO_SNF | kept) & set(seen)


def test_without_ccg_pools_are_random_and_still_filtered(
    augmented: Augmented, warehouse: Warehouse, llm: Double
) -> None:
    _, plain = augmented("plain")
    llm.reset()
    run, refs = augmented("without-ccg", without=["ccg"])
    assert "reverse" not in refs
    assert refs["ccg"]["content"] != plain["ccg"]["content"]
    assert set(table(run, refs, "ccg", "pools.parquet")["scores"][0]) == {0.0}
    assert len([block for block in llm.asked if len(block["candidates"]) > run.config.reliability.reason_pool]) > 0


def test_without_snf_the_pools_first_are_taken_unasked(augmented: Augmented, warehouse: Warehouse) -> None:
    run, refs = augmented("without-snf", without=["snf"])
    pools = table(run, refs, "ccg", "pools.parquet")["items"]
    items = table(run, refs, "pseudo", "pseudo.parquet")["items"]
    assert items == [pool[:3][::-1] for pool in pools]
    assert not rows(warehouse, "select 1 from picks where run_id = 'without-snf' and step = 'snf'")
    assert rows(warehouse, "select summary from steps where run_id = 'without-snf' and step = 'snf'")[0]["summary"] == {
        "left_out": "the run is without SNF"
    }


def test_without_arv_everyone_is_trusted_and_nobody_asked(augmented: Augmented, warehouse: Warehouse) -> None:
    run, refs = augmented("without-arv", without=["arv"])
    assert not {"forward", "rcs"} & set(refs)
    items = table(run, refs, "pseudo", "pseudo.parquet")["items"]
    assert table(run, refs, "reliability", "reliability.parquet")["alpha"] == [float(bool(row)) for row in items]
    assert not rows(warehouse, "select 1 from picks where run_id = 'without-arv' and step = 'reason'")


def test_without_rcs_the_reason_pool_is_random(augmented: Augmented) -> None:
    _, plain = augmented("plain")
    run, refs = augmented("without-rcs", without=["rcs"])
    assert "forward" not in refs
    assert refs["rcs"]["content"] != plain["rcs"]["content"]
    pools = table(run, refs, "rcs", "pools.parquet")
    assert set(np.concatenate(pools["items"])) == set(range(1, ITEMS + 1))
    assert set(table(run, refs, "reliability", "reliability.parquet")["source"]) <= {"strict", None}


def test_without_reason_rcs_names_the_item(augmented: Augmented, warehouse: Warehouse) -> None:
    run, refs = augmented("without-reason", without=["reason"])
    pools = table(run, refs, "rcs", "pools.parquet")["items"]
    scored = table(run, refs, "reliability", "reliability.parquet")
    untitled = {5, 6}
    for pool, named, source in zip(pools, scored["named"], scored["source"], strict=True):
        if named is not None:
            assert named == next(item for item in pool if item not in untitled)
            assert source == "rcs"
    assert not rows(warehouse, "select 1 from picks where run_id = 'without-reason' and step = 'reason'")


def test_without_wd_head_users_weigh_as_much(augmented: Augmented) -> None:
    run, refs = augmented("without-wd", without=["wd"], tail_threshold=2)
    scored = table(run, refs, "reliability", "reliability.parquet")
    assert scored["alpha"] == scored["omega"]
    run, refs = augmented("with-wd", tail_threshold=2)
    scored = table(run, refs, "reliability", "reliability.parquet")
    assert any(omega > 0 and n > 2 for omega, n in zip(scored["omega"], scored["n"], strict=True))
    assert scored["alpha"] == [o if n <= 2 else 0.5 * o for o, n in zip(scored["omega"], scored["n"], strict=True)]


# Kills ---------------------------------------------------------------------------------------------------------------

CHILD = """
import sys, json
from pathlib import Path
from tiny_dumps import FakeEncoder
from llmser_tasks.runs import pipeline
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.texts.encoder import Encoder
values, root, url, endpoint = json.loads(sys.argv[1])
Encoder.open = FakeEncoder.open
run = pipeline.start("killed", values, workspace=Workspace(Path(root)), warehouse=Warehouse(url))
pipeline.augment(run, Endpoint(name="double", url=endpoint, model="double", max_concurrency=4))
"""


def test_killed_in_an_llm_batch_the_next_run_asks_only_for_what_is_missing(
    shared: Path, values: dict[str, Any], llm: Double, database_url: str, augmented: Augmented
) -> None:
    warehouse = Warehouse(database_url)  # one of its own
    answered = 9
    killed = threading.Event()

    def stalls(block: Block, schema: dict[str, Any]) -> str:
        if len(llm.asked) > answered:
            killed.wait(PATIENCE_S)
        return by_title(block, schema)

    llm.script = stalls
    root = str(shared / "artefacts")
    argument = json.dumps([values, root, warehouse.url, llm.endpoint.url])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, argument], env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    )

    def written() -> int:
        assert child.poll() is None
        return int(rows(warehouse, "select count(*) as n from answers")[0]["n"])

    try:
        until(lambda: written() >= answered)  # in groups, two seconds after an answer came
        kept = written()
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        killed.set()
    assert kept == answered
    assert not rows(warehouse, "select 1 from picks"), "a batch that was killed left half its rows"

    llm.reset()
    run = pipeline.start("killed", values, workspace=Workspace(Path(root)), warehouse=warehouse)
    pipeline.augment(run, llm.endpoint)
    distinct = rows(warehouse, "select count(*) as n from answers")[0]["n"]
    assert len(llm.asked) == distinct - kept
    assert len({str(block) for block in llm.asked}) == len(llm.asked)
    assert rows(warehouse, "select count(*) as n, count(distinct (step, user_id)) as d from picks") == [
        {"n": 2 * USERS, "d": 2 * USERS}
    ]
    assert rows(warehouse, "select count(*) as n from reliability") == [{"n": USERS}]


# The embedded ranker -------------------------------------------------------------------------------------------------


def test_the_embedded_ranker_runs_for_the_length_of_the_block(tmp_path: Path) -> None:
    with embedded_ranker.running(tmp_path) as endpoint:
        port = httpx.URL(endpoint.url).port
        assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=PATIENCE_S).status_code == 200
        children = psutil.Process().children(recursive=True)
        listening = [c.laddr for child in children for c in child.net_connections() if c.status == "LISTEN"]
        assert ("127.0.0.1", port) in {(address.ip, address.port) for address in listening}
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health")

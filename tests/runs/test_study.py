"""Studies in one process: killed, resumed, extended, with a cell that fails; and what they would cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from click.testing import CliRunner, Result
from endpoint_double import Double, llm, llm_server
from psycopg2 import sql
from sqlalchemy import text
from tiny_dumps import SMALL, FakeEncoder, careers, write_dumps

from llmser_tasks import recommenders
from llmser_tasks.cli import cli
from llmser_tasks.core.cells import Cell, cells_of
from llmser_tasks.core.config import to_flat
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.study import Study, read_study
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.postgres import embedded
from llmser_tasks.runs import pipeline, study_cost
from llmser_tasks.runs import study as studying
from llmser_tasks.runs.study import Outcome
from llmser_tasks.texts.encoder import Encoder
from llmser_tasks.warehouse.engine import engine, transaction
from llmser_tasks.warehouse.liveness import living
from llmser_tasks.warehouse.migrations import migrate
from llmser_tasks.warehouse.pages import studies as pages
from llmser_tasks.warehouse.tables import publications, runs, studies

__all__ = ["llm", "llm_server"]

USERS = 40


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch, shared: Path) -> None:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    monkeypatch.setenv("LLMSER_HOME", str(shared))
    monkeypatch.setattr(Encoder, "open", FakeEncoder.open)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def dumps(shared: Path) -> dict[str, str]:
    return write_dumps(shared / "dumps", careers(USERS))


@pytest.fixture(scope="module")
def database(postgres: embedded.Server) -> Iterator[Warehouse]:
    """A database for all tests of this module."""
    connection = psycopg2.connect(postgres.url_of("postgres").replace("+psycopg2", ""))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("create database studies owner llmser"))
    made = Warehouse(postgres.url_of("studies", "llmser"))
    migrate(made)
    yield made
    engine(made).dispose()
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("drop database studies with (force)"))
    connection.close()


Written = Callable[..., Study]


@pytest.fixture
def written(tmp_path: Path, dumps: dict[str, str]) -> Written:
    """A study's file; `changed` says how it differs from the base with ASReP, one seed."""

    def write(name: str, **changed: Any) -> Study:
        path = tmp_path / f"{name}.json"
        asked = {"title": name, "datasets": {"tiny": dumps}, "backbones": ["sasrec"], "methods": ["base", "asrep"],
                 "seeds": [1], "settings": SMALL}  # fmt: skip
        path.write_text(json.dumps(asked | changed))
        return read_study(path)

    return write


@pytest.fixture
def run(shared: Path, database: Warehouse, llm: Double) -> Callable[[Study], Outcome]:
    def go(study: Study, **how: Any) -> Outcome:
        workspace = Workspace(shared / "artefacts")
        return studying.run_study(study, workspace=workspace, warehouse=database, endpoint=llm.endpoint, **how)

    return go


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The artefacts that are trained from here on."""
    done: list[str] = []
    real = recommenders.train

    def train(*given: Any, **more: Any) -> Any:
        done.append(given[4].parent.as_posix().rsplit("/artefacts/tiny/")[-1])
        return real(*given, **more)

    monkeypatch.setattr(recommenders, "train", train)
    return done


def rows(database: Warehouse, query: str) -> list[Any]:
    with transaction(database) as connection:
        return list(connection.execute(text(query)).all())


def test_interrupted_and_started_again_it_trains_nothing_twice(
    written: Written, run: Callable[..., Outcome], trainings: list[str], database: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    study = written("resumed", vary={"d": {"settings": [{"dropout": 0.1}]}})
    first, second = (cell.run_id for cell in cells_of(study))
    real = pipeline.evaluate

    def interrupted(of: Any, refs: Any) -> Any:
        if of.run_id == second:
            raise KeyboardInterrupt
        return real(of, refs)

    monkeypatch.setattr(pipeline, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(study)
    assert [each.state for each in studies.standings(database, "resumed").values()] == ["succeeded", "failed"]
    assert studies.standing(database, second).message == "Interrupted; the study resumed, started again, continues it."
    trained = list(trainings)
    assert len(trained) >= 4

    monkeypatch.setattr(pipeline, "evaluate", real)
    trainings.clear()
    begun: list[str] = []

    def shown(cell: Cell, *_: int) -> AbstractContextManager[None]:
        begun.append(cell.run_id)
        return nullcontext()

    outcome = run(study, shown=shown)
    assert outcome.complete and outcome.sentence == "2 of 2 cells done."
    assert begun == [second] and trainings == []
    assert runs.load(database, first).state == runs.load(database, second).state == "succeeded"


def test_a_file_that_has_grown_adds_cells_and_repeats_none(
    written: Written, run: Callable[..., Outcome], trainings: list[str], database: Warehouse
) -> None:
    assert run(written("grown", seeds=[11])).complete
    before = rows(database, "select run_id, finished_at from runs where run_id like 'grown.%'")
    trainings.clear()
    assert run(written("grown", seeds=[11, 12], methods=["base", "asrep", "sra-cl"])).complete
    after = rows(database, "select run_id, finished_at from runs where run_id like 'grown.%'")
    assert set(before) < set(after) and len(after) == 4
    seeded = [name for name in trainings if name.split("/")[0] in {"base", "asrep", "sra-cl"}]
    assert sorted(seeded) == ["asrep/12", "base/12", "sra-cl/11", "sra-cl/12"]
    (row, other, third) = pages.study(database, "grown")["figures"]
    assert [each["method"] for each in (row, other, third)] == ["base", "asrep", "sra-cl"]
    assert row["seeds"] == other["seeds"] == 2 and row["N@10"] > 0 and row["N@10 sd"] is not None


def test_a_changed_file_that_contradicts_what_is_finished_says_so(
    written: Written, run: Callable[..., Outcome], database: Warehouse
) -> None:
    run(written("contradicted"))
    with pytest.raises(InputError) as caught:
        run(written("contradicted", settings=SMALL | {"dropout": 0.25}))
    assert "says dropout 0.25 for tiny, SASRec, ASReP, seed 1, whose run contradicted.tiny.sasrec.asrep.seed1 has" in (
        str(caught.value)
    )
    assert "finished with null. Take the change back, or give the study another name" in str(caught.value)
    assert len(rows(database, "select from runs where run_id like 'contradicted.%'")) == 1


def test_what_has_not_begun_may_change(written: Written, database: Warehouse) -> None:
    for layers in (1, 2):
        study = written("undecided", settings=SMALL | {"layers": layers})
        studies.note(database, study, cells_of(study))
    (settings,) = rows(database, "select settings ->> 'layers' from study_cells where study = 'undecided'")
    assert settings[0] == "2"
    study = written("undecided", seeds=[5])
    studies.note(database, study, cells_of(study))
    assert list(studies.standings(database, "undecided")) == ["undecided.tiny.sasrec.asrep.seed5"]


def test_a_cell_that_fails_is_told_and_the_others_go_on(
    written: Written, run: Callable[..., Outcome], llm: Double
) -> None:
    study = written("failing", methods=["base", "llmser", "asrep"], settings=SMALL | {"noun": "thing that fails"})
    llm.script = lambda *_: (401, {"error": {"code": "invalid_api_key", "message": "no"}})
    told: list[str] = []
    outcome = run(study, told=told.append)
    assert len(told) == 1 and told[0].startswith("tiny, SASRec, LLMSeR, seed 1: failed, and the study goes on with ")
    assert "refuses its key" in told[0]
    assert outcome.done == ["tiny, SASRec, ASReP, seed 1"] and outcome.failed == ["tiny, SASRec, LLMSeR, seed 1"]
    assert outcome.sentence.startswith("1 of 2 cells done, 1 failed (tiny, SASRec, LLMSeR, seed 1: ")
    assert outcome.sentence.endswith("The same study, started again, takes up the rest.")
    with pytest.raises(InputError, match="1 of 2 cells done"):
        studying.finished(outcome)
    llm.reset()
    assert run(study).complete


def test_a_bug_in_one_cell_does_not_stop_the_others(
    written: Written, run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pipeline.run_all

    def broken(values: Any, **how: Any) -> str:
        if values["methods"][-1] == "sra-cl":
            raise ZeroDivisionError
        return real(values, **how)

    monkeypatch.setattr(pipeline, "run_all", broken)
    outcome = run(written("buggy", methods=["base", "sra-cl", "asrep"]), told=lambda _: None)
    assert len(outcome.done) == 1
    assert outcome.why == {"tiny, SASRec, SRA-CL, seed 1": "ZeroDivisionError; see the log."}


def test_cells_that_differ_after_the_questions_ask_nothing_anew(
    written: Written, run: Callable[..., Outcome], llm: Double, database: Warehouse, shared: Path
) -> None:
    settings = SMALL | {"noun": "thing asked once", "asked_items": 3}
    vary = {"beta": {"settings": [{"beta": 0.1}, {"beta": 0.9}]}, "M": {"settings": [{"pseudo_items": 2}]}}
    small = written("asking", methods=["base", "llmser"], settings=settings)
    whole = written("asking", methods=["base", "llmser"], settings=settings, vary=vary, seeds=[1, 2])

    planned = plan(whole, database, shared, llm)
    assert llm.asked == [] and planned[0].known == study_cost.ROUGH and planned[0].calls >= USERS
    open_ = {cell.title: cost for cell, cost in zip(cells_of(whole), planned, strict=True) if cost.calls}
    assert len(open_) == 2 and "pseudo_items 2" in list(open_)[1], "of M, Reason is shown other items"
    assert {each.known for each in planned if not each.calls} == {study_cost.SHARED}

    assert run(small).complete
    asked = len(llm.asked)
    assert asked > USERS
    assert run(whole).complete and len(cells_of(whole)) == 8
    assert len(llm.asked) - asked == pytest.approx(list(open_.values())[1].calls, abs=3)
    assert publications.current(database, "tiny") is None, "readers are not given a study's runs"
    why = runs.load(database, cells_of(small)[0].run_id).unpublished
    assert why and "because it is a cell of the study asking." in why


def plan(study: Study, database: Warehouse, shared: Path, llm: Double) -> list[Any]:
    cells = cells_of(study)
    states = studies.states(database, [cell.run_id for cell in cells])
    found = study_cost.costs(
        cells, states, workspace=Workspace(shared / "artefacts"), warehouse=database,
        endpoint_of=lambda _: llm.endpoint, embedding_of=lambda _: llm.endpoint,
    )  # fmt: skip
    return [cost for _, cost in found]


def test_a_plan_costs_nothing_and_knows_what_is_there(
    written: Written, run: Callable[..., Outcome], llm: Double, trainings: list[str], database: Warehouse, shared: Path
) -> None:
    settings = SMALL | {"noun": "thing that is planned", "epochs": 1}
    study = written("planned", methods=["base", "asrep", "llmser"], settings=settings)
    before = rows(database, "select run_id from runs union all select study from studies")
    asrep, llmser = plan(study, database, shared, llm)
    assert (asrep.known, asrep.calls, asrep.trainings) == (study_cost.ASKS_NOBODY, 0, 3), "reverse, base, ASReP"
    assert llmser.trainings == 2, "forward, LLMSeR: the others are an earlier cell's"
    assert llmser.questions >= USERS and llmser.calls >= USERS and llmser.prompt_tokens > 1000
    assert asrep.hours > 0 and llmser.hours > 0 and llmser.cost is None, "the double is in no price table"
    assert rows(database, "select run_id from runs union all select study from studies") == before
    assert llm.asked == [] and trainings == []

    run(study)
    after = plan(study, database, shared, llm)
    assert {(each.state, each.calls, each.trainings, each.known) for each in after} == {("succeeded", 0, 0, "done")}
    other = plan(written("planned-again", methods=["base", "llmser"], settings=settings), database, shared, llm)
    assert (other[0].known, other[0].calls, other[0].trainings) == (study_cost.THERE, 0, 0)
    assert "1 cells, 0 done: 0 calls" in study_cost.summary(other)


def test_a_plan_goes_on_from_the_candidates_of_a_run_that_failed(
    written: Written, run: Callable[..., Outcome], llm: Double, database: Warehouse, shared: Path
) -> None:
    study = written("halfway", methods=["base", "llmser"], settings=SMALL | {"noun": "thing half asked"})
    llm.script = lambda *_: (401, {"error": {"code": "invalid_api_key", "message": "no"}})
    run(study, told=lambda _: None)
    (cost,) = plan(study, database, shared, llm)
    assert (cost.state, cost.known) == ("failed", study_cost.ESTIMATED)


def test_a_plan_says_which_cells_could_not_run(
    written: Written, database: Warehouse, shared: Path, llm: Double, dumps: dict[str, str]
) -> None:
    datasets = {"nothing": {}, "gone": {"reviews": "/nowhere/r.json", "items": "/nowhere/m.json"}, "tiny": dumps}
    nothing, gone, tiny = plan(written("partial", datasets=datasets), database, shared, llm)
    assert nothing.known == study_cost.UNKNOWN_SIZE and "/nowhere/r.json" in gone.known
    assert tiny.hours is not None and gone.hours is None
    assert "2 cells are not in this" in study_cost.summary([nothing, gone, tiny])


def test_a_cell_that_somebody_else_runs_is_left_to_them(
    written: Written, run: Callable[..., Outcome], database: Warehouse
) -> None:
    study = written("shared")
    (cell,) = cells_of(study)
    told: list[str] = []
    with living(database) as owner:
        runs.create(database, cell.run_id, "tiny", to_flat(cell.config), owner=owner)
        outcome = run(study, told=told.append)
    assert told == [f"{cell.title}: somebody else is at work on it; the study goes on with the others."]
    assert outcome.sentence.startswith("0 of 1 cells done, 1 at work.")
    assert run(study).complete, "its process has ended without a word"


# The commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(database: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("LLMSER_DATABASE_URL", database.url)
    return lambda *arguments: CliRunner().invoke(cli, arguments)


def test_the_command_runs_a_study_and_lists_it(
    written: Written, command: Callable[..., Result], tmp_path: Path, dumps: dict[str, str]
) -> None:
    written("by-hand", datasets=["other"])
    file = str(tmp_path / "by-hand.json")
    refused = command("study", file)
    assert refused.exit_code == 1
    assert "dataset other: it has no dumps. Give them (--reviews other=FILE --items other=FILE;" in refused.stderr
    given = ("--reviews", f"tiny={dumps['reviews']}", "--items", f"tiny={dumps['items']}")
    assert "tiny, which is not studied; the datasets are: other." in command("study", file, *given).stderr
    planned = command("study", file, "--dataset", "tiny", *given, "--dry-run", "--format", "json")
    assert planned.exit_code == 0, planned.output
    (row,) = json.loads(planned.stdout)
    assert row["state"] == "open" and row["run_id"] == "by-hand.tiny.sasrec.asrep.seed1"
    done = command("study", file, "--dataset", "tiny", *given)
    assert done.exit_code == 0, done.output
    assert "Study by-hand: 1 of 1 cells done." in done.stderr
    assert "asrep" in done.stdout and "N@10 tail" in done.stdout
    assert "by-hand" in command("studies").stdout
    cells = json.loads(command("studies", "by-hand", "--format", "json").stdout)
    assert [(cell["run_id"], cell["state"]) for cell in cells] == [(row["run_id"], "succeeded")]
    assert "There is no study 'none' in the warehouse" in command("studies", "none").stderr


def test_a_study_with_a_failed_cell_ends_with_a_sentence(
    written: Written, command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> str:
        raise InputError("No luck.")

    written("unlucky")
    monkeypatch.setattr(pipeline, "run_all", broken)
    result = command("study", str(tmp_path / "unlucky.json"))
    assert result.exit_code == 1
    assert "Error: 0 of 1 cells done, 1 failed (tiny, SASRec, ASReP, seed 1: No luck)." in result.stderr

"""The DAG as Airflow reads it: order, form, pools, retries, docs. Nothing runs here."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow.sdk
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import RetryAction, TriggerRule
from airflow.sdk.exceptions import AirflowFailException

from llmser_tasks.core import config, kinds
from llmser_tasks.core import environment as settings
from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import ADDITIONS, ITEM_TABLES, METHODS, TRAINED
from llmser_tasks.llm import errors as llm
from llmser_tasks.llm.fleet.budget import BudgetSpent
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import failed_runs, failures, publications, runs
from llmser_tasks.warehouse.tables.publications import Chosen

FILE = Path(__file__).parents[2] / "dags" / "llmser.py"


@pytest.fixture(scope="module")
def dag() -> Any:
    bag = DagBag(str(FILE.parent))
    assert bag.import_errors == {}
    assert set(bag.dags) == {"llmser", "llmser_inbox", "llmser_refresh", "llmser_study"}
    return bag.dags["llmser"]


PARTS = {need for kind in (ITEM_TABLES, ADDITIONS) for part in kind.values() for need in part.needs}


@pytest.fixture
def told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a receiver is told: event, sentence, and the rest."""
    heard: list[Any] = []

    def send(_: str, notice: dict[str, str]) -> None:
        rest = {"run_id": notice["run"], "dataset": notice["dataset"], "then": notice["then"]}
        heard.append((notice["event"], notice["sentence"], rest))

    monkeypatch.setenv("LLMSER_DATABASE_URL", database_url)
    monkeypatch.setenv("LLMSER_NOTIFY", "somebody")
    monkeypatch.setattr("llmser_notice.send", send)
    return heard


def test_order_is_the_fixed_one(dag: Any) -> None:
    upstream = {task.task_id: task.upstream_task_ids for task in dag.tasks}
    chain = [
        "start", "ingest", "sequences", "reverse", "ccg", "plan_snf", "snf", "pseudo", "rcs", "plan_reason",
        "reason", "reliability", "train_llmser", "evaluate", "publish",
    ]  # fmt: skip
    for before, after in pairwise(chain):
        assert before in upstream[after], f"{after} must wait for {before}"
    assert upstream["forward"] == {"sequences"} and "forward" in upstream["rcs"]
    unpaid = {
        "sequences",
        "item-vectors",
        "reverse",
        "ccg",
        "prior-items",
        "forward",
        "item-neighbours",
        "near-texts",
    }
    assert upstream["estimate"] == unpaid, "what needs no answers is made before"
    assert upstream["item-vectors"] == {"sequences"} and "item-vectors" in upstream["evaluate"]
    assert upstream["train_asrep"] == {"plan_train_asrep", "sequences", "reverse", "prior-items", *PARTS}
    assert upstream["train_llm-esr"] == {"plan_train_llm-esr", "sequences", "item-vectors", "user-neighbours", *PARTS}
    assert upstream["train_sra-cl"] == {"plan_train_sra-cl", "sequences", "user-neighbours", "item-neighbours", *PARTS}
    others = set(kinds.chain(METHODS.every())) - {"search"}
    assert upstream["search"] == {"sequences", *others}, "a search comes after whatever there is to try"
    steps = others - {"snf", "reason", "user-summary"}
    assert upstream["train_searched"] == {"plan_train_searched", "sequences", "search", *steps}
    assert "estimate" in upstream["snf"] and "estimate" in upstream["reason"] and "estimate" in upstream["user-summary"]
    assert "user-summary" in upstream["user-vectors"], "which may be made of what is answered"
    base = {"plan_train_base", "sequences", *PARTS}
    assert upstream["train_base"] == base, "the base may train beside the LLM's answers"
    assert all(upstream[f"plan_train_{name}"] == {"start"} for name in TRAINED)
    assert {f"train_{name}" for name in TRAINED} <= upstream["evaluate"]
    assert set(upstream) >= {*chain, "forward", "train_base", "estimate"}


@pytest.mark.parametrize("task", ["start", "ingest"])
def test_a_run_cannot_read_what_is_the_service_users(
    dag: Any, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LLMSER_DUMPS", str(tmp_path / "dumps"))
    monkeypatch.setattr(address, "warehouse", lambda: warehouse)
    conf = {"dataset": "sample", "reviews": "/etc/passwd", "items": "/etc/shadow"}
    if task == "ingest":  # noted by an earlier release, or by `llmser run`
        runs.create(warehouse, "probe", "sample", config.to_flat(settings.configuration(conf)))
    context = {"run_id": "probe", "dag_run": SimpleNamespace(conf=conf, start_date=None)}
    monkeypatch.setattr(airflow.sdk, "get_current_context", lambda: context)
    with pytest.raises(AirflowFailException) as error:
        dag.get_task(task).python_callable()
    assert "/etc/passwd lies outside the folders from which runs on Airflow may read" in str(error.value)
    assert "root:" not in str(error.value)


def test_the_form_offers_presets_and_a_run_starts_from_one(
    dag: Any, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dag.params.get_param("preset").schema["enum"] == [None, *settings.preset_names()]
    monkeypatch.setattr(address, "warehouse", lambda: warehouse)
    conf = {name: param.value for name, param in dag.params.items()}  # what the form sends
    assert conf["preset"] is None

    def started(run_id: str, **entered: Any) -> Any:
        context = {"run_id": run_id, "dag_run": SimpleNamespace(conf=conf | entered, start_date=None)}
        monkeypatch.setattr(airflow.sdk, "get_current_context", lambda: context)
        return dag.get_task("start").python_callable()

    assert started("preset", preset="released", max_length=30) == [42, 43, 44]
    noted = runs.load(warehouse, "preset").settings
    assert (noted["max_length"], noted["loss"], noted["ties"]) == (30, "bce", "file")
    with pytest.raises(AirflowFailException, match="There is no preset 'nosuch'; name one of released"):
        started("other", preset="nosuch")


def test_the_llm_waits_in_its_pool_and_trainings_in_theirs(dag: Any) -> None:
    pools = {task.task_id: (task.pool, task.queue) for task in dag.tasks}
    assert {name for name, (pool, _) in pools.items() if pool == "llm"} == {"snf", "reason", "user-summary"}
    trainings = {"reverse", "ccg", "prior-items", "forward", "rcs", "search", *(f"train_{name}" for name in TRAINED)}
    assert {name for name, (pool, _) in pools.items() if pool == "gpu"} == trainings
    assert {name for name, (_, queue) in pools.items() if queue == "gpu"} == trainings


def test_a_skipped_empty_map_does_not_spread(dag: Any) -> None:
    for name in ("pseudo", "reliability", "train_llmser", "evaluate"):
        assert dag.get_task(name).trigger_rule == TriggerRule.NONE_FAILED


def test_mapped_tasks_have_names_that_a_person_recognises(dag: Any) -> None:
    assert "label" in dag.get_task("snf").map_index_template
    assert "label" in dag.get_task("reason").map_index_template
    assert "label" in dag.get_task("user-summary").map_index_template
    assert "label" in dag.get_task("train_llmser").map_index_template


def test_a_training_has_a_name_that_a_person_recognises(
    dag: Any, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "warehouse", lambda: warehouse)
    monkeypatch.setattr(
        airflow.sdk, "get_current_context", lambda: {"run_id": "r", "dag_run": SimpleNamespace(start_date=None)}
    )
    runs.create(warehouse, "r", "sample", config.to_flat(settings.configuration({"seeds": [42, 43]})))
    planned = dag.get_task("plan_train_llmser").python_callable([42, 43])
    assert [one["label"] for one in planned] == ["LLMSeR, seed 42", "LLMSeR, seed 43"]
    assert dag.get_task("plan_train_asrep").python_callable([42, 43]) == [], "the run does not train it"


def test_every_task_and_the_dag_are_explained(dag: Any) -> None:
    assert "Clear" in dag.doc_md or "clear" in dag.doc_md
    for task in dag.tasks:
        documented = task.partial_kwargs if task.is_mapped else {"doc_md": task.doc_md}
        assert len(documented.get("doc_md") or "") > 40, f"{task.task_id} has no docs"


def test_the_form_has_every_knob_with_help(dag: Any) -> None:
    params = {name: dag.params.get_param(name) for name in dag.params}
    assert [name for name in params if name != "preset"] == [parameter.name for parameter in config.parameters()]
    assert all(param.description for param in params.values())
    assert "beauty" in params["dataset"].schema["examples"]
    dag.params.validate()


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (llm.RateLimited("slow down"), RetryAction.RETRY),
        (llm.Unavailable("502"), RetryAction.RETRY),
        (llm.Timeout("60 s"), RetryAction.RETRY),
        (StorageError("Postgres is away"), RetryAction.RETRY),
        (llm.KeyRefused("wrong key"), RetryAction.FAIL),
        (llm.QuotaExhausted("arrears"), RetryAction.FAIL),
        (llm.EndpointUnsupported("no such model"), RetryAction.FAIL),
        (InputError("no such connection"), RetryAction.FAIL),
        (ZeroDivisionError("a bug"), RetryAction.DEFAULT),
    ],
)
def test_batches_are_tried_again_only_where_that_can_help(dag: Any, error: Exception, action: RetryAction) -> None:
    for name in ("snf", "reason", "user-summary"):
        policy = dag.get_task(name).retry_policy
        assert policy.evaluate(error, 1, 3).action == action


def test_what_the_user_must_mend_fails_at_once_in_one_sentence(dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from llmser_tasks.runs import pipeline

    ingest = dag.get_task("ingest").python_callable

    def broken(_: object) -> None:
        raise InputError("reviews.json.gz is missing; check the path.")

    monkeypatch.setitem(ingest.__wrapped__.__globals__, "load", lambda: None)
    monkeypatch.setattr(pipeline, "ingest", broken)
    with pytest.raises(AirflowFailException, match=r"^reviews\.json\.gz is missing; check the path\.$") as caught:
        ingest()
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_reading_the_file_imports_nothing_heavy() -> None:
    """The scheduler's workers read it before every task."""
    program = (
        "import sys, airflow.sdk, runpy; before = set(sys.modules)\n"
        f"sys.path.append({str(FILE.parent)!r}); runpy.run_path({str(FILE)!r}, run_name='dag')\n"
        "heavy = {'torch', 'pandas', 'pyarrow', 'duckdb', 'scipy', 'transformers', 'matplotlib', 'httpx'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("error", "event"),
    [(BudgetSpent("Run r has spent 20 of its budget of 20."), "budget reached"), (llm.KeyRefused("no"), "run failed")],
)
def test_who_is_told_hears_of_the_budget_by_name(
    dag: Any, warehouse: Warehouse, told: list[Any], error: Exception, event: str
) -> None:
    runs.create(warehouse, "r", "beauty", {})
    failed = dag.get_task("snf").partial_kwargs["on_failure_callback"]
    failed = failed[0] if isinstance(failed, list) else failed
    failed({"run_id": "r", "exception": error})
    assert told == [], "one notice a run, not one a batch"
    dag.on_failure_callback({"run_id": "r"})
    ((said, sentence, more),) = told
    assert (said, sentence) == (event, str(error))
    assert (more["run_id"], more["dataset"]) == ("r", "beauty") and "llmser rerun-failed r" in more["then"]


@pytest.mark.parametrize(
    ("validation", "without", "kept_back", "events"),
    [
        (0.2, False, False, []),
        (0.01, False, True, ["gate closed"]),
        (0.01, True, True, []),
    ],
)
def test_a_run_that_the_gate_keeps_back_is_told_and_no_other(
    dag: Any,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    told: list[Any],
    validation: float,
    without: bool,
    kept_back: bool,
    events: list[str],
) -> None:
    from llmser_tasks.runs import pipeline

    def concluded(run: Any, *_: Any, value: float = validation, ablation: bool = without) -> Any:
        with transaction(warehouse) as connection:
            runs.finish(connection, run.run_id)
            return publications.conclude(
                connection, run.run_id, Chosen("llmser", value, "name"), gate=0.05, ablation=ablation
            )

    for run_id in ("before", "r"):
        runs.create(warehouse, run_id, "beauty", {})
    concluded(SimpleNamespace(run_id="before"), value=0.1, ablation=False)
    task = dag.get_task("publish").python_callable
    monkeypatch.setitem(task.__wrapped__.__globals__, "load", lambda: SimpleNamespace(run_id="r", dataset="beauty"))
    monkeypatch.setattr(pipeline, "publish", concluded)
    assert task({}) is None
    sentence = runs.load(warehouse, "r").unpublished
    assert (sentence is not None) is kept_back
    assert [said for said, *_ in told] == events
    for _, why, more in told:
        assert f"{why} {more['then']}" == sentence and "the gate allows 5.0%" in why
        assert more == {"run_id": "r", "dataset": "beauty", "then": "`llmser publish r` publishes it all the same."}


def test_a_failure_that_is_told_late_does_not_undo_that_the_run_was_taken_up(
    dag: Any, warehouse: Warehouse, told: list[Any]
) -> None:
    runs.create(warehouse, "r", "beauty", {})
    failed_runs.fail(warehouse, "r", "503")
    ended = datetime.now(UTC)
    failed_runs.take_up(warehouse, "r", ended + timedelta(seconds=5))
    dag.on_failure_callback({"run_id": "r", "dag_run": SimpleNamespace(end_date=ended)})
    assert runs.load(warehouse, "r").state == "running" and told == []
    dag.on_failure_callback({"run_id": "r", "dag_run": SimpleNamespace(end_date=ended + timedelta(seconds=9))})
    assert runs.load(warehouse, "r").state == "failed" and len(told) == 1


def test_a_run_whose_first_task_failed_is_told_too(dag: Any, told: list[Any]) -> None:
    context = {"run_id": "never noted", "dag_run": SimpleNamespace(conf={"dataset": "beauty"}, end_date=None)}
    ti = SimpleNamespace(task_id="start", map_index=-1)
    dag.get_task("start").on_failure_callback[0](
        context | {"ti": ti, "exception": InputError("pool must be 1 or more.")}
    )
    dag.on_failure_callback(context)
    ((event, sentence, more),) = told
    assert (event, sentence, more["dataset"]) == ("run failed", "pool must be 1 or more.", "beauty")


def test_a_failed_run_is_told_once_each_time_it_fails(dag: Any, warehouse: Warehouse, told: list[Any]) -> None:
    runs.create(warehouse, "r", "beauty", {})
    for _ in range(2):
        dag.on_failure_callback({"run_id": "r"})
    assert [sentence for _, sentence, _ in told] == ["A task ended without a word, as if killed; rerun it."]
    failed_runs.take_up(warehouse, "r", datetime.now(UTC) + timedelta(hours=1))
    dag.on_failure_callback({"run_id": "r"})
    assert len(told) == 2


def test_why_a_task_fails_is_kept_by_the_task_itself_until_it_begins_anew(
    dag: Any, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    monkeypatch.setenv("LLMSER_DATABASE_URL", warehouse.url)
    noted = sys.modules[type(dag.get_task("start")).__module__].failure_noted

    def kept() -> list[Any]:
        with transaction(warehouse) as connection:
            return [(f.task, f.part, f.kind, f.message) for f in failures.of_run(connection, "r")]

    def fail(task: str, part: int, error: Exception) -> None:
        with pytest.raises(Exception, match=str(error)), noted("r", task, part, "beauty"):
            try:
                raise error
            except InputError:
                raise AirflowFailException(str(error)) from None

    fail("snf", 3, llm.QuotaExhausted("arrears"))
    fail("ingest", -1, InputError("no such file"))
    assert kept() == [("snf", 3, "quota", "arrears"), ("ingest", -1, "input", "no such file")]
    with noted("r", "snf", 3, "beauty"):
        assert kept() == [("ingest", -1, "input", "no such file")]


def test_the_callbacks_import_little(dag: Any, warehouse: Warehouse) -> None:
    """They may run in the DAG processor, which kills what takes long; the whole pipeline takes 9 CPU seconds."""
    runs.create(warehouse, "r", "beauty", {})
    program = (
        "import runpy, sys\n"
        f"sys.path.append({str(FILE.parent)!r}); made = runpy.run_path({str(FILE)!r}, run_name='dag')\n"
        "context = {'run_id': 'r', 'exception': None}\n"
        "made['failed'](context); made['ended_badly'](context)\n"
        "heavy = {'torch', 'pandas', 'pyarrow', 'numpy', 'numba', 'scipy', 'transformers', 'alembic'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "print(sorted(name.removeprefix('llmser_tasks.') for name in sys.modules if 'llmser_tasks.' in name))"
    )
    environment = os.environ | {"LLMSER_DATABASE_URL": warehouse.url, "LLMSER_NOTIFY": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    heavy, rooms = done.stdout.strip().splitlines()[-2:]
    assert heavy == "[]"
    loaded = set(ast.literal_eval(rooms))
    settings = {name for name in loaded if name.endswith("settings")}
    loaded -= {package for name in settings for package in accumulate(name.split("."), "{}.{}".format)}
    loaded -= {name for name in loaded if name.startswith("core.section")}  # nothing but pydantic
    pipeline = {"asking", "evaluation", "ingest", "methods", "recommenders", "sequences", "serving", "texts"}
    assert not pipeline & {name.split(".")[0] for name in loaded}
    assert "runs.pipeline" not in loaded
    assert {name for name in loaded if name.startswith("llm.")} <= {"llm.errors"}, "for rules of retries"
    assert len(loaded) < 30
    assert runs.load(warehouse, "r").state == "failed"

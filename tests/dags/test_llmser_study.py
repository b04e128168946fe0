"""The DAG of studies as Airflow reads it, and what its tasks do."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow.sdk
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.standard.triggers.external_task import DagStateTrigger
from airflow.sdk import RetryAction, TriggerRule
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRuntimeError,
    DagRunTriggerException,
    TaskDeferred,
)

from llmser_tasks.core import config, environment
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.study import ready_names
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import failed_runs, runs, studies

FILE = Path(__file__).parents[2] / "dags" / "llmser_study.py"


@pytest.fixture(scope="module")
def dag() -> Any:
    bag = DagBag(str(FILE))
    assert bag.import_errors == {}
    return bag.dags["llmser_study"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A study of two cells, among the dumps."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    path = folder / "small.json"
    dumps = {"reviews": str(folder / "r.json"), "items": str(folder / "m.json"), "noun": "{{ 1 }}"}
    asked = {"title": "small", "datasets": {"mine": dumps}, "backbones": ["sasrec"], "methods": ["base", "asrep"],
             "seeds": [1, 2]}  # fmt: skip
    path.write_text(json.dumps(asked))
    return path


@pytest.fixture
def entered(warehouse: Warehouse, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the form holds."""
    values: dict[str, Any] = {"study": str(file), "datasets": None}
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LLMSER_DUMPS", str(file.parent))
    monkeypatch.setattr(address, "warehouse", lambda: warehouse)
    monkeypatch.setattr(airflow.sdk, "get_current_context", lambda: {"params": values})
    return values


def open_(dag: Any) -> Any:
    return dag.get_task("open_study").python_callable()


def close(dag: Any, opened: Any) -> Any:
    return dag.get_task("close_study").python_callable(opened)


def test_each_cell_is_a_run_of_llmser_a_few_at_once(dag: Any) -> None:
    cell = dag.get_task("cell")
    assert cell.is_mapped and cell.upstream_task_ids == {"open_study"}
    given = cell.partial_kwargs
    assert (given["trigger_dag_id"], given["reset_dag_run"], given["deferrable"]) == ("llmser", True, True)
    assert given["max_active_tis_per_dagrun"] == 2 and given["wait_for_completion"]
    last = dag.get_task("close_study")
    assert last.upstream_task_ids == {"cell", "open_study"} and last.trigger_rule == TriggerRule.ALL_DONE


def test_a_failed_run_is_not_started_again_by_itself_but_a_lost_call_is(dag: Any) -> None:
    policy = dag.get_task("cell").partial_kwargs["retry_policy"]
    assert policy.evaluate(AirflowException("llmser failed"), 1, 6).action == RetryAction.FAIL
    lost = AirflowRuntimeError(SimpleNamespace(error=SimpleNamespace(value="x"), detail=None))  # type: ignore[arg-type]
    assert policy.evaluate(lost, 1, 6).action == RetryAction.RETRY


def test_the_form_offers_what_ships(dag: Any) -> None:
    assert dag.params.get_param("study").schema["examples"] == ready_names()
    dag.params.validate()
    assert "how the study stands" in dag.doc_md


def test_cells_come_in_order_with_what_their_runs_are_started_with(
    dag: Any, entered: dict[str, Any], warehouse: Warehouse
) -> None:
    first, second = open_(dag)
    assert first["trigger_run_id"] == "small.mine.sasrec.asrep.seed1"
    assert first["conf"]["seeds"] == [1] and second["conf"]["seeds"] == [1, 2]
    assert first["conf"]["noun"] == "{{ 1 }}"
    json.dumps([first, second])
    assert [each.state for each in studies.standings(warehouse, "small").values()] == ["open", "open"]


def test_no_setting_of_a_cell_is_taken_for_a_template(dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow spares mapped values, but not those within a mapped dictionary, from being rendered."""
    mapped = dag.get_task("cell")
    asked = {"trigger_run_id": "{{ 2 }}", "conf": {"noun": "{{ 1 }}"}}
    spared = {id(asked["trigger_run_id"])}
    monkeypatch.setattr(type(mapped), "_expand_mapped_kwargs", lambda self, context: (asked, spared))
    context: Any = {"ti": SimpleNamespace(task=None), "dag": dag, "dag_run": SimpleNamespace(conf={})}
    mapped.render_template_fields(context)
    assert context["task"].conf == {"noun": "{{ 1 }}"} and context["task"].trigger_run_id == "{{ 2 }}"


def succeed(warehouse: Warehouse, run_id: str) -> None:
    with transaction(warehouse) as connection:
        runs.finish(connection, run_id)


def start(warehouse: Warehouse, cell: dict[str, Any]) -> None:
    flat = config.to_flat(environment.configuration(cell["conf"]))
    runs.create(warehouse, cell["trigger_run_id"], "mine", flat)


def test_started_again_it_takes_up_what_is_open_and_says_how_it_stands(
    dag: Any, entered: dict[str, Any], warehouse: Warehouse
) -> None:
    first, second = opened = open_(dag)
    for cell in opened:
        start(warehouse, cell)
    succeed(warehouse, first["trigger_run_id"])
    failed_runs.fail(warehouse, second["trigger_run_id"], "The endpoint is gone.")
    with pytest.raises(
        AirflowFailException, match=r"^1 of 2 cells done, 1 failed \(mine, SASRec, ASReP, seed 2: .*gone"
    ):
        close(dag, opened)
    assert open_(dag) == [second]
    succeed(warehouse, second["trigger_run_id"])
    assert open_(dag) == []
    assert close(dag, []) == "2 of 2 cells done."


def test_a_study_that_could_not_be_opened_fails_as_a_whole(dag: Any, entered: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="the task open_study says why"):
        close(dag, None)


@pytest.mark.parametrize(
    ("study", "datasets", "sentence"),
    [
        ("/etc/passwd", None, "The study: /etc/passwd lies outside the folders from which runs on Airflow may read"),
        ("/etc/nosuch", None, "The study: /etc/nosuch lies outside the folders"),
        ("../../../etc/passwd", None, "lies outside the folders"),
        ("a\0b", None, "is no path"),
        ("", None, "lies outside the folders|There is no study"),
        ("quick", None, r"Study quick .*dataset beauty: it has no dumps"),
        (None, {"mine": {"reviews": "/etc/shadow"}}, "Setting reviews: /etc/shadow lies outside the folders"),
        (None, {"mine": 3}, "Study small"),
        (None, {"../x": {}}, "Study small"),
        (
            None,
            {"fashion": {"reviews": "r.json", "tail_threshold": None}},
            r"is emptied \(null\), which a run on Airflow",
        ),
        (None, {"mine": {"nosuch": 3}}, "there is no setting 'nosuch'"),
    ],
)
def test_what_cannot_be_studied_fails_with_a_sentence(
    dag: Any, entered: dict[str, Any], warehouse: Warehouse, file: Path, monkeypatch: pytest.MonkeyPatch,
    study: str | None, datasets: Any, sentence: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(file.parent)
    entered |= {"datasets": datasets} | ({} if study is None else {"study": study})
    with pytest.raises(AirflowFailException, match=sentence) as caught:
        open_(dag)
    assert "root:" not in str(caught.value)
    with transaction(warehouse) as connection:
        assert connection.exec_driver_sql("select count(*) from studies").scalar() == 0


@pytest.mark.parametrize("busy", [True, False])
def test_a_run_that_is_at_work_is_waited_for_and_not_begun_anew(dag: Any, busy: bool) -> None:
    operator = import_module("llmser_study").Cell(
        task_id="cell", trigger_dag_id="llmser", trigger_run_id="r", conf={}, logical_date=None, reset_dag_run=True,
        wait_for_completion=True, deferrable=True,
    )  # fmt: skip

    def count(_: str, run_ids: list[str], states: list[str]) -> int:
        assert run_ids == ["r"] and states == ["queued", "running"]
        return int(busy)

    context: Any = {"ti": SimpleNamespace(get_dr_count=count)}
    with pytest.raises(TaskDeferred if busy else DagRunTriggerException) as raised:
        operator.execute(context)
    if busy:
        assert isinstance(raised.value, TaskDeferred)  # type: ignore[unreachable]
        trigger = raised.value.trigger
        assert isinstance(trigger, DagStateTrigger) and trigger.run_ids == ["r"]

"""The DAGs that start refreshes, as Airflow reads them, and what their tasks do with an event."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow.sdk
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.tables import refreshes, runs

FILE = Path(__file__).parents[2] / "dags" / "llmser_refresh.py"


@pytest.fixture(scope="module")
def dags() -> dict[str, Any]:
    bag = DagBag(str(FILE))
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_an_event_of_a_dataset_starts_a_run_for_it_alone(dags: dict[str, Any]) -> None:
    timetable = dags["llmser_refresh"].timetable
    assert type(timetable).__name__ == "PartitionedAssetTimetable"
    assert timetable.asset_condition.name == "llmser_arrivals"
    start = dags["llmser_refresh"].get_task("start_run")
    assert start.trigger_dag_id == "llmser" and start.upstream_task_ids == {"take"}
    assert start.skip_when_already_exists, "a retry must not start a second run"


def test_inboxes_are_looked_into_on_a_cron_one_look_at_a_time(dags: dict[str, Any]) -> None:
    dag = dags["llmser_inbox"]
    assert (dag.schedule, dag.max_active_runs, dag.catchup) == ("*/10 * * * *", 1, False)
    assert [asset.name for asset in dag.get_task("look").outlets] == ["llmser_arrivals"]


@pytest.fixture
def event(dags: dict[str, Any], warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answer an event of this partition; runs that Airflow knows as waiting or running are given."""
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path))
    monkeypatch.setattr(address, "warehouse", lambda: warehouse)

    def answer(partition: str | None, waiting: set[str] | None = None) -> Any:
        def count(_: str, run_ids: list[str], states: list[str]) -> int:
            assert states == ["queued", "running"]
            return len(set(run_ids) & (waiting or set()))

        context = {"dag_run": SimpleNamespace(partition_key=partition), "ti": SimpleNamespace(get_dr_count=count)}
        monkeypatch.setattr(airflow.sdk, "get_current_context", lambda: context)
        return dags["llmser_refresh"].get_task("take").python_callable()

    return answer


def test_the_event_becomes_a_run_and_the_next_ones_wait(event: Any, warehouse: Warehouse) -> None:
    taken = event("beauty")
    assert taken["conf"] == {"dataset": "beauty", "incremental": True}
    assert taken["run_id"].startswith("refresh__beauty__")
    for _ in range(9):
        with pytest.raises(AirflowSkipException, match="A refresh of beauty waits or runs; another one comes after it"):
            event("beauty", waiting={taken["run_id"]})
    assert refreshes.due(warehouse, "beauty", None, lambda _: False), "one more is wanted"
    event("beauty")
    assert not refreshes.due(warehouse, "beauty", None, lambda _: False)


@pytest.mark.parametrize("partition", ["nobody", "", "../beauty", "'; drop table runs; --"])
def test_a_partition_that_is_no_dataset_fails_with_a_sentence(event: Any, partition: str) -> None:
    with pytest.raises(AirflowFailException, match=r"^There is no dataset .* to refresh; there are: .*beauty"):
        event(partition)


def test_an_event_without_a_partition_fails_with_a_sentence(event: Any) -> None:
    with pytest.raises(AirflowFailException, match="names no dataset; its partition key must be one"):
        event(None)


@pytest.mark.parametrize("inbox", ["reachable", "out of reach"])
def test_a_look_finds_what_failed_unheard_and_tells_it(
    dags: dict[str, Any], warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inbox: str
) -> None:
    def due(*_: Any) -> list[str]:
        if inbox == "reachable":
            return []
        raise InputError("The inbox cannot be reached.")

    told: list[Any] = []
    ti = SimpleNamespace(get_dr_count=lambda _, run_ids, states: len(run_ids) if "failed" in (states or ()) else 0)
    monkeypatch.setenv("LLMSER_DATABASE_URL", warehouse.url)
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path))
    monkeypatch.setenv("LLMSER_NOTIFY", "somebody")
    monkeypatch.setattr("llmser_tasks.runs.arrivals.due", due)
    monkeypatch.setattr("llmser_notice.send", lambda _, notice: told.append((notice["run"], notice["event"])))
    monkeypatch.setattr(airflow.sdk, "get_current_context", lambda: {"ti": ti})
    runs.create(warehouse, "killed", "beauty", {})
    for _ in range(2):
        with pytest.raises((AirflowSkipException, InputError)):
            dags["llmser_inbox"].get_task("look").python_callable(outlet_events={})
    assert told == [("killed", "run failed")]
    assert runs.load(warehouse, "killed").state == "failed"

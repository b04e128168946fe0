"""Assets: that they form one chain, name the warehouse without its password, and say what an event is about."""

from __future__ import annotations

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.execution_time.context import OutletEventAccessors

import llmser_lineage as lineage
from llmser_tasks.services.airflow_settings import PROJECT

URL = "postgresql+psycopg2://llmser:hunter2@db.example:5433/warehouse"


def test_from_dumps_to_tables_every_step_hands_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_DATABASE_URL", URL)
    monkeypatch.syspath_prepend(str(PROJECT / "dags"))
    tasks = DagBag(str(PROJECT / "dags")).dags["llmser"].tasks
    made = {asset.name: task for task in tasks if not task.is_mapped for asset in task.outlets}
    used = {asset.name for task in tasks if not task.is_mapped for asset in task.inlets}
    assert used - set(made) == {"llmser_dumps"}, "all else that is used is made"
    tables = {name.rsplit("/", 1)[1]: task.task_id for name, task in made.items() if name.startswith("postgres://")}
    assert tables == dict.fromkeys(("pseudo_items", "reliability"), "reliability") | dict.fromkeys(
        ("metrics", "comparisons", "recommendations", "reports"), "publish"
    )
    for name, task in made.items():
        upstream = {made[asset.name].task_id for asset in task.inlets if asset.name in made}
        above = {found.task_id for found in task.get_flat_relatives(upstream=True)}
        assert upstream <= above, f"{name} is made of what runs before it"


def test_a_table_is_named_by_its_place_without_who_may_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_DATABASE_URL", URL)
    (asset,) = lineage.tables("metrics")
    assert asset.uri == asset.name == "postgres://db.example:5433/warehouse/llmser/metrics"
    monkeypatch.setenv("LLMSER_DATABASE_URL", "postgresql://u:p@[::1]/w")
    assert lineage.tables("metrics")[0].uri == "postgres://[::1]:5432/w/llmser/metrics"
    monkeypatch.delenv("LLMSER_DATABASE_URL")
    assert lineage.tables("metrics") == []


def test_an_event_says_which_dataset_and_run_and_where_it_is() -> None:
    context = {"outlet_events": OutletEventAccessors(), "run_id": "manual__1"}
    reference = {"dataset": "beauty", "step": "ingest", "content": "abc"}
    lineage.note(context, [lineage.INTERACTIONS], "beauty", {"ingest": reference})  # type: ignore[arg-type]
    extra = context["outlet_events"][lineage.INTERACTIONS].extra  # type: ignore[index]
    assert extra == {"dataset": "beauty", "run_id": "manual__1", "artefact": reference}


def test_no_name_stands_for_two_assets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow fails every task one of whose assets collides with another one."""
    monkeypatch.setenv("LLMSER_DATABASE_URL", URL)
    monkeypatch.syspath_prepend(str(PROJECT / "dags"))
    dags = DagBag(str(PROJECT / "dags")).dags
    assert {"llmser", "llmser_refresh", "llmser_inbox"} <= set(dags)
    tasks = [task for dag in dags.values() for task in dag.tasks if not task.is_mapped]
    assets = {(asset.name, asset.uri) for task in tasks for asset in (*task.inlets, *task.outlets)}
    assets.add((lineage.INTERACTIONS.name, lineage.INTERACTIONS.uri))
    assert ("llmser_arrivals", "x-llmser://arrivals") in assets
    assert len({name for name, _ in assets}) == len(assets) == len({uri for _, uri in assets})

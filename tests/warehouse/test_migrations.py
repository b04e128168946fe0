"""Migrations: repeatable, one at a time, upgrades keep data."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.postgres import embedded
from llmser_tasks.postgres.home import ADMIN
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.engine import SCHEMA, transaction
from llmser_tasks.warehouse.migrations import SCRIPTS, migrate, upgrade
from llmser_tasks.warehouse.pages import costs, drift, overview, progress, published, results, tables, users
from llmser_tasks.warehouse.tables import artefacts, publications, runs

LATEST = max(path.name[:4] for path in (SCRIPTS / "versions").glob("[0-9]*_*.py"))
LATER, AFTER = (f"{int(LATEST) + further:04}" for further in (1, 2))


def test_everything_lies_in_one_schema(warehouse: Warehouse) -> None:
    with transaction(warehouse) as connection:
        schemas = connection.execute(
            text("select table_schema, count(*) from information_schema.tables"
                 " where table_schema not in ('pg_catalog', 'information_schema') group by 1")
        ).all()  # fmt: skip
        assert [schema for schema, _ in schemas] == ["llmser"]
        for view in ("table1", "tail_report", "run_costs", "recommended_items"):
            connection.execute(text(f"select * from llmser.{view}"))


def test_again_changes_nothing(warehouse: Warehouse) -> None:
    runs.create(warehouse, "r", "sample", {"a": 1})
    migrate(warehouse)
    assert runs.load(warehouse, "r").config == {"a": 1}


def test_concurrent_callers_do_not_collide(empty_warehouse: Warehouse) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [empty_warehouse] * 4))
    assert version(empty_warehouse) == LATEST


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The migrations of a later release."""
    scripts = tmp_path / "sql 100%"
    shutil.copytree(SCRIPTS, scripts)
    (scripts / "versions" / f"{LATER}_later.py").write_text(
        f"from alembic import op\nrevision, down_revision = '{LATER}', '{LATEST}'\n"
        "def upgrade():\n    op.execute(\"alter table runs add column colour text not null default 'blue'\")\n"
    )
    return scripts


def test_an_upgrade_keeps_data(warehouse: Warehouse, newer: Path) -> None:
    runs.create(warehouse, "r", "sample", {"a": 1})
    migrate(warehouse, newer)
    assert version(warehouse) == LATER
    with transaction(warehouse) as connection:
        assert connection.execute(text("select run_id, colour from runs")).one() == ("r", "blue")


def test_a_failing_upgrade_leaves_the_old_schema(warehouse: Warehouse, newer: Path) -> None:
    (newer / "versions" / f"{AFTER}_broken.py").write_text(
        f"from alembic import op\nrevision, down_revision = '{AFTER}', '{LATER}'\n"
        "def upgrade():\n    op.execute('select 1 / 0')\n"
    )
    with pytest.raises(Exception, match="division by zero"):
        migrate(warehouse, newer)
    assert version(warehouse) == LATEST


def test_a_newer_schema_is_refused(warehouse: Warehouse, newer: Path) -> None:
    migrate(warehouse, newer)
    sentence = rf"has schema {LATER}, newer than this LLMSeR knows \({LATEST}\); upgrade LLMSeR"
    with pytest.raises(StorageError, match=sentence):
        migrate(warehouse)
    assert version(warehouse) == LATER


def test_a_role_without_rights_is_told_so(empty_database_url: str, postgres: embedded.Server) -> None:
    name = empty_database_url.rsplit("/", 1)[1]
    url = postgres.url_of(name, "airflow")
    admin = create_engine(postgres.url_of(name, ADMIN))
    with admin.begin() as connection:
        connection.execute(text(f"grant connect on database {name} to airflow"))
    admin.dispose()
    with pytest.raises(StorageError, match="permission denied for database") as caught:
        migrate(Warehouse(url))
    assert postgres.passwords["airflow"] not in str(caught.value)


BEFORE_METHODS = [  # revision 0014: two finished runs, the first from before runs kept their validation metric
    "insert into runs (run_id, dataset, config, state, code_version, started_at, finished_at, validation) values"
    """ ('ancient', 'shop', '{"backbone": "sasrec", "seeds": [42]}', 'succeeded', '1', '2026-01-01', now(), null),"""
    """ ('old', 'shop', '{"backbone": "sasrec", "seeds": [42, 43]}', 'succeeded', '1', '2026-02-01', now(), 0.1),"""
    """ ('going', 'shop', '{"backbone": "sasrec", "seeds": [42]}', 'running', '1', '2026-03-01', null, null)""",
    "insert into publications (dataset, version, run_id, how)"
    " values ('shop', 1, 'ancient', 'run'), ('shop', 2, 'old', 'run')",
    "insert into metrics select r, m, s, p, g, k, length(m) * 0.05, 40 from unnest(array['ancient', 'old']) r,"
    " unnest(array['base', 'llmser', 'popularity', 'cooccurrence']) m, unnest(array[42, 43]) s,"
    " unnest(array['full', 'uniform-100']) p, unnest(array['all', 'tail users']) g, unnest(array['N@10', 'H@10']) k",
    "insert into comparisons (run_id, protocol, user_group, metric, base, llmser, difference, low, high, p, p_holm,"
    " level, seeds, stars) select run_id, protocol, user_group, metric, .2, .3, .1, .05, .15, .001, .002, .99, 2, '**'"
    " from metrics where model = 'base' and seed = 42",
    "insert into earlier_comparisons (run_id, earlier_run, protocol, user_group, metric, earlier, llmser, difference,"
    " low, high, p, p_holm, level, seeds, stars)"
    " values ('old', 'ancient', 'full', 'all', 'N@10', .25, .3, .05, .01, .09, .001, .002, .95, 2, '**')",
    "insert into recommendations select r, u, array['a', 'b'], array[2, 1]::real[]"
    " from unnest(array['ancient', 'old']) r, unnest(array['ann', 'bob']) u",
    "insert into steps (run_id, step, part, state, artefacts, finished_at) values"
    """ ('old', 'base', 'seed 42', 'done', '{"base/42": {"step": "base", "path": "b", "content": "1"}}', now()),"""
    """ ('old', 'weighted', 'seed 42', 'done',"""
    """ '{"weighted/42": {"step": "weighted", "path": "w", "content": "2"}}', now()),"""
    " ('old', 'ingest', '', 'done', null, now()), ('going', 'weighted', 'seed 42', 'running', null, null)",
    "insert into batches (run_id, step, batch, label, users, state) values ('old', 'snf', 0, 'users 0–1', 2, 'done')",
    "insert into pseudo_items values ('old', 'ann', array['a'], array['A'], array['strict'])",
    "insert into reliability values ('old', 'ann', 2, 'b', 'B', 'b', 'B', 'strict', 1, 1, null, 'hash')",
    "select count_answers('old')",
]


@pytest.fixture
def upgraded(empty_warehouse: Warehouse) -> Warehouse:
    """A warehouse that was filled before figures were rows of any method, and then upgraded."""
    with transaction(empty_warehouse) as connection:
        connection.execute(text(f"create schema {SCHEMA}"))
        upgrade(connection, SCHEMA, "0014")
        for statement in BEFORE_METHODS:
            connection.exec_driver_sql(statement)
    migrate(empty_warehouse)
    return empty_warehouse


def test_figures_from_before_there_were_methods_are_those_of_llmser_against_the_base(upgraded: Warehouse) -> None:
    (dataset,) = overview.datasets(upgraded)
    assert (dataset["run_id"], dataset["succeeded"], dataset["chosen"], dataset["method"]) == (
        "going", "old", "llmser", "llmser",
    )  # fmt: skip
    assert (dataset["reference_mean"], dataset["mean"], dataset["difference"]) == (
        pytest.approx(0.2), pytest.approx(0.3), 0.1,
    )  # fmt: skip
    assert [(row["run_id"], row["method"]) for row in overview.runs(upgraded)] == [
        ("going", None), ("old", "llmser"), ("ancient", "llmser"),
    ]  # fmt: skip
    old = results.results(upgraded, "old")
    assert {(row["method"], row["reference"]) for row in old["comparisons"]} == {("llmser", "base")}
    assert {(row["method"], row["earlier_method"], row["mean"]) for row in old["earlier"]} == {
        ("llmser", "llmser", 0.3)
    }
    assert (old["chosen"], old["chosen_by"], old["validation"]) == ("llmser", "name", {"llmser": 0.1})
    assert [row["method"] for row in published.published(upgraded, "shop")["versions"]] == ["llmser", "llmser"]
    moved = drift.drift(upgraded, "shop")
    assert [(row["method"], row["methods"]) for row in moved] == [
        ("llmser", {"base": pytest.approx(0.2), "llmser": pytest.approx(0.3)})
    ] * 2


def test_models_from_before_there_were_methods_are_found_by_their_methods_name(upgraded: Warehouse) -> None:
    assert set(artefacts.of_run(upgraded, "old")) == {"base/42", "llmser/42"}
    assert publications.current(upgraded, "shop") is not None
    for run in ("old", "going"):
        found = {row["step"]: row["state"] for row in progress.run(upgraded, run)["steps"]}
        assert "weighted" not in found and found["llmser"] == ("done" if run == "old" else "running")


@pytest.mark.parametrize("run", ["ancient", "old", "going"])
def test_everything_can_be_read_of_a_run_from_before_there_were_methods(upgraded: Warehouse, run: str) -> None:
    progress.run(upgraded, run), costs.costs(upgraded, run), users.users(upgraded, run)
    read = {}
    for name in queries.QUERIES:
        with queries.read(upgraded, name, run) as found:
            read[name] = list(found.rows)
    for name in [*tables.OF_RUN, *tables.OF_DATASET, *tables.OF_ALL]:
        with tables.read(upgraded, name, run_id=run, dataset="shop") as found:
            list(found.rows)
    evaluated = run != "going"
    for name in ("table1", "tail-report", "metrics", "comparisons", "recommendations"):
        assert bool(read[name]) == evaluated, name
    assert {row[4:] for row in read["recommendations"]} == ({("llmser", 42)} if evaluated else set())


def version(warehouse: Warehouse) -> object:
    with transaction(warehouse) as connection:
        return connection.scalar(text("select version_num from llmser.alembic_version"))

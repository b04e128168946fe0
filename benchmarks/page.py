"""The page in Airflow over a large warehouse: how long each part takes, and how Postgres finds its rows.

    python benchmarks/page.py --users 1000000 --batches 2000

Makes a warehouse of its own in a temporary folder with synthetic rows (generate_series), then asks what the page asks:
the best and the median of several times, the longest statement's plan, and every sequential scan over a table of more
than 10,000 rows. The server's own work is timed, without the network and the browser.

    LLMSER_HOME=FOLDER llmser up &
    LLMSER_HOME=FOLDER python benchmarks/page.py --browser

fills the warehouse of these services instead, which keeps the rows, and then times the pages in Chromium too: from
the request to the first card or tile with figures, by somebody who has not been there before (nothing is cached).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import browsing
import orjson
import services
from sqlalchemy import event, text
from sqlalchemy.engine import Engine

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.postgres import embedded
from llmser_tasks.services.stack import Stack
from llmser_tasks.warehouse.engine import engine, transaction
from llmser_tasks.warehouse.migrations import migrate
from llmser_tasks.warehouse.pages import costs, drift, overview, progress, published, results, users

RUN, DATASET = "run-0", "large"
TIMES = 7
LARGE = 10_000  # rows
SMALL = 1000  # users
OF_USERS = tuple(f"insert into {table} " for table in ("histories", "pseudo_items", "reliability", "picks"))

# The large run among `runs` small ones of the same and of other datasets.
FILL = [
    "insert into runs (run_id, dataset, config, state, code_version, started_at, finished_at, tail_threshold, chosen)"
    " select 'run-' || i, case when i % 2 = 0 then 'large' else 'other-' || i % 50 end,"
    """ '{"backbone": "sasrec", "endpoint": "llm", "seeds": [42], "methods": ["base", "llmser"]}', 'succeeded', '1',"""
    " now() - i * interval '1 hour', now(), 3, case when i % 3 = 0 then 'base' else 'llmser' end"
    " from generate_series(0, :runs - 1) i",
    "insert into validations select run_id, m, random() from runs, unnest(array['base', 'llmser']) m"
    " where run_id like 'run-%'",
    "insert into publications (dataset, version, run_id, how)"
    " select dataset, row_number() over (partition by dataset order by started_at), run_id, 'run' from runs"
    " where run_id like 'run-%'",
    "insert into steps (run_id, step, part, state, done, total, unit, summary, finished_at)"
    " select 'run-0', 'sequences', '', 'done', 1, 1, 'users',"
    """ cast('{"training": {"users": ' || :users || '}, "catalogue": {"items": 100000}}' as jsonb), now()""",
    "insert into steps (run_id, step, part, state, done, total, unit, finished_at)"
    " select 'run-0', s, 'users ' || b, 'done', 1000, 1000, 'users', now()"
    " from unnest(array['snf', 'reason']) s, generate_series(1, :batches / 2) b",
    "insert into batches (run_id, step, batch, label, users, answered, calls, failed, cost, state)"
    " select 'run-0', s, b, 'users ' || b, :users * 2 / :batches, :users * 2 / :batches, 900, b % 7, 0.1,"
    " case when b % 50 = 0 then 'failed' else 'done' end"
    " from unnest(array['snf', 'reason']) s, generate_series(0, :batches / 2 - 1) b",
    "insert into metrics select 'run-' || r, m, s, p, g, k, random(), 1000"
    " from generate_series(0, :runs - 1) r, unnest(array['base', 'llmser', 'popularity', 'cooccurrence']) m,"
    " generate_series(42, 44) s, unnest(array['full', 'uniform-100']) p,"
    " unnest(array['all', 'tail users', 'head users', 'tail items', 'head items', 'n=1', 'n=2', 'n=3', 'n≥10']) g,"
    " unnest(array['H@10', 'N@10', 'H@20', 'N@20', 'MRR']) k",
    "insert into comparisons (run_id, method, reference, protocol, user_group, metric, reference_mean, mean,"
    " difference, low, high, p, p_holm, level, seeds, stars)"
    " select run_id, 'llmser', 'base', protocol, user_group, metric, .1, .2, .1, .05, .15, .01, .04, .9995, 3, '*'"
    " from metrics where method = 'base' and seed = 42 and run_id like 'run-%'",
    "insert into item_titles select 'run-0', 'item-' || i, 'A title of an item, number ' || i"
    " from generate_series(1, 100000) i",
    "insert into histories select 'run-0', 'user-' || u,"
    " array(select 'item-' || 1 + (u * 79 + k * 10473) % 100000 from generate_series(1, 8) k)"
    " from generate_series(1, :users) u",
    "insert into pseudo_items select 'run-0', 'user-' || u, array['item-1', 'item-2', 'item-3'],"
    " array['one', 'two', 'three'], array['strict', 'strict', 'fill'] from generate_series(1, :users) u",
    "insert into reliability select 'run-0', 'user-' || u, 1 + u % 9, 'item-1', 'one',"
    " case when u % 3 = 0 then 'item-1' else 'item-2' end, 'two', 'strict', (u * 79 % 1000) / 999.0, .5, null, 'hash'"
    " from generate_series(1, :users) u",
    "insert into answers (question_key, step, prompt_version, model, answered_by, content, prompt_tokens,"
    " completion_tokens, cost, attempts, run_id)"
    " select s || u, s, '1', 'llm', 'llm', '{\"picks\": [1, 2, 3]}', 800, 20, 0.0001, 1, 'run-0'"
    " from unnest(array['snf', 'reason']) s, generate_series(1, :users) u",
    "insert into picks select 'run-0', s, 'user-' || u, s || u, 1, array['item-1', 'item-2'],"
    " array['strict', 'fuzzy'], null, u % 20 / 19 from unnest(array['snf', 'reason']) s, generate_series(1, :users) u",
]

PARTS: dict[str, Callable[[Warehouse], Any]] = {
    "overview": overview.datasets,
    "all runs": overview.runs,
    "all runs, a later page": lambda warehouse: overview.runs(
        warehouse, before=(overview.runs(warehouse)[-1]["started_at"], "run-x")
    ),
    "dataset: drift": lambda warehouse: drift.drift(warehouse, DATASET),
    "dataset: published": lambda warehouse: published.published(warehouse, DATASET),
    "dataset: its runs": lambda warehouse: overview.runs(warehouse, dataset=DATASET),
    "run: progress": lambda warehouse: progress.run(warehouse, RUN),
    "run: results": lambda warehouse: results.results(warehouse, RUN),
    "run: cost": lambda warehouse: costs.costs(warehouse, RUN),
    "run: users": lambda warehouse: users.users(warehouse, RUN),
    "run: users, in the middle": lambda warehouse: users.users(warehouse, RUN, after=(0.0, "user-5")),
    "run: users by a search": lambda warehouse: users.users(warehouse, RUN, search="user-77777"),
    "run: most trusted users": lambda warehouse: users.users(warehouse, RUN, order="most"),
    "run: least trusted, later": lambda warehouse: users.users(warehouse, RUN, order="least", after=(0.5, "user-5")),
}

PAGES = {"overview": "", "dataset": f"dataset?dataset={DATASET}"} | {
    f"run: {view}": f"run?run={RUN}&view={view}" for view in ("progress", "results", "users", "costs")
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--browser", action="store_true")
    sizes = vars(parser.parse_args())
    if sizes.pop("browser"):
        here = services.running()
        _fill(here.warehouse, sizes)
        _measure(here.warehouse)
        _browse(here)
        return
    with tempfile.TemporaryDirectory(prefix="llmser-page-") as folder:
        Path(folder).chmod(0o711)
        server = embedded.start(Path(folder))
        try:
            warehouse = Warehouse(server.url)
            migrate(warehouse)
            _fill(warehouse, sizes)
            _measure(warehouse)
        finally:
            server.stop()


def _fill(warehouse: Warehouse, sizes: dict[str, int]) -> None:
    began = time.monotonic()
    for statement in FILL:
        with transaction(warehouse) as connection:
            names = {name: value for name, value in sizes.items() if f":{name}" in statement}
            if statement.startswith(OF_USERS):  # statistics know a small run before the large one
                connection.execute(text(statement.replace("'run-0'", "'run-1'")), names | {"users": SMALL})
                connection.execute(text("analyze"))
            connection.execute(text(statement), names)
    print(f"Filled with {sizes} in {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    with transaction(warehouse) as connection:
        connection.execute(text("select count_answers('run-0')"))
    print(f"Counted answers and ω once (what the step reliability does): {time.monotonic() - began:.1f} s", flush=True)
    with engine(warehouse).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze"))


def _measure(warehouse: Warehouse) -> None:
    large = _large_tables(warehouse)
    print(f"\n{'part':<28} {'best':>8} {'median':>8} {'JSON':>9}  longest statement")
    for name, part in PARTS.items():
        part(warehouse)
        seconds = []
        for _ in range(TIMES):
            began = time.perf_counter()
            found = orjson.dumps(part(warehouse), default=float)
            seconds.append(time.perf_counter() - began)
        with _statements(engine(warehouse)) as asked:
            part(warehouse)
        plans = [_plan(warehouse, *one) for one in asked]
        slowest = max(plans, key=lambda plan: plan["Execution Time"])
        scans = sorted({scan for plan in plans for scan in _scans(plan["Plan"]) if scan in large})
        print(
            f"{name:<28} {1000 * min(seconds):>5.1f} ms {1000 * statistics.median(seconds):>5.1f} ms"
            f" {len(found) / 1024:>6.1f} kB  {slowest['Execution Time']:.1f} ms {_top(slowest['Plan'])}"
            f"{'  SEQUENTIAL: ' + ', '.join(scans) if scans else ''}",
            flush=True,
        )


def _browse(here: Stack) -> None:
    print(f"\n{'page':<28} {'best':>8} {'median':>8}  first content in a browser")
    with browsing.chromium() as browser:
        for name, path in PAGES.items():
            seconds = []
            for _ in range(TIMES):
                with browsing.opened(browser, here, (1200, 844), "light") as tab:
                    began = time.perf_counter()
                    tab.goto(f"{here.url}/llmser/{path}", wait_until="commit")
                    browsing.content(tab)
                    seconds.append(time.perf_counter() - began)
            print(f"{name:<28} {min(seconds):>6.2f} s {statistics.median(seconds):>6.2f} s", flush=True)


def _large_tables(warehouse: Warehouse) -> set[str]:
    statement = text("select relname from pg_class where relkind = 'r' and reltuples > :large")
    with transaction(warehouse) as connection:
        return set(connection.scalars(statement, {"large": LARGE}))


@contextmanager
def _statements(made: Engine) -> Iterator[list[tuple[str, Any]]]:
    """Collect what is asked inside the block."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    event.listen(made, "before_cursor_execute", note)
    yield asked
    event.remove(made, "before_cursor_execute", note)


def _plan(warehouse: Warehouse, statement: str, values: Any) -> dict[str, Any]:
    with transaction(warehouse) as connection:
        found = connection.exec_driver_sql(f"explain (analyze, buffers, format json) {statement}", values).scalar()
    plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]
    return plan


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _scans(plan: dict[str, Any]) -> set[str]:
    return {node["Relation Name"] for node in _nodes(plan) if node["Node Type"] == "Seq Scan"}


def _top(plan: dict[str, Any]) -> str:
    """The scans of a plan, the most expensive first."""
    scans = [node for node in _nodes(plan) if "Scan" in node["Node Type"] and "Relation Name" in node]
    scans.sort(key=lambda node: -node["Actual Total Time"] * node["Actual Loops"])
    return "; ".join(
        f"{node['Node Type']} {node['Relation Name']}{' by ' + node['Index Name'] if 'Index Name' in node else ''}"
        f" ({node['Actual Rows'] * node['Actual Loops']:.0f} rows)"
        for node in scans[:2]
    )


if __name__ == "__main__":
    main()

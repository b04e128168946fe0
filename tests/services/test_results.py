"""A finished run's figures in a terminal: the rows that page and report read, with what their p is conditional on."""

from __future__ import annotations

import io

import pytest
from click.testing import CliRunner
from filled_warehouse import FINISHED, GONE, GROUPS, SEVERAL, fill, fill_several
from rich.console import Console
from sqlalchemy import text

from llmser_tasks.cli import cli
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import METHODS
from llmser_tasks.core.names import CONDITIONAL, INTERVALS, ONE_SEED
from llmser_tasks.services import results
from llmser_tasks.warehouse.engine import transaction


@pytest.fixture
def warehouse(warehouse: Warehouse) -> Warehouse:
    fill(warehouse)
    return warehouse


def shown(warehouse: Warehouse) -> str:
    console = Console(file=io.StringIO(), width=300)
    results.show(warehouse, FINISHED, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_stars_stand_beside_differences_and_what_they_are_conditional_on_below(warehouse: Warehouse) -> None:
    told = shown(warehouse)
    assert "+87.0 % ***" in told and CONDITIONAL in told and ONE_SEED not in told


def test_one_compared_method_stands_in_a_column_of_its_own(warehouse: Warehouse) -> None:
    told = shown(warehouse)
    assert "Base against LLMSeR, NDCG@10, full ranking, hostile <b>shop</b>" in told
    (head,) = (line for line in told.splitlines() if "p (Holm)" in line)
    assert [cell.strip() for cell in head.split("┃")[1:-1]] == [
        *("group", "users", "base", "LLMSeR", "difference", "p (Holm)")
    ]


def test_every_compared_method_stands_beside_the_reference_in_each_group(warehouse: Warehouse) -> None:
    with transaction(warehouse) as connection:
        connection.execute(
            text(
                "insert into comparisons (run_id, method, reference, protocol, user_group, metric, reference_mean,"
                " mean, difference, low, high, p, p_holm, level, seeds, stars)"
                " select run_id, 'cooccurrence', reference, protocol, user_group, metric, reference_mean,"
                " 0.0575, -0.0575, -0.1, -0.01, 0.001, 0.013, level, seeds, '▼*'"
                " from comparisons where run_id = :run"
            ),
            {"run": FINISHED},
        )
    told = shown(warehouse)
    assert "Base against the others, NDCG@10, full ranking" in told
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.splitlines() if "│" in line]
    against = [row for row in cells if len(row) == 7]
    assert against[0] == ["all", "40", "0.1150", "LLMSeR", "0.2150", "+87.0 % ***", "0.000"]
    assert against[1] == ["", "", "", "co-occurrence", "0.0575", "-50.0 % ▼*", "0.013"]
    assert len(against) == 2 * len(GROUPS)


def test_the_longest_titles_stay_in_one_line_of_a_terminal_of_80_columns(warehouse: Warehouse) -> None:
    longest = max(
        (name for name in METHODS.every() if METHODS[name].trained), key=lambda name: len(METHODS[name].title)
    )
    title = METHODS[longest].title
    with transaction(warehouse) as connection:
        for table in ("comparisons", "metrics"):
            connection.execute(
                text(f"update {table} set method = :longest where method = 'llmser'"),
                {"longest": longest},
            )
    console = Console(file=io.StringIO(), width=80)
    results.show(warehouse, FINISHED, console)
    told = console.file.getvalue().split("SYNTHETIC")[0]  # type: ignore[attr-defined]
    assert all(len(line) <= 80 for line in told.splitlines())
    of_method = [line.split(title)[1].split() for line in told.splitlines() if line.strip().startswith(title)]
    assert [len(figures) for figures in of_method] == [5] + [5] * len(GROUPS)
    assert of_method[1] == [".2150", "+87.0", "%", "***", ".000"]
    assert told.count("users, base .1150") >= 1 and "all: 40 users" in told


def test_a_method_that_is_declared_no_more_is_shown_by_its_name(warehouse: Warehouse) -> None:
    fill_several(warehouse)
    console = Console(file=io.StringIO(), width=300)
    results.show(warehouse, SEVERAL, console)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"Recommendations are those of {GONE}, the best on validation items (N@10: base .1200, LLMSeR .1100," in told
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.splitlines() if "│" in line]
    assert [row[0] for row in rows if len(row) == 6][-1] == GONE
    assert [row[3] for row in rows if len(row) == 7] == ["LLMSeR", GONE] * len(GROUPS)


def test_the_terminal_says_whose_recommendations_there_are_and_why(warehouse: Warehouse) -> None:
    best = "Recommendations are those of LLMSeR, the best on validation items (N@10: base .0900, LLMSeR .1000)."
    assert best in shown(warehouse)
    with transaction(warehouse) as connection:
        connection.execute(text("update runs set chosen = 'base', chosen_by = 'name'"))
    assert "Recommendations are those of base, as the settings say." in shown(warehouse)
    with transaction(warehouse) as connection:  # a run from before this was noted
        connection.execute(text("update runs set chosen = null, chosen_by = null"))
    assert "Recommendations" not in shown(warehouse)


def test_a_run_of_the_reference_alone_has_no_table_of_differences_and_keeps_its_warning(warehouse: Warehouse) -> None:
    with transaction(warehouse) as connection:
        connection.execute(text("delete from comparisons"))
    told = shown(warehouse)
    assert "against" not in told and "SYNTHETIC sample data" in told and "co-occurrence" in told


def test_with_one_seed_there_are_no_stars_and_the_terminal_says_why(warehouse: Warehouse) -> None:
    with transaction(warehouse) as connection:
        connection.execute(text("update comparisons set seeds = 1, stars = ''"))
    told = shown(warehouse)
    assert "*" not in told and ONE_SEED in told and CONDITIONAL in told


@pytest.mark.parametrize(
    ("what", "beside"), [("tail-report", [CONDITIONAL]), ("comparisons", [INTERVALS, CONDITIONAL]), ("metrics", [])]
)
def test_show_says_beside_each_p_what_it_is_conditional_on(
    warehouse: Warehouse, what: str, beside: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSER_DATABASE_URL", warehouse.url)
    result = CliRunner().invoke(cli, ["show", FINISHED, what])
    assert result.exit_code == 0, result.stderr
    for sentence in (CONDITIONAL, INTERVALS):
        assert (sentence in result.stderr) == (sentence in beside) and sentence not in result.stdout

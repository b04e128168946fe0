"""A finished run's figures in a terminal: the rows that page and report read, with what their p is conditional on."""

from __future__ import annotations

import io

import pytest
from click.testing import CliRunner
from filled_warehouse import FINISHED, fill
from rich.console import Console
from sqlalchemy import text

from llmser_tasks.cli import cli
from llmser_tasks.core.names import CONDITIONAL, INTERVALS, ONE_SEED
from llmser_tasks.services import results
from llmser_tasks.warehouse.engine import transaction


@pytest.fixture
def url(database_url: str) -> str:
    fill(database_url)
    return database_url


def shown(url: str) -> str:
    console = Console(file=io.StringIO(), width=300)
    results.show(url, FINISHED, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_stars_stand_beside_differences_and_what_they_are_conditional_on_below(url: str) -> None:
    told = shown(url)
    assert "+87.0 % ***" in told and CONDITIONAL in told and ONE_SEED not in told


def test_with_one_seed_there_are_no_stars_and_the_terminal_says_why(url: str) -> None:
    with transaction(url) as connection:
        connection.execute(text("update comparisons set seeds = 1, stars = ''"))
    told = shown(url)
    assert "*" not in told and ONE_SEED in told and CONDITIONAL in told


@pytest.mark.parametrize(
    ("what", "beside"), [("tail-report", [CONDITIONAL]), ("comparisons", [INTERVALS, CONDITIONAL]), ("metrics", [])]
)
def test_show_says_beside_each_p_what_it_is_conditional_on(
    url: str, what: str, beside: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSER_DATABASE_URL", url)
    result = CliRunner().invoke(cli, ["show", FINISHED, what])
    assert result.exit_code == 0, result.stderr
    for sentence in (CONDITIONAL, INTERVALS):
        assert (sentence in result.stderr) == (sentence in beside) and sentence not in result.stdout

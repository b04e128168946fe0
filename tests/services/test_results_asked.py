"""Beneath a finished run's figures in a terminal: of how many users anything could be asked."""

from __future__ import annotations

import io

from rich.console import Console
from sqlalchemy import text

from llmser_tasks.services import results
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import runs


def shown(url: str, asked: int) -> str:
    runs.create(url, f"run{asked}", "tiny", {"endpoint": "llmser_ranker"})
    summary = f'{{"askable": {{"users": 348, "steps": {{"snf": {asked}}}, "gaining": 0, "titled": 3, "items": 148}}}}'
    with transaction(url) as connection:
        connection.execute(
            text("insert into steps (run_id, step, state, summary) values (:run, 'sequences', 'done', :summary)"),
            {"run": f"run{asked}", "summary": summary},
        )
    console = Console(file=io.StringIO(), width=400)
    results.show(url, f"run{asked}", console)
    return " ".join(console.file.getvalue().split())


def test_where_nobody_could_be_asked_nobody_is_said_to_have_answered(database_url: str) -> None:
    nobody = shown(database_url, 0)
    assert "Could be asked: 0 of 348 users in snf; 3 of 148 items have a title." in nobody
    assert "Answers by" not in nobody
    everybody = shown(database_url, 348)
    assert "Could be asked" not in everybody and "Answers by the embedding-ranker" in everybody

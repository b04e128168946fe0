"""Beneath a finished run's figures in a terminal: of how many users anything could be asked."""

from __future__ import annotations

import io

from rich.console import Console
from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.services import results
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import runs


def shown(warehouse: Warehouse, asked: int) -> str:
    runs.create(warehouse, f"run{asked}", "tiny", {"endpoint": "llmser_ranker"})
    summary = f'{{"askable": {{"users": 348, "steps": {{"snf": {asked}}}, "gaining": 0, "titled": 3, "items": 148}}}}'
    with transaction(warehouse) as connection:
        connection.execute(
            text("insert into steps (run_id, step, state, summary) values (:run, 'sequences', 'done', :summary)"),
            {"run": f"run{asked}", "summary": summary},
        )
    console = Console(file=io.StringIO(), width=400)
    results.show(warehouse, f"run{asked}", console)
    return " ".join(console.file.getvalue().split())


def test_where_nobody_could_be_asked_nobody_is_said_to_have_answered(warehouse: Warehouse) -> None:
    nobody = shown(warehouse, 0)
    assert "Could be asked: 0 of 348 users in snf; 3 of 148 items have a title." in nobody
    assert "Answers by" not in nobody
    everybody = shown(warehouse, 348)
    assert "Could be asked" not in everybody and "Answers by the embedding-ranker" in everybody

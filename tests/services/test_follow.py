"""What a person sees of a run."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from llmser_tasks.core.config import from_flat, to_flat
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.services.follow import Line, _Plain, _view, lines, methods_of, settings_of
from llmser_tasks.warehouse.tables import runs


def instance(task: str, state: str | None, started: float | None = None, ended: float | None = None) -> dict[str, Any]:
    def at(seconds: float | None) -> str | None:
        return None if seconds is None else (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()

    return {"task_id": task, "state": state, "start_date": at(started), "end_date": at(ended)}


def row(step: str, state: str, part: str = "", **counts: Any) -> dict[str, Any]:
    empty = {"done": None, "total": None, "unit": None, "note": None}
    started = datetime.now(UTC) - timedelta(seconds=10)
    return empty | {"step": step, "part": part, "state": state, "started_at": started} | counts


def by_task(found: list[Line]) -> dict[str, Line]:
    return {line.task: line for line in found}


def test_tasks_and_steps_are_put_together_in_the_order_of_the_dag() -> None:
    found = lines(
        [instance("ingest", "success", 20, 12), instance("reverse", "running", 10), instance("snf", None)],
        [row("ingest", "unchanged"), row("reverse", "running", done=12, total=200, unit="epochs", note="NDCG@10 .04")],
    )
    order = [line.task for line in found]
    assert order[:3] == ["start", "ingest", "sequences"] and order[-2:] == ["evaluate", "publish"]
    assert order.index("reverse") < order.index("ccg") < order.index("estimate") < order.index("snf")
    tasks = by_task(found)
    assert tasks["ingest"].state == "success" and tasks["ingest"].text == "unchanged, skipped"
    assert round(tasks["ingest"].seconds) == 8
    assert tasks["reverse"].text.startswith("12 of 200 epochs (6 %), 1.2 epochs/s, 2 min 3")
    assert tasks["reverse"].text.endswith(" left, NDCG@10 .04")
    assert tasks["snf"].state == tasks["publish"].state == "waiting"


def test_tasks_that_only_methods_of_other_runs_need_do_not_count(warehouse: Warehouse) -> None:
    assert settings_of(warehouse, "r1") == {}, "its first task has not noted it yet"
    runs.create(warehouse, "r1", "shop", to_flat(from_flat({"dataset": "shop", "methods": ["base"]})))
    every = [instance(task, None) for task in ("ingest", "snf", "plan_snf", "train_llmser", "train_base")]
    found = lines([*every, instance("estimate", "skipped")], [], methods_of(settings_of(warehouse, "r1")))
    assert [line.task for line in found] == [
        "start", "ingest", "sequences", "item-vectors", "train_base", "evaluate", "publish",
    ]  # fmt: skip
    usual = by_task(lines(every, []))
    assert "snf" in usual and "prior-items" not in usual


def test_mapped_tasks_count_together() -> None:
    tasks = by_task(
        lines(
            [instance("snf", "success", 9, 4), instance("snf", "running", 4), instance("snf", None)],
            [
                row("snf", "done", "users 0–511", done=512, total=512, unit="users"),
                row("snf", "running", "users 512–1023", done=88, total=512, unit="users"),
            ],
        )
    )
    assert tasks["snf"].state == "running"
    assert tasks["snf"].text.startswith("1 of 3 tasks, 600 of 1,024 users (58 %), 60 users/s, 7 s left")


def test_a_failure_wins_over_what_still_runs() -> None:
    tasks = by_task(lines([instance("snf", "failed", 9, 4), instance("snf", "running", 4)], []))
    assert tasks["snf"].state == "failed"


def test_plain_output_says_each_change_once() -> None:
    out = io.StringIO()
    plain = _Plain(Console(file=out, width=200))
    plain.show([Line("start"), Line("ingest")])
    running = lines([instance("ingest", "running", 3)], [])
    plain.show(running)
    plain.show(running)
    plain.show(lines([instance("ingest", "success", 3, 1)], []))
    assert out.getvalue().splitlines() == [
        "[2/18] Read the dumps: running",
        "[2/18] Read the dumps: success (2 s)",
    ]


def test_plain_output_goes_on_telling_while_others_of_a_failed_batch_run() -> None:
    out = io.StringIO()
    plain = _Plain(Console(file=out, width=200))
    for others in ("running", "running", "success"):
        plain.show(lines([instance("snf", "failed", 9, 4), *(instance("snf", others, 4) for _ in range(2))], []))
    assert out.getvalue().splitlines() == [
        "[10/18] Ask which candidates fit (SNF): failed: 0 of 3 tasks, 1 failed",
        "[10/18] Ask which candidates fit (SNF): failed: 2 of 3 tasks, 1 failed",
    ]


def test_titles_from_dumps_in_notes_are_text_not_markup() -> None:
    current = lines([instance("ingest", "running", 3)], [row("ingest", "running", done=1, unit="lines", note="[red]x")])
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, color_system=None)
    console.print(_view(current, 5))
    assert "[red]x" in out.getvalue()

"""A run as a person follows it in a terminal: which step, how far, how fast, how much longer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import METHODS, QUESTION_STEPS, TRAINED, USUAL
from llmser_tasks.core.names import steps
from llmser_tasks.services import airflow_api
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.tables import runs
from llmser_tasks.warehouse.tables.steps import describe, duration

STEPS = {  # steps of the warehouse that a task does, where they are called otherwise
    "sequences": ("sequences", "changes"),
    "evaluate": ("evaluation",),
}


def task_of(step: str) -> str:
    """The task that does a step of the warehouse."""
    if step in METHODS:
        return f"train_{METHODS.without_parts(step)}"
    return next((task for task, done in STEPS.items() if step in done), step)


def tasks_of(methods: Collection[str], settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The tasks of a run with these methods, with their titles, in order.

    Args:
        settings: flat names; None: whatever they are.
    """
    trained = {METHODS.without_parts(name) for name in methods}
    of_run = steps([*methods, *trained], settings)
    named = {name: title for name, title in of_run.items() if name not in METHODS or name in trained}
    return {"start": "Check the settings"} | {task_of(step): title for step, title in named.items()}


TITLES = tasks_of(TRAINED)
HIDDEN = {f"plan_{name}" for name in QUESTION_STEPS} | {f"plan_train_{name}" for name in TRAINED}
OVER = {"success", "failed"}
ENDED = OVER | {"upstream_failed", "skipped"}
LOOK_EVERY_S = 1.0
LINE_EVERY_S = 15.0


@dataclass
class Line:
    """One task of the run, its mapped instances together."""

    task: str
    states: Counter[str] = field(default_factory=Counter)
    started: datetime | None = None
    ended: datetime | None = None
    done: int = 0
    total: int = 0
    unit: str = ""
    note: str = ""
    unchanged: bool = False
    moving_since: datetime | None = None

    @property
    def state(self) -> str:
        for state in ("failed", "upstream_failed", "running", "up_for_retry", "queued", "restarting"):
            if self.states[state]:
                return state
        if self.states and all(state in {"success", "skipped"} for state in self.states):
            return "success"
        return "running" if self.states["success"] else "waiting"

    @property
    def over(self) -> bool:
        """Whether all of it has ended: one failed batch makes the state "failed" while others are still being asked."""
        return bool(self.states) and all(state in ENDED for state in self.states)

    @property
    def seconds(self) -> float:
        """Since it started, until it ended."""
        if self.started is None:
            return 0.0
        until = self.ended if self.ended and self.state == "success" else datetime.now(UTC)
        return (until - self.started).total_seconds()

    @property
    def text(self) -> str:
        """How far it is."""
        if self.unchanged:
            return "unchanged, skipped"
        if self.state == "up_for_retry":
            return "failed, will be tried again"
        parts = []
        instances = sum(self.states.values())
        if instances > 1:
            failed = f", {self.states['failed']} failed" if self.states["failed"] else ""
            parts.append(f"{self.states['success']} of {instances} tasks{failed}")
        if self.unit:
            parts.append(self._progress())
        return ", ".join(parts)

    def _progress(self) -> str:
        since = self.moving_since or self.started
        elapsed = (datetime.now(UTC) - since).total_seconds() if since else 0.0
        rate = self.done / elapsed if elapsed > 1 and self.state == "running" else None
        return describe(self.done, self.total or None, self.unit, self.note, rate)


def lines(
    tasks: Sequence[Mapping[str, Any]],
    noted: Sequence[Mapping[str, Any]],
    methods: Collection[str] = USUAL,
    settings: Mapping[str, Any] | None = None,
) -> list[Line]:
    """Task instances of Airflow and step rows of the warehouse, put together, in the order of the DAG.

    Args:
        methods, settings: the run's; tasks that only others need, and which it therefore skips, are left out.
    """
    found = {task: Line(task) for task in tasks_of(methods, settings)}
    others = TITLES.keys() - found.keys()
    for instance in tasks:
        if instance["task_id"] in others:
            continue
        line = found.setdefault(instance["task_id"], Line(instance["task_id"]))
        line.states[instance["state"] or "waiting"] += 1
        for name, better in (("start_date", min), ("end_date", max)):
            if instance[name]:
                at = datetime.fromisoformat(instance[name])
                attribute = "started" if name == "start_date" else "ended"
                known = getattr(line, attribute)
                setattr(line, attribute, at if known is None else better(known, at))
    for task, line in found.items():
        rows = [row for row in noted if task_of(row["step"]) == task]
        line.unchanged = bool(rows) and all(row["state"] == "unchanged" for row in rows)
        counted = [row for row in rows if row["unit"]]
        if counted:  # of the step that runs now, all parts together
            latest = [row for row in counted if row["step"] == counted[-1]["step"]]
            line.unit = latest[-1]["unit"]
            line.note = latest[-1]["note"] or ""
            line.done = sum(row["done"] or 0 for row in latest)
            line.total = sum(row["total"] or 0 for row in latest)
            line.moving_since = min(row["started_at"] for row in latest)
    return [line for task, line in found.items() if task not in HIDDEN]


def settings_of(warehouse: Warehouse, run_id: str) -> dict[str, Any]:
    """The run's settings; none until its first task has noted it."""
    try:
        return dict(runs.load(warehouse, run_id).config)
    except (InputError, StorageError):  # not there yet, or Postgres is away for a moment
        return {}


def methods_of(settings: Mapping[str, Any]) -> list[str]:
    """The methods that these settings name."""
    return [method for method in settings.get("methods", ()) if method in METHODS]


def follow(
    client: httpx.Client,
    run_id: str,
    warehouse: Warehouse,
    console: Console,
    watch: Callable[[], None] = lambda: None,
) -> bool:
    """Show the run until it is over; True where it succeeded.

    Args:
        watch: called now and then; what it raises ends this.

    On a terminal the view is redrawn in place; elsewhere a line appears when a step starts, moves on or ends.
    """
    began = time.monotonic()
    if not console.is_terminal:
        return _watch_run(client, run_id, warehouse, watch, _Plain(console).show)
    with Live(console=console, refresh_per_second=4) as live:

        def show(current: list[Line]) -> None:
            live.update(_view(current, time.monotonic() - began))

        return _watch_run(client, run_id, warehouse, watch, show)


def _watch_run(
    client: httpx.Client,
    run_id: str,
    warehouse: Warehouse,
    watch: Callable[[], None],
    show: Callable[[list[Line]], None],
) -> bool:
    settings: dict[str, Any] = {}
    while True:
        watch()
        try:
            state = airflow_api.run(client, run_id)["state"]
            tasks = airflow_api.task_instances(client, run_id)
        except (httpx.TransportError, airflow_api.Unready):  # the API server or its database is being started again
            time.sleep(LOOK_EVERY_S)
            continue
        settings = settings_of(warehouse, run_id) or settings
        show(lines(tasks, _steps(warehouse, run_id), methods_of(settings) or USUAL, settings))
        if state in OVER:
            return bool(state == "success")
        time.sleep(LOOK_EVERY_S)


def _steps(warehouse: Warehouse, run_id: str) -> list[dict[str, Any]]:
    try:
        with queries.read(warehouse, "steps", run_id) as found:
            return [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    except StorageError:  # away for a moment; the next look may succeed
        return []


MARKS = {
    "success": ("✔", "green"),
    "running": ("▶", "cyan"),
    "failed": ("✘", "red"),
    "upstream_failed": ("✘", "red"),
    "up_for_retry": ("↻", "yellow"),
    "queued": ("·", "dim"),
    "waiting": ("·", "dim"),
}


def _view(current: list[Line], elapsed: float) -> Group:
    table = Table.grid(padding=(0, 1))
    for line in current:
        mark, style = MARKS.get(line.state, ("·", "dim"))
        bar: Any = ""
        if line.state == "running" and line.total:
            bar = ProgressBar(total=line.total, completed=line.done, width=16)
        took = duration(line.seconds) if line.started else ""
        table.add_row(
            Text(mark, style=style),
            Text(TITLES.get(line.task, line.task), style="" if line.started else "dim"),
            bar,
            Text(line.text, style="dim"),
            Text(took, style="dim", justify="right"),
        )
    over = sum(line.state == "success" for line in current)
    step = min(over + 1, len(current))
    return Group(table, Text(f"Step {step} of {len(current)}, {duration(elapsed)} so far", "bold"))


class _Plain:
    """Lines for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.states: dict[str, tuple[str, bool]] = {}
        self.printed = 0.0

    def show(self, current: list[Line]) -> None:
        due = time.monotonic() - self.printed > LINE_EVERY_S
        for number, line in enumerate(current, start=1):
            now = (line.state, line.over)
            goes_on = line.state in {"running", "failed"} and not line.over
            if line.state in {"waiting", "queued", "upstream_failed"}:
                continue
            if self.states.get(line.task) == now and not (due and goes_on):
                continue
            self.states[line.task] = now
            self.printed = time.monotonic()
            took = f" ({duration(line.seconds)})" if line.state == "success" else ""
            text = f": {line.text}" if line.text else ""
            self.console.print(
                f"[{number}/{len(current)}] {TITLES.get(line.task, line.task)}: {line.state}{took}{text}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

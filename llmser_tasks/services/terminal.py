"""What a person sees on stderr while something runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.logging import RichHandler
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.printable import printable_lines
from llmser_tasks.core.progress import Progress
from llmser_tasks.warehouse.tables.steps import describe, duration

LOOK_EVERY_S = 1.0
LINE_EVERY_S = 15.0
MARKS = {"running": ("▶", "cyan"), "done": ("✔", "green"), "unchanged": ("✔", "dim"), "failed": ("✘", "red")}


class Terminal(Console):
    """A console that shows no control characters but its own, wherever the text comes from."""

    @override
    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        return super()._render_buffer(
            segment if segment.control else Segment(printable_lines(segment.text), segment.style) for segment in buffer
        )


class OneLine(logging.Formatter):
    """A log line stays one line, and holds nothing that controls a terminal; a traceback keeps its lines."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def stderr() -> Console:
    return Terminal(stderr=True, highlight=False, soft_wrap=True)


def log_to(console: Console) -> None:
    """Log lines of the project appear on the console: all of them in a log, only warnings beside a live view."""
    handler: logging.Handler = RichHandler(console=console, show_path=False, show_level=False, markup=False)
    if not console.is_terminal:
        handler = logging.StreamHandler(console.file)
        handler.setFormatter(OneLine("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("llmser_tasks")
    logger.handlers = [handler]
    logger.setLevel(logging.WARNING if console.is_terminal else logging.INFO)


@contextmanager
def shown(console: Console, what: str) -> Iterator[Progress]:
    """A Progress for one thing that runs in this process: one moving line, or a line now and then in a log."""
    began = time.monotonic()
    last = began
    with console.status(Text(what)) as status:

        def progress(done: int, total: int | None, unit: str, note: str = "") -> None:
            nonlocal last
            now = time.monotonic()
            rate = done / (now - began) if now > began else None
            if console.is_terminal:
                if now - last >= 0.1:
                    status.update(Text(f"{what}: {describe(done, total, unit, note, rate)}"))
                    last = now
            elif now - last >= LINE_EVERY_S:
                console.print(f"{what}: {describe(done, total, unit, note, rate)}", markup=False)
                last = now

        yield progress


@contextmanager
def steps_shown(console: Console, warehouse: Warehouse, run_id: str) -> Iterator[None]:
    """The steps of a run that runs within the block, as their rows in Postgres tell; in a log its lines suffice."""
    if not console.is_terminal:
        yield
        return
    over = threading.Event()
    began = time.monotonic()
    with Live(console=console, refresh_per_second=4) as live:

        def look() -> None:
            while not over.wait(LOOK_EVERY_S):
                live.update(_view(_steps(warehouse, run_id), time.monotonic() - began))

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join(timeout=5)
            live.update(_view(_steps(warehouse, run_id), time.monotonic() - began))


def _steps(warehouse: Warehouse, run_id: str) -> list[dict[str, Any]]:
    from llmser_tasks.warehouse import queries

    try:
        with queries.read(warehouse, "steps", run_id) as found:
            return [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    except StorageError:  # away for a moment; the run itself says so where it matters
        return []


def _view(steps: list[dict[str, Any]], elapsed: float) -> Group:
    table = Table.grid(padding=(0, 1))
    for step in steps:
        mark, style = MARKS[step["state"]]
        running = step["state"] == "running"
        rate = step["done"] / step["seconds"] if running and step["done"] and step["seconds"] > 1 else None
        how = describe(step["done"] or 0, step["total"], step["unit"], step["note"] or "", rate) if step["unit"] else ""
        table.add_row(
            Text(mark, style=style),
            Text(f"{step['step']} {step['part']}".strip()),
            Text("unchanged" if step["state"] == "unchanged" else how or step["note"] or "", style="dim"),
            Text(duration(step["seconds"]), style="dim"),
        )
    return Group(table, Text(f"{duration(elapsed)} so far", "bold"))

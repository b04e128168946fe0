"""A study in this process: its cells one after another, each an ordinary run.

What cells have in common (dumps, histories, candidates, answers, models) is made by the first that needs it and found
by the others. A cell that fails is told, and the study goes on; started again, it takes up what is open.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from llmser_tasks.core.cells import Cell, cells_of
from llmser_tasks.core.errors import InputError, LlmserError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.study import Study
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.runs import pipeline
from llmser_tasks.warehouse.tables import studies
from llmser_tasks.warehouse.tables.studies import Standing

log = logging.getLogger(__name__)

DONE, RUNNING = "succeeded", "running"
NAMED = 3  # cells that a sentence names, of those that failed


@dataclass(frozen=True)
class Outcome:
    """How a study stands.

    Attributes:
        done, failed, running, open: cells that its file names, by their titles.
        why: of those that failed.
    """

    done: Sequence[str]
    failed: Sequence[str]
    running: Sequence[str]
    open: Sequence[str]
    why: Mapping[str, str]

    @property
    def complete(self) -> bool:
        return not (self.failed or self.running or self.open)

    @property
    def sentence(self) -> str:
        cells = len(self.done) + len(self.failed) + len(self.running) + len(self.open)
        told = [f"{len(self.done)} of {cells} cells done"]
        told += [f"{len(names)} {word}" for names, word in ((self.running, "at work"), (self.open, "open")) if names]
        if self.failed:
            first = "; ".join(f"{name}: {self.why[name].rstrip('.')}" for name in self.failed[:NAMED])
            more = f"; and {len(self.failed) - NAMED} more" if len(self.failed) > NAMED else ""
            told.append(f"{len(self.failed)} failed ({first}{more})")
        return f"{', '.join(told)}." + ("" if self.complete else " The same study, started again, takes up the rest.")


def check(study: Study) -> list[Cell]:
    """The study's cells, with all that can be known to be wrong before anything starts.

    Raises:
        InputError: settings cannot be used, or a dataset has no dumps.
    """
    cells = cells_of(study)
    if missing := without_dumps(cells):
        name = missing[0]
        raise study.refused(
            f"dataset {name}",
            f"it has no dumps. Give them (--reviews {name}=FILE --items {name}=FILE; or reviews and items in the "
            f"study's or the dataset's file), or say which datasets to study (--dataset).",
        )
    return cells


def without_dumps(cells: Sequence[Cell]) -> list[str]:
    """The datasets of which nobody has said where their dumps are."""
    first = {cell.dataset: cell for cell in reversed(cells)}
    return [name for name, cell in reversed(first.items()) if not cell.config.dataset.reviews]


def run_study(
    study: Study,
    *,
    workspace: Workspace,
    warehouse: Warehouse,
    endpoint: Endpoint | None = None,
    shown: Callable[[Cell, int, int], AbstractContextManager[None]] = lambda *_: nullcontext(),
    told: Callable[[str], None] = log.warning,
) -> Outcome:
    """Run what is open of a study.

    Args:
        endpoint: as `pipeline.run_all`.
        shown: given each cell as it begins, its number among all, and their number; the block lasts as long as it runs.
        told: is given a sentence for each cell that does not succeed.

    Raises:
        InputError: something is wrong with the study; nothing was started.
        StorageError: Postgres is down.
    """
    cells = check(study)
    studies.note(warehouse, study, cells)
    for number, cell in enumerate(cells, start=1):
        now = studies.standing(warehouse, cell.run_id)
        if now.state == DONE:
            continue
        if now.state == RUNNING:
            told(f"{cell.title}: somebody else is at work on it; the study goes on with the others.")
            continue
        try:
            with shown(cell, number, len(cells)):
                pipeline.run_all(
                    cell.values,
                    run_id=cell.run_id,
                    workspace=workspace,
                    warehouse=warehouse,
                    endpoint=endpoint,
                    again=f"the study {study.name}, started again,",
                )
        except LlmserError as error:
            _failed(study, cell, warehouse, str(error), told)
        except Exception as error:
            log.exception("%s failed", cell.title)
            _failed(study, cell, warehouse, f"{type(error).__name__}; see the log.", told)
    return outcome(warehouse, study.name, cells)


def outcome(warehouse: Warehouse, study: str, cells: Sequence[Cell]) -> Outcome:
    """How the study stands now."""
    standings = studies.standings(warehouse, study)
    titles = {cell.run_id: cell.title for cell in cells}

    def those(*states: str) -> list[Standing]:
        return [each for each in standings.values() if each.state in states and each.run_id in titles]

    failed = those("failed", "interrupted")
    return Outcome(
        done=[titles[each.run_id] for each in those(DONE)],
        failed=[titles[each.run_id] for each in failed],
        running=[titles[each.run_id] for each in those(RUNNING)],
        open=[titles[each.run_id] for each in those(studies.OPEN)],
        why={titles[each.run_id]: each.message or "it says no more." for each in failed},
    )


def open_cells(warehouse: Warehouse, study: Study) -> list[Cell]:
    """Note the study, as `run_study` does, for somebody else to run: what has not succeeded yet, in order.

    Raises:
        InputError: something is wrong with the study.
    """
    cells = check(study)
    studies.note(warehouse, study, cells)
    standings = studies.standings(warehouse, study.name)
    return [cell for cell in cells if standings[cell.run_id].state != DONE]


def _failed(study: Study, cell: Cell, warehouse: Warehouse, why: str, told: Callable[[str], None]) -> None:
    now = studies.standing(warehouse, cell.run_id)
    if now.state == studies.OPEN:  # it failed before it had a row
        studies.not_begun(warehouse, study.name, cell.run_id, why)
    told(f"{cell.title}: failed, and the study goes on with the others: {why}")


def finished(outcome: Outcome) -> None:
    """
    Raises:
        InputError: the study is not complete; how it stands.
    """
    if not outcome.complete:
        raise InputError(outcome.sentence)

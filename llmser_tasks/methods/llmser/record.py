"""Histories, pseudo items and reliability per user into Postgres, by the dump's own ids, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.parquet as pq

from llmser_tasks.core.files import PSEUDO, RELIABILITY
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.warehouse.tables import augmented


def record(run: Run, refs: Refs, reliability: Artefact) -> int:
    """Replace the run's rows of these, and the counts made from them, in one transaction; returns the users.

    Raises:
        StorageError: Postgres is down.
    """
    run_id, workspace = run.run_id, run.workspace
    known = Catalogue.of_run(run, refs)
    histories = Histories.of_run(run, refs)
    sequences = Histories.read(run.folder(refs, "pseudo") / PSEUDO)
    sources = pq.read_table(run.folder(refs, "pseudo") / PSEUDO, columns=["sources"])["sources"].to_pylist()
    scores = pq.read_table(workspace.folder(reliability) / RELIABILITY)
    encoder_hash = workspace.summary(reliability)["encoder_hash"]

    pseudo_rows = (
        (run_id, user_id, known.item_ids_of(items), known.titles_of(items), source)
        for user_id, items, source in zip(known.user_ids_of(sequences.users), sequences, sources, strict=True)
    )
    masked, named = scores["masked"], scores["named"].fill_null(0)
    rows = zip(
        known.user_ids_of(scores["user"].to_numpy()),
        scores["n"].to_pylist(),
        known.item_ids_of(masked.to_numpy()),
        known.titles_of(masked.to_numpy()),
        known.item_ids_of(named.to_numpy()),
        known.titles_of(named.to_numpy()),
        scores["source"].to_pylist(),
        scores["omega"].to_pylist(),
        scores["alpha"].to_pylist(),
        scores["reason"].to_pylist(),
        strict=True,
    )
    augmented.replace(
        run.warehouse,
        run_id,
        histories=_histories(run_id, histories, known),
        titles=_titles(run_id, known),
        pseudo_items=pseudo_rows,
        reliability=((run_id, *row, encoder_hash) for row in rows),
    )
    return len(sequences)


def _histories(run_id: str, histories: Histories, known: Catalogue) -> Iterator[tuple[str, str, list[str]]]:
    for user_id, items in zip(known.user_ids_of(histories.users), histories, strict=True):
        yield run_id, user_id, known.item_ids_of(items)


def _titles(run_id: str, known: Catalogue) -> Iterator[tuple[str, str, str, str | None]]:
    columns = (known.item_ids, known.titles, known.texts)
    for item_id, title, text in zip(*(column.to_pylist() for column in columns), strict=True):
        if title is not None:
            yield run_id, item_id, title, text if text != title else None

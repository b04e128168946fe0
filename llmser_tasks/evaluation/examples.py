"""A few users in full: what they bought, what was put before it, what was masked and named, and ω and α."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.histories import Histories

SHOWN = 8  # newest history items


@dataclass(frozen=True)
class Example:
    """One augmented user; titles, or the item's id where it has none.

    Attributes:
        pseudo: title and source of each pseudo-prior item, in sequence order.
        history: titles, oldest first; the last one is the masked item. `older` more came before them.
        source: how the named item was read from the answer.
    """

    user: str
    n: int
    tail: bool
    pseudo: list[tuple[str, str]]
    older: int
    history: list[str]
    named: str | None
    named_is_masked: bool
    source: str | None
    omega: float
    alpha: float
    reason: str | None


def examples(
    training: Histories,
    pseudo: Path,
    reliability: Path,
    catalogue: Catalogue,
    *,
    tail_threshold: int,
    seed: int,
    count: int = 10,
) -> list[Example]:
    """Users with pseudo items, chosen by seed so that their ω differ: one at random from each of `count` equal shares
    of all such users in order of ω. The most reliable comes first.
    """
    prior = pq.read_table(pseudo)
    scores = pq.read_table(reliability)
    users = prior["user"].to_numpy()
    assert np.array_equal(users, scores["user"].to_numpy()), "pseudo items and scores belong to other users"
    filled = np.flatnonzero(Histories.from_arrow(prior.select(["user", "items"])).lengths > 0)
    rows = spread(filled, scores["omega"].to_numpy()[filled], seed, count)

    def titles(items: list[int]) -> list[str]:
        found = zip(catalogue.titles_of(items), catalogue.item_ids_of(items), strict=True)
        return [title or f"{item} (no title)" for title, item in found]

    shown = []
    for row in rows:
        added, score = (table.slice(row, 1).to_pylist()[0] for table in (prior, scores))
        items = training[int(training.rows_of(users[row : row + 1])[0])].tolist()
        shown.append(
            Example(
                user=catalogue.user_ids_of([added["user"]])[0],
                n=score["n"],
                tail=score["n"] <= tail_threshold,
                pseudo=list(zip(titles(added["items"]), added["sources"], strict=True)),
                older=max(len(items) - SHOWN, 0),
                history=titles(items[-SHOWN:]),
                named=None if score["named"] is None else titles([score["named"]])[0],
                named_is_masked=score["named"] == score["masked"],
                source=score["source"],
                omega=score["omega"],
                alpha=score["alpha"],
                reason=score["reason"],
            )
        )
    return shown


def spread(rows: NDArray[np.int64], omega: NDArray[np.float64], seed: int, count: int) -> list[int]:
    """One random row from each of at most `count` equal shares, highest ω first; equal ω in random order."""
    generator = np.random.default_rng(seed)
    order = np.lexsort((generator.permutation(len(rows)), -omega))
    shares = np.array_split(rows[order], min(count, len(rows))) if len(rows) else []
    return [int(generator.choice(share)) for share in shares]

"""What training made of items: each model's item table in two dimensions, head items apart from tail items (LLM-ESR's
figure, with principal components where that has t-SNE, so that the same table always gives the same picture).

Two dimensions hold a part of what a table says, so two numbers beside them are worked out from whole vectors: whether
head and tail items lie apart (silhouette), and whether items that are near each other are alike by their texts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from llmser_tasks import recommenders
from llmser_tasks.core.threads import pinned_threads
from llmser_tasks.evaluation.metrics import Floats
from llmser_tasks.recommenders.finished import finish
from llmser_tasks.recommenders.items.projection import moments, signs
from llmser_tasks.sequences.head_items import head_items
from llmser_tasks.texts.neighbours import neighbours
from llmser_tasks.texts.vectors import ItemVectors

log = logging.getLogger(__name__)

MOST = 2000  # items shown, of larger catalogues a sample
NEAREST = 10
DECIMALS = 3  # of a coordinate, where the item farthest out has 1: less than a dot's width
FILE = "item_maps.parquet"
ROWS = pa.schema(
    [
        ("method", pa.string()),
        ("item", pa.int32()),
        ("head", pa.bool_()),
        ("count", pa.int32()),
        ("x", pa.float32()),
        ("y", pa.float32()),
    ]
)


@dataclass(frozen=True)
class Shown:
    """The items that every map of a run shows.

    Attributes:
        items: (S,) ascending.
        head: (S,) whether each is a head item.
        counts: (S,) its training interactions.
    """

    items: NDArray[np.int64]
    head: NDArray[np.bool_]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, counts: NDArray[np.int64], seed: int) -> Shown:
        """
        Args:
            counts: (I + 1,) training interactions of every item.
        """
        items = np.arange(1, len(counts))
        if len(items) > MOST:
            items = np.sort(np.random.default_rng(seed).choice(items, MOST, replace=False))
        return cls(items, head_items(counts)[items], counts[items])


@dataclass(frozen=True)
class ItemMap:
    """
    Attributes:
        places: (S, 2) coordinates along the first two principal components of the whole table, from -1 to 1.
        shares: of the table's variance that each of the two holds.
        silhouette: of head against tail items, from -1 to 1; None where one of them is missing.
        overlap: how many of an item's NEAREST in the table are among its NEAREST by text, as a share; None where there
            are too few texts.
        chance: what that would be for items in any order.
    """

    places: Floats
    shares: tuple[float, float]
    silhouette: float | None
    overlap: float | None
    chance: float | None


@dataclass(frozen=True)
class Drawn:
    """A map as it was written, item by item."""

    items: NDArray[np.int32]
    heads: list[bool]
    counts: list[int]
    xs: list[float]
    ys: list[float]

    @property
    def places(self) -> list[tuple[float, float, bool]]:
        return list(zip(self.xs, self.ys, self.heads, strict=True))


def read_maps(folder: Path) -> dict[str, Drawn]:
    """By method; evaluations from before there were maps have none."""
    if not (folder / FILE).exists():
        return {}
    table = pq.read_table(folder / FILE)
    drawn = {}
    for method in table["method"].unique().to_pylist():
        rows = table.filter(pc.equal(table["method"], method))
        heads, counts, xs, ys = (rows[name].to_pylist() for name in ("head", "count", "x", "y"))
        places = ([round(value, DECIMALS) for value in values] for values in (xs, ys))  # of float32
        drawn[method] = Drawn(rows["item"].to_numpy(), heads, counts, *places)
    return drawn


def write_maps(
    folder: Path, models: Mapping[str, Path], counts: NDArray[np.int64], seed: int, texts: ItemVectors | None
) -> list[dict[str, Any]]:
    """Write every item's place in every map, and return what is said of each map, without places.

    Args:
        models: folder of a trained model per method.
        counts: (I + 1,) training interactions of every item.
        texts: of all items; None: nobody has embedded them.
    """
    shown = Shown.of(counts, seed)
    said: list[dict[str, Any]] = []
    with pq.ParquetWriter(folder / FILE, ROWS) as writer:
        for method, model in models.items():
            table = finish(recommenders.load(model)).table[1:].detach().cpu()
            if not bool(torch.isfinite(table).all()):
                log.warning("The item table of %s holds numbers that are not finite, so it has no map.", method)
                continue
            made = draw_map(table, shown, texts)
            columns = [np.full(len(shown.items), method), shown.items, shown.head, shown.counts, *made.places.T]
            writer.write_table(pa.table([pa.array(column) for column in columns], ROWS.names).cast(ROWS))
            said.append(
                {"method": method, "seed": seed, "items": len(shown.items), "head": int(shown.head.sum())}
                | {"shares": list(made.shares), "silhouette": made.silhouette}
                | {"overlap": made.overlap, "chance": made.chance}
            )
    return said


def draw_map(table: torch.Tensor, shown: Shown, texts: ItemVectors | None) -> ItemMap:
    """
    Args:
        table: (I, w) vectors of the items 1 … I as they are ranked by.
    """
    with pinned_threads():
        places, shares = principal_places(table, shown.items - 1)
        vectors: Floats = table[shown.items - 1].double().numpy()
        overlap, chance = None, None
        if texts is not None:
            overlap, chance = text_overlap(vectors, texts.vectors[shown.items])
        return ItemMap(places, shares, silhouette(vectors, shown.head), overlap, chance)


def principal_places(table: torch.Tensor, rows: NDArray[np.int64]) -> tuple[Floats, tuple[float, float]]:
    """(S, 2) where these rows of a table (I, w) lie on its first two principal components, and the shares of variance
    that these hold. Where rows differ in fewer directions, the rest is 0.
    """
    mean, covariance = moments(table)
    variances, directions = torch.linalg.eigh(covariance)
    variances, directions = variances.flip(0)[:2].clamp(min=0), directions.flip(1)[:, :2]
    total = float(covariance.trace())
    places = np.zeros((len(rows), 2))
    if total > 0:
        found = (table[rows].double() - mean) @ (directions * signs(directions))
        places[:, : found.shape[1]] = (found / found.abs().max().clamp(min=torch.finfo(found.dtype).tiny)).numpy()
    held = [float(variance) / total if total > 0 else 0.0 for variance in variances] + [0.0]
    return np.round(places, DECIMALS) + 0.0, (held[0], held[1])


def silhouette(vectors: Floats, head: NDArray[np.bool_]) -> float | None:
    """Mean silhouette (Rousseeuw, 1987) of vectors (S, w) in two groups, by Euclidean distance: (b - a) / max(a, b) of
    an item whose mean distance is a to the others of its own group and b to the other group; 0 of an only one.
    """
    if head.all() or not head.any():
        return None
    squares = np.einsum("nd,nd->n", vectors, vectors)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * vectors @ vectors.T, 0))
    np.fill_diagonal(distances, 0)
    to_head, to_tail = distances[:, head].sum(1), distances[:, ~head].sum(1)
    own = np.where(head, to_head, to_tail) / np.maximum(np.where(head, head.sum(), (~head).sum()) - 1, 1)
    other = np.where(head, to_tail / (~head).sum(), to_head / head.sum())
    alone = np.where(head, head.sum(), (~head).sum()) == 1
    larger = np.maximum(own, other)
    each = np.divide(other - own, larger, out=np.zeros_like(own), where=(larger > 0) & ~alone)
    return float(each.mean())


def text_overlap(vectors: Floats, texts: NDArray[np.float32]) -> tuple[float | None, float | None]:
    """How many of an item's NEAREST by one are among its NEAREST by the other, by cosine, as a share, in the mean over
    items with a text; and what it would be for items in any order. None where no more than NEAREST have one.
    """
    titled = texts.any(axis=1)
    if (count := int(titled.sum())) <= NEAREST + 1:
        return None, None
    lengths = np.linalg.norm(vectors[titled], axis=1, keepdims=True)
    unit = np.divide(vectors[titled], lengths, out=np.zeros_like(vectors[titled]), where=lengths > 0)
    ours, theirs = (neighbours(rows.astype(np.float32), NEAREST).rows for rows in (unit, texts[titled]))
    both = (ours[:, :, None] == theirs[:, None, :]) & (ours >= 0)[:, :, None]
    return float(both.sum() / (NEAREST * count)), NEAREST / (count - 1)

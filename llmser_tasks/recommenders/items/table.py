"""What an item is to a model: the interface of all item tables, and the trainable rows that most of them have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders.initial_weights import draw_weights
from llmser_tasks.recommenders.kernels.gather import pick_distinct
from llmser_tasks.recommenders.layout import Layout

FEATURE = "feature_"  # prefix to the names of buffers that hold what the table was given


@dataclass(frozen=True)
class Gathered:
    """Rows of an item table.

    Attributes:
        ids: (R,) ascending: 0 is padding, 1 … I are items, and above these are tokens of the backbone's own.
        vectors: (R, width) what stands for each.
    """

    ids: Tensor
    vectors: Tensor

    def first(self, count: int) -> Gathered:
        return Gathered(self.ids[:count], self.vectors[:count])


Encoder = Callable[[Gathered, Tensor, Layout], Tensor]


class Table(nn.Module, ABC):
    """The vectors of items: a backbone reads them, and a state's dot products with them are scores.

    A new item table says what `rows` are, and keeps what it trains for every item in `PerItem`: such rows are moved,
    sent between processes and carried into a later model's catalogue without its help.

    Attributes:
        name: of the item table among `ITEM_TABLES`.
        items: I; item ids are 1 … I, 0 is padding.
        size: how many ids there are: padding, items and the backbone's own tokens.
        width: of a vector, and so of the states that score it. Where it is not the backbone's dimension, `states` says
            how the backbone reads such vectors.
    """

    name: str = ""

    def __init__(
        self, config: Recommender, items: int, extra_tokens: int = 0, features: Mapping[str, Tensor] | None = None
    ) -> None:
        """
        Args:
            extra_tokens: how many tokens of its own the backbone has, with the ids from I + 1 on.
            features: (I + 1, …) each, as its declaration names them. They are no weights: nothing trains them.
        """
        super().__init__()
        self.items = items
        self.size = items + 1 + extra_tokens
        self.width = config.dimension
        for name, values in (features or {}).items():
            of_tokens = values.new_zeros(extra_tokens, *values.shape[1:])
            self.register_buffer(f"{FEATURE}{name}", torch.cat([values, of_tokens]), persistent=False)

    @abstractmethod
    def rows(self, ids: Tensor) -> Tensor:
        """(R, width) vectors of ascending distinct ids (R,), for a batch."""

    def all(self) -> Tensor:
        """(size, width) vectors of all ids, for ranking and for losses over all items."""
        return self.rows(torch.arange(self.size, device=self.device))

    def states(self, encode: Encoder, gathered: Gathered, laid: Tensor, layout: Layout) -> Tensor:
        """(T, width) states, from what a backbone's `contextual` makes of (R, dimension) vectors: (T, dimension)."""
        return encode(gathered, laid, layout)

    def initialise(self, deviation: float) -> None:
        """How a fresh table begins; a backbone calls it where it draws its own weights.

        Args:
            deviation: of the backbone's normal weights.
        """
        draw_weights(self, deviation)

    def feature(self, name: str) -> Tensor:
        """(size, …) what was given by this name; zeros for the backbone's own tokens."""
        given: Tensor = self.get_buffer(f"{FEATURE}{name}")
        return given

    @property
    def features(self) -> dict[str, Tensor]:
        """(I + 1, …) all that was given, by name."""
        given = {name: values for name, values in self.named_buffers(recurse=False) if name.startswith(FEATURE)}
        return {name.removeprefix(FEATURE): values[: self.items + 1] for name, values in given.items()}

    def everything(self) -> Gathered:
        """All rows: an id is its own row."""
        return Gathered(torch.arange(self.size, device=self.device), self.all())

    def per_item(self) -> dict[str, Tensor]:
        """Parameters with a row for every id, by their names in the table's state; others belong to no item."""
        return {f"{name}.weight": part.weight for name, part in self.named_modules() if isinstance(part, PerItem)}

    def beginnings(self) -> dict[str, Tensor]:
        """What items begin with in each of `per_item`, as its other weights are now: a fresh table's own rows, unless
        they follow from these weights. A later training asks for it where its catalogue has new items.
        """
        return {name: rows.detach().clone() for name, rows in self.per_item().items()}

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


class PerItem(nn.Embedding):
    """A trainable row for every id of a table, of which a batch moves those that it gathers; padding has none."""

    def __init__(self, table: Table, width: int) -> None:
        super().__init__(table.size, width, padding_idx=0)

    def rows(self, ids: Tensor) -> Tensor:
        """(R, width) rows of ascending distinct ids (R,)."""
        return pick_distinct(self.weight, ids)

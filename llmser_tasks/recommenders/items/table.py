"""What an item is to a model: the interface of all item tables, and the trainable rows that most of them have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.recommenders.initial_weights import draw_weights
from llmser_tasks.recommenders.kernels.attention import Attention
from llmser_tasks.recommenders.kernels.gather import pick_distinct
from llmser_tasks.recommenders.layout import Layout

FEATURE = "feature_"  # prefix to the names of buffers that hold what the table was given


@dataclass(frozen=True)
class Gathered:
    """Rows of an item table.

    Attributes:
        ids: (R,) ascending: 0 is padding, 1 … I are items, and above these are tokens of the backbone's own. (What a
            backbone is shown may have them several times, as a table of several views shows it each.)
        vectors: (R, width) what stands for each.
    """

    ids: Tensor
    vectors: Tensor

    def first(self, count: int) -> Gathered:
        return Gathered(self.ids[:count], self.vectors[:count])


class Encoder(Protocol):
    """What an item table sees of a backbone (`Model`), which knows vectors of its dimension d."""

    def embed(self, gathered: Gathered, laid: Tensor, layout: Layout) -> Tensor:
        """(T, d) what it begins with at every place, from vectors (R, d) and the row (T,) of them that lies there."""

    def contextual(self, embedded: Tensor, layout: Layout) -> Tensor:
        """(T, d) state at every place, from what it begins with there."""

    def attention(self, layout: Layout) -> Attention:
        """What a token may look at."""


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
        without: those of its `parts` that are left out.
        encoders: the backbone's encoder again, untrained, `more_encoders` times, for `states` (`load.make_model`).
    """

    name: str = ""
    parts: ClassVar[tuple[str, ...]] = ()  # what may be left out of it

    def __init__(
        self,
        config: Recommender,
        items: int,
        extra_tokens: int = 0,
        features: Mapping[str, Tensor] | None = None,
        without: Sequence[str] = (),
    ) -> None:
        """
        Args:
            extra_tokens: how many tokens of its own the backbone has, with the ids from I + 1 on.
            features: (I + 1, …) each, as its declaration names them. They are no weights: nothing trains them.
        """
        super().__init__()
        self.without = tuple(sorted(without))
        self.more_encoders = 0
        self.encoders = nn.ModuleList()
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

    def states(self, encoder: Encoder, gathered: Gathered, laid: Tensor, layout: Layout) -> Tensor:
        """(T, width) states at every place, from what a backbone makes of the vectors that lie there."""
        return encoder.contextual(encoder.embed(gathered, laid, layout), layout)

    @property
    def read_plainly(self) -> bool:
        """Whether its rows are all that a backbone reads of it."""
        return type(self).states is Table.states

    def finished(self) -> Table:
        """What is left of it in a model that nobody trains further, where it is not read plainly; by default all."""
        return self

    def put(self, ids: Tensor, vectors: Tensor) -> None:
        """Give items (N,) other vectors (N, width), in a table that is finished (`finished.finish`).

        Raises:
            InputError: it has no place for them.
        """
        del ids, vectors
        raise InputError(f"The item table {self.name} makes items' vectors itself and takes no others; choose another.")

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
        register: Any = self.weight.register_hook  # torch gives it no types
        register(_without_padding)

    def rows(self, ids: Tensor) -> Tensor:
        """(R, width) rows of ascending distinct ids (R,)."""
        return pick_distinct(self.weight, ids)


@torch.no_grad()
def _without_padding(gradient: Tensor) -> None:
    """Whoever is shown padding in the place of an item (`terms.text_reconstruction`) must not train it. Of sparse
    gradients it is taken out where rows are gathered.
    """
    if not gradient.is_sparse:
        gradient[0] = 0

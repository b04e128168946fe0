"""The interface that all backbones share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders import marks
from llmser_tasks.recommenders.initial_weights import draw_weights
from llmser_tasks.recommenders.items.table import Gathered, Table
from llmser_tasks.recommenders.kernels.attention import Attention
from llmser_tasks.recommenders.kernels.gather import pick
from llmser_tasks.recommenders.layout import Layout
from llmser_tasks.recommenders.parts import Part


@dataclass(frozen=True)
class Examples:
    """What a model is to predict in a batch.

    Attributes:
        tokens: (B, L) what the model is shown, padded with 0 on the right.
        lengths: (B,) how much of each row is real.
        predict: (B, L) bool, the positions that have a loss.
        positives: (B, L) the item each of these should predict.
    """

    tokens: Tensor
    lengths: Tensor
    predict: Tensor
    positives: Tensor


class Model(nn.Module, ABC):
    """A sequential recommender: it turns the items a user had into a state whose dot products with the items' vectors
    score every item as the next one. The same item table goes in and is scored.

    Attributes:
        extra_tokens: how many tokens of its own the backbone has; their ids follow the items'.
        item_table: what items are to this model, of `width` w; the backbone itself knows vectors of its dimension d.
        items: I; item ids are 1 … I, 0 is padding.
        max_length: most items of a context that are looked at; the newest are kept.
        mark: (d,) what is added to the vectors of marked items (`Histories.marked`), as the backbone reads them; zeros
            before anything is learned. None: the model has learned on unmarked items alone.
        parts: what terms have trained beside it (`Part`), by their names.
    """

    extra_tokens: ClassVar[int] = 0
    mark: nn.Parameter | None

    def __init__(self, config: Recommender, item_table: Table) -> None:
        super().__init__()
        self.config = config
        self.items = item_table.items
        self.max_length = config.max_length
        self.item_table = item_table
        self.register_parameter("mark", None)
        self.parts = nn.ModuleDict()

    @property
    def table(self) -> Tensor:
        """(I + 1, w) vectors of padding and items."""
        return self.item_table.all()[: self.items + 1]

    @property
    def device(self) -> torch.device:
        return self.item_table.device

    def take_marks(self) -> None:
        """Be a model that tells marked items from others, once it has been trained."""
        self.mark = nn.Parameter(torch.zeros(self.config.dimension))

    def lay(self, tokens: Tensor, layout: Layout) -> tuple[Tensor, Tensor | None]:
        """(T,) ids, and (T, bool) which are marked; None where this model knows no marks."""
        laid = layout.lay(tokens)
        return (laid, None) if self.mark is None else marks.split(laid)

    def states_of(self, gathered: Gathered, laid: Tensor, layout: Layout, marked: Tensor | None = None) -> Tensor:
        """(T, w) state at every place, from rows of the item table and the row (T,) that lies there.

        Args:
            marked: (T, bool) which of these are marked; None: none is.
        """
        if marked is None:
            return self.item_table.states(self, gathered, laid, layout)
        return self.item_table.states(_Marking(self), gathered, marks.marked(laid, marked), layout)

    def states(self, tokens: Tensor, lengths: Tensor, everything: Gathered | None = None) -> tuple[Tensor, Layout]:
        """(T, w) states of the first `lengths` (B,), at least one, of tokens (B, L), and where each of them lies.

        Args:
            everything: all rows of the item table, where they are at hand (`Table.everything`).
        """
        layout = Layout.packed(lengths)
        every = self.item_table.everything() if everything is None else everything
        laid, marked = self.lay(tokens, layout)
        return self.states_of(every, laid, layout, marked), layout

    def last_states(self, tokens: Tensor, lengths: Tensor, everything: Gathered | None = None) -> Tensor:
        """(B, w) state at each row's last token."""
        states, layout = self.states(tokens, lengths, everything)
        return states.index_select(0, layout.start + lengths - 1)

    def embed(self, gathered: Gathered, laid: Tensor, layout: Layout) -> Tensor:
        """(T, d) what the encoder begins with at every place, from items' vectors (R, d) and the row (T,) of them that
        lies there; here these vectors."""
        del layout  # nor does it matter where
        return pick(gathered.vectors, laid)

    @abstractmethod
    def contextual(self, embedded: Tensor, layout: Layout) -> Tensor:
        """(T, d) state at every place, from what the encoder begins with there."""

    @abstractmethod
    def attention(self, layout: Layout) -> Attention:
        """What a token may look at, whoever lets it look."""

    @abstractmethod
    def examples(
        self, tokens: Tensor, lengths: Tensor, generator: torch.Generator, context: Tensor | None = None
    ) -> Examples:
        """What to learn from sequences (B, L) of up to max_length + 1 items; a row of fewer than two teaches nothing.

        Args:
            context: (B,) how many of each row's first items are shown but never asked for; by default none.
        """

    @abstractmethod
    def open_ended(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and lengths of non-empty rows of up to max_length items, as the model is shown them where the item
        after them is wanted: the state at the last token scores it.
        """

    def served(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(B, w) what its parts make of states (B, w) that score the item after rows of so many items (B,)."""
        for part in self.parts.values():
            states = cast(Part, part).served(states, lengths)
        return states

    def encode(self, tokens: Tensor, lengths: Tensor, everything: Gathered | None = None) -> Tensor:
        """(B, w) state that scores the item after each row of up to max_length items; of an empty row it is zeros,
        which prefer nothing.
        """
        states = self.served(self.last_states(*self.open_ended(tokens, lengths.clamp(min=1)), everything), lengths)
        return states.masked_fill((lengths == 0)[:, None], 0.0)


class CausalModel(Model):
    """A model whose state at t depends on items 0 … t alone, so that each state learns to predict the item at t + 1."""

    def examples(
        self, tokens: Tensor, lengths: Tensor, generator: torch.Generator, context: Tensor | None = None
    ) -> Examples:
        del generator  # nothing is drawn
        shown = (lengths - 1).clamp(min=0)
        inputs, positives = tokens[:, :-1], tokens[:, 1:]
        places = torch.arange(inputs.shape[1], device=tokens.device)
        real = places < shown[:, None]
        predict = real if context is None else real & (places + 1 >= context[:, None])
        return Examples(inputs.masked_fill(~real, 0), shown, predict, positives)

    def attention(self, layout: Layout) -> Attention:
        return Attention.causally(layout)

    def open_ended(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return tokens, lengths


@dataclass(frozen=True)
class _Marking:
    """A model as an item table sees it, for rows some of which are marked (`marks.marked`)."""

    model: Model

    def embed(self, gathered: Gathered, laid: Tensor, layout: Layout) -> Tensor:
        """Every place has a vector of its own, with the mark where there is one, so ids repeat."""
        assert self.model.mark is not None
        rows, marked = marks.split(laid)
        vectors = pick(gathered.vectors, rows) + marked[:, None] * self.model.mark
        every = torch.arange(len(rows), device=rows.device)
        return self.model.embed(Gathered(gathered.ids[rows], vectors), every, layout)

    def contextual(self, embedded: Tensor, layout: Layout) -> Tensor:
        return self.model.contextual(embedded, layout)

    def attention(self, layout: Layout) -> Attention:
        return self.model.attention(layout)


def initialise(model: Model, deviation: float) -> None:
    """Random weights of this deviation; the item table draws its own."""
    model.item_table.initialise(deviation)
    for part in model.children():
        if part is not model.item_table:
            draw_weights(part, deviation)

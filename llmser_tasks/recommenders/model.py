"""The interface that all backbones share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders.layout import Layout


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
    """A sequential recommender: it turns the items a user had into a state whose dot products with the item embeddings
    score every item as the next one. Input and output embeddings are tied.

    Attributes:
        items: I; item ids are 1 … I, 0 is padding.
        max_length: most items of a context that are looked at; the newest are kept.
    """

    def __init__(self, config: Recommender, items: int, extra_tokens: int = 0) -> None:
        super().__init__()
        self.config = config
        self.items = items
        self.max_length = config.max_length
        self.item_embedding = nn.Embedding(items + 1 + extra_tokens, config.dimension, padding_idx=0)

    @property
    def table(self) -> Tensor:
        """(I + 1, d) embeddings of padding and items."""
        return self.item_embedding.weight[: self.items + 1]

    @property
    def device(self) -> torch.device:
        return self.item_embedding.weight.device

    def states(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Layout]:
        """(T, d) states of the first `lengths` (B,), at least one, of tokens (B, L), and where each of them lies."""
        layout = Layout.packed(lengths)
        return self.contextual(self.item_embedding.weight, layout.lay(tokens), layout), layout

    def last_states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, d) state at each row's last token."""
        states, layout = self.states(tokens, lengths)
        return states.index_select(0, layout.start + lengths - 1)

    @abstractmethod
    def contextual(self, table: Tensor, laid: Tensor, layout: Layout) -> Tensor:
        """(T, d) state at every place, from item embeddings (R, d) and the row (T,) of them that lies there."""

    @abstractmethod
    def examples(
        self, tokens: Tensor, lengths: Tensor, generator: torch.Generator, context: Tensor | None = None
    ) -> Examples:
        """What to learn from sequences (B, L) of up to max_length + 1 items; a row of fewer than two teaches nothing.

        Args:
            context: (B,) how many of each row's first items are shown but never asked for; by default none.
        """

    @abstractmethod
    def next_state(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, d) state that scores the item after each non-empty row of up to max_length items."""

    def encode(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """`next_state`, defined for empty rows too: a state of zeros, which prefers nothing."""
        return self.next_state(tokens, lengths.clamp(min=1)).masked_fill((lengths == 0)[:, None], 0.0)


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

    def next_state(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return self.last_states(tokens, lengths)


def initialise(model: nn.Module, deviation: float) -> None:
    """Normal weights, zero biases, unit norms; the padding row stays zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=deviation)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()

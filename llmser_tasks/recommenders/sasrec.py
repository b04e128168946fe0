"""SASRec (Kang and McAuley, 2018): causal self-attention over the items so far."""

from __future__ import annotations

from torch import Tensor, nn

from llmser_tasks.config import Recommender
from llmser_tasks.recommenders.dropout import Dropout
from llmser_tasks.recommenders.model import CausalModel, initialise
from llmser_tasks.recommenders.transformer import Block, positions_from_end


class SASRec(CausalModel):
    """Sequences are padded on the right: padding comes after every real item, so the causal mask alone hides it."""

    def __init__(self, config: Recommender, items: int) -> None:
        super().__init__(config, items)
        width = config.dimension
        self.position_embedding = nn.Embedding(config.max_length, width)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(width, config.heads, width, nn.ReLU(), config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        initialise(self, 0.02)

    def states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        places = positions_from_end(lengths, tokens.shape[1], self.max_length)
        x = self.item_embedding(tokens) * self.config.dimension**0.5 + self.position_embedding(places)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, None)
        states: Tensor = self.norm(x)
        return states

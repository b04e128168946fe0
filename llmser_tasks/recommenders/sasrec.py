"""SASRec (Kang and McAuley, 2018): causal self-attention over the items so far."""

from __future__ import annotations

from torch import Tensor, nn

from llmser_tasks.config import Recommender
from llmser_tasks.kinds import Backbone
from llmser_tasks.recommenders.attention import Attention
from llmser_tasks.recommenders.dropout import Dropout
from llmser_tasks.recommenders.embed import embed
from llmser_tasks.recommenders.layout import Layout
from llmser_tasks.recommenders.model import CausalModel, initialise
from llmser_tasks.recommenders.transformer import Block, positions_from_end

DECLARED = Backbone(title="SASRec", place=1)


class SASRec(CausalModel):
    def __init__(self, config: Recommender, items: int) -> None:
        super().__init__(config, items)
        width = config.dimension
        self.position_embedding = nn.Embedding(config.max_length, width)
        self.dropout = Dropout(config.dropout_rate)
        self.blocks = nn.ModuleList(
            Block(width, config.heads, width, nn.ReLU(), config.dropout_rate) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        initialise(self, 0.02)

    def contextual(self, table: Tensor, laid: Tensor, layout: Layout) -> Tensor:
        places = positions_from_end(layout, self.max_length)
        x = embed(table, laid, self.position_embedding.weight, places, self.dropout)
        attention = Attention.causally(layout)
        for block in self.blocks:
            x = block(x, attention)
        states: Tensor = self.norm(x)
        return states


BACKBONE = SASRec

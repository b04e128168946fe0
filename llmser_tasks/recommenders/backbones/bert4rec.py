"""BERT4Rec (Sun et al., 2019): self-attention in both directions, trained to fill in masked items."""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import Backbone
from llmser_tasks.recommenders.backbones.transformer import Block, positions_from_end
from llmser_tasks.recommenders.embed import embed
from llmser_tasks.recommenders.items.table import Gathered, Table
from llmser_tasks.recommenders.kernels.attention import Attention
from llmser_tasks.recommenders.kernels.dropout import Dropout
from llmser_tasks.recommenders.layout import Layout
from llmser_tasks.recommenders.model import Examples, Model, initialise

DECLARED = Backbone(title="BERT4Rec", place=3, dropout=0.35, averaging=0.8)

MASK_PROBABILITY = 0.3  # of an item being masked, in a sequence that is not cut
NEARNESS = 0.7  # by how much the attention logit of a token falls with every step away from it
PREFIX_PROBABILITY = 0.5  # of a sequence being cut behind a random item that alone is masked: what inference asks


class BERT4Rec(Model):
    """The mask token is id I + 1. L(S_u) is the sum over the masked positions of S_u.

    At inference a mask follows the context, so the position table has one row more than the longest context.

    A mask says nothing itself, so each block starts as the mean of the items around it (`start_as_mean`). From small
    random weights alone nothing reached the masks for epochs: validation NDCG@10 on Beauty stood at .008 after five.
    For the same reason attention begins by preferring what is near (ALiBi, Press et al., 2022): without that the best
    NDCG@10 on Beauty was .052, with it .058 (dropout .2 both).

    Few positions of a batch have a loss, so the weights swing from epoch to epoch: their average reaches .061, the best
    single epoch .060. A feed-forward block four times as wide, as in the paper, brings .059 and costs a third more.
    """

    extra_tokens: ClassVar[int] = 1

    def __init__(self, config: Recommender, item_table: Table) -> None:
        super().__init__(config, item_table)
        width = config.dimension
        self.mask_token = self.items + 1
        self.position_embedding = nn.Embedding(config.max_length + 1, width)
        self.dropout = Dropout(config.dropout_rate)
        self.blocks = nn.ModuleList(
            Block(width, config.heads, width, nn.GELU(), config.dropout_rate) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        initialise(self, 0.02)
        for block in self.blocks:
            cast(Block, block).start_as_mean()

    def embed(self, gathered: Gathered, laid: Tensor, layout: Layout) -> Tensor:
        places = positions_from_end(layout, self.max_length + 1)
        return embed(gathered.vectors, laid, self.position_embedding.weight, places, self.dropout)

    def attention(self, layout: Layout) -> Attention:
        return Attention.by_nearness(layout, NEARNESS)

    def contextual(self, embedded: Tensor, layout: Layout) -> Tensor:
        x, attention = embedded, self.attention(layout)
        for block in self.blocks:
            x = block(x, attention)
        states: Tensor = self.norm(x)
        return states

    def examples(
        self, tokens: Tensor, lengths: Tensor, generator: torch.Generator, context: Tensor | None = None
    ) -> Examples:
        """Cut about half of the rows behind a random item and mask that one; of the others mask any.

        At least one item is masked and at least one stays visible.
        """
        chance = torch.rand(tokens.shape, generator=generator, device=tokens.device)
        prefix = torch.rand(len(tokens), generator=generator, device=tokens.device) < PREFIX_PROBABILITY
        cut = torch.rand(len(tokens), generator=generator, device=tokens.device)
        shortest = torch.full_like(lengths, 2) if context is None else (context + 1).clamp(min=2)
        ends = (shortest + (cut * (lengths - shortest + 1)).long()).minimum(lengths)
        lengths = torch.where(prefix, ends, lengths)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        real = places < lengths[:, None]
        last = places == lengths[:, None] - 1
        if context is not None:
            chance = chance.masked_fill(places < context[:, None], 1.5)  # above every probability
        chance = chance.masked_fill(~real, 2.0)
        masked = chance < MASK_PROBABILITY
        masked |= places == chance.argmin(1)[:, None]  # at least this one
        masked &= places != chance.masked_fill(~real, -1.0).argmax(1)[:, None]  # never this one
        masked = torch.where(prefix[:, None], last, masked) & real & (lengths >= 2)[:, None]
        return Examples(tokens.masked_fill(masked, self.mask_token).masked_fill(~real, 0), lengths, masked, tokens)

    def open_ended(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.arange(len(tokens), device=tokens.device)
        shown = torch.cat([tokens, tokens.new_zeros(len(tokens), 1)], dim=1)
        shown[rows, lengths] = self.mask_token
        return shown, lengths + 1


BACKBONE = BERT4Rec

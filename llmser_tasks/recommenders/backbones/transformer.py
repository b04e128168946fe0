"""What transformers share: pre-norm residual blocks, and a causal model made of blocks of any kind."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.embed import embed
from llmser_tasks.recommenders.items.table import Gathered, Table
from llmser_tasks.recommenders.kernels.attention import Attention
from llmser_tasks.recommenders.kernels.dropout import Dropout
from llmser_tasks.recommenders.kernels.fused_block import norm_project, residuals
from llmser_tasks.recommenders.layout import Layout
from llmser_tasks.recommenders.model import CausalModel, initialise


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, dimension: int, heads: int, inner: int, activation: nn.Module, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dimension)
        self.query_key_value = nn.Linear(dimension, 3 * dimension)
        self.attention_out = nn.Linear(dimension, dimension)
        self.feed_forward_norm = nn.LayerNorm(dimension)
        self.feed_forward = nn.Sequential(
            nn.Linear(dimension, inner), activation, Dropout(dropout), nn.Linear(inner, dimension)
        )
        self.dropout = Dropout(dropout)

    @torch.no_grad()
    def start_as_mean(self) -> None:
        """Add the identity to the value and output projections: attention begins as the mean of what it may look at."""
        identity = torch.eye(self.attention_out.in_features)
        self.query_key_value.weight[2 * len(identity) :] += identity
        self.attention_out.weight += identity

    def forward(self, x: Tensor, attention: Attention) -> Tensor:
        """x (T, d)."""
        if not devices.on_gpu(x):
            return self._fused(x, attention)
        x = x + self.dropout(self.attention_out(attention(self.query_key_value(self.attention_norm(x)), self.heads)))
        out: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return out

    def _fused(self, x: Tensor, attention: Attention) -> Tensor:
        """The same with fewer, larger operations."""
        inner, activation, _, outer = self.feed_forward
        x, projected = norm_project(x, *_affine(self.attention_norm), *_affine(self.query_key_value))
        return residuals(
            x,
            attention(projected, self.heads),
            *_affine(self.attention_out),
            *_affine(self.feed_forward_norm),
            *_affine(inner),
            *_affine(outer),
            isinstance(activation, nn.ReLU),
            self.dropout.probability if self.training else 0.0,
        )


def _affine(module: nn.Module) -> tuple[Any, Any]:
    return module.weight, module.bias


def positions_from_end(layout: Layout, most: int) -> Tensor:
    """(T,) indices into a position table of `most` rows: a row's last item always has the index most - 1.

    Counted this way an item's position says how recent it is, whatever the length. What is on empty places is never
    read.
    """
    return most - layout.lengths[layout.owner] + layout.column


class CausalTransformer(CausalModel):
    """Vectors of items and positions, blocks that attend to what came before, a norm."""

    def __init__(self, config: Recommender, item_table: Table) -> None:
        super().__init__(config, item_table)
        width = config.dimension
        self.position_embedding = nn.Embedding(config.max_length, width)
        self.dropout = Dropout(config.dropout_rate)
        self.blocks = nn.ModuleList(self.block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        initialise(self, 0.02)

    @staticmethod
    @abstractmethod
    def block(config: Recommender) -> nn.Module:
        """One fresh block, called with x (T, d) and an `Attention`."""

    def embed(self, gathered: Gathered, laid: Tensor, layout: Layout) -> Tensor:
        places = positions_from_end(layout, self.max_length)
        return embed(gathered.vectors, laid, self.position_embedding.weight, places, self.dropout)

    def contextual(self, embedded: Tensor, layout: Layout) -> Tensor:
        x, attention = embedded, self.attention(layout)
        for block in self.blocks:
            x = block(x, attention)
        states: Tensor = self.norm(x)
        return states

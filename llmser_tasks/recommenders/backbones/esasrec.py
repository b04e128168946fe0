"""eSASRec (Tikhonovich et al., RecSys 2025): SASRec's objective with LiGR layers, which gate what they add."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import Backbone
from llmser_tasks.recommenders.backbones.transformer import CausalTransformer
from llmser_tasks.recommenders.kernels.attention import Attention
from llmser_tasks.recommenders.kernels.dropout import Dropout

DECLARED = Backbone(title="eSASRec", place=4, dropout=0.2)

WIDER = 4  # the feed-forward block is so many times as wide as the states


class SwiGLU(nn.Module):
    """silu(x W) ⊙ x V, then back to the width of x; no biases (Shazeer, 2020)."""

    def __init__(self, dimension: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.gate_and_value = nn.Linear(dimension, 2 * inner, bias=False)
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(inner, dimension, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (T, d)."""
        gate, value = self.gate_and_value(x).chunk(2, dim=1)
        out: Tensor = self.out(self.dropout(F.silu(gate) * value))
        return out


class LiGRLayer(nn.Module):
    """x + σ(x G) ⊙ sublayer(norm(x)), for attention and then for the feed-forward block (Borisyuk et al., 2025)."""

    def __init__(self, dimension: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dimension)
        self.query_key_value = nn.Linear(dimension, 3 * dimension)
        self.attention_out = nn.Linear(dimension, dimension)
        self.attention_gate = nn.Linear(dimension, dimension)
        self.feed_forward_norm = nn.LayerNorm(dimension)
        self.feed_forward = SwiGLU(dimension, WIDER * dimension, dropout)
        self.feed_forward_gate = nn.Linear(dimension, dimension)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, attention: Attention) -> Tensor:
        """x (T, d)."""
        attended = self.attention_out(attention(self.query_key_value(self.attention_norm(x)), self.heads))
        x = x + torch.sigmoid(self.attention_gate(x)) * self.dropout(attended)
        fed = self.feed_forward(self.feed_forward_norm(x))
        out: Tensor = x + torch.sigmoid(self.feed_forward_gate(x)) * self.dropout(fed)
        return out


class ESASRec(CausalTransformer):
    @staticmethod
    def block(config: Recommender) -> nn.Module:
        return LiGRLayer(config.dimension, config.heads, config.dropout_rate)


BACKBONE = ESASRec

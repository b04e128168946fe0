"""The transformer that SASRec and BERT4Rec share: pre-norm residual blocks over right-padded sequences."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmser_tasks.recommenders.dropout import Dropout


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

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """x (B, L, d); keys: (B, 1, 1, L) bool, which tokens may be looked at, or None for causal attention."""
        x = x + self.dropout(self._attend(self.attention_norm(x), keys))
        out: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return out

    def _attend(self, x: Tensor, keys: Tensor | None) -> Tensor:
        batch, length, dimension = x.shape
        split = self.query_key_value(x).view(batch, length, 3, self.heads, dimension // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (B, heads, L, d / heads)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=keys, is_causal=keys is None)
        out: Tensor = self.attention_out(attended.transpose(1, 2).reshape(batch, length, dimension))
        return out


def positions_from_end(lengths: Tensor, longest: int, most: int) -> Tensor:
    """(B, longest) indices into a position table of `most` rows: a row's last item always has the index most - 1.

    Counted this way an item's position says how recent it is, whatever the length. Padding gets most - 1.
    """
    return (most - lengths[:, None] + torch.arange(longest, device=lengths.device)).clamp(max=most - 1)

"""The transformer that SASRec and BERT4Rec share: pre-norm residual blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmser_tasks.recommenders.dropout import Dropout
from llmser_tasks.recommenders.layout import Group, Layout


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

    def forward(self, x: Tensor, layout: Layout, causal: bool) -> Tensor:
        """x (T, d); a token looks at its row's real tokens, where `causal` at those up to itself."""
        x = x + self.dropout(self._attend(self.attention_norm(x), layout, causal))
        out: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return out

    def _attend(self, x: Tensor, layout: Layout, causal: bool) -> Tensor:
        def attend(split: Tensor, group: Group, lengths: Tensor) -> Tensor:
            """(R, L, 3d) queries, keys and values → (R, L, d)"""
            if group.longest == 1:  # nothing else to look at
                return split[:, :, 2 * x.shape[1] :]
            heads = split.view(group.rows, group.longest, 3, self.heads, x.shape[1] // self.heads)
            query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (R, heads, L, d / heads)
            seen = None  # padding comes after every real token, so the causal mask alone hides it
            if not causal and not group.full:
                seen = (torch.arange(group.longest, device=x.device) < lengths[:, None])[:, None, None, :]
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=causal)
            return attended.transpose(1, 2).flatten(2)

        out: Tensor = self.attention_out(layout.map(attend, self.query_key_value(x)))
        return out


def positions_from_end(layout: Layout, most: int) -> Tensor:
    """(T,) indices into a position table of `most` rows: a row's last item always has the index most - 1.

    Counted this way an item's position says how recent it is, whatever the length. Padding gets most - 1.
    """
    return (most - layout.lengths[layout.owner] + layout.column).clamp(max=most - 1)

"""The transformer that SASRec and BERT4Rec share: pre-norm residual blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmser_tasks.recommenders.dropout import Dropout
from llmser_tasks.recommenders.layout import Layout


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

    def forward(self, x: Tensor, layout: Layout, masks: Sequence[Tensor | None]) -> Tensor:
        """x (T, d); masks as `causal_masks` or `nearness_masks` make them."""
        x = x + self.dropout(self._attend(self.attention_norm(x), layout, masks))
        out: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return out

    def _attend(self, x: Tensor, layout: Layout, masks: Sequence[Tensor | None]) -> Tensor:
        parts = []
        for lines, mask in zip(layout.split(self.query_key_value(x)), masks, strict=True):
            heads = lines.view(*lines.shape[:2], 3, self.heads, -1)
            query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (lines, heads, places, d / heads)
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
            parts.append(attended.transpose(1, 2).flatten(2))
        out: Tensor = self.attention_out(layout.join(parts))
        return out


def causal_masks(layout: Layout) -> list[Tensor | None]:
    """Per group what is added to the attention of a token to another: nothing up to itself in its row, else -∞.

    (lines, 1, places, places), or None where a line holds one row: padding stands behind it and causality hides it.
    """
    masks: list[Tensor | None] = []
    for group, owner in zip(layout.groups, layout.split(layout.owner), strict=True):
        if group.shared:
            seen = (owner[:, :, None] == owner[:, None, :]).tril()
            masks.append(_added(seen))
        else:
            masks.append(None)
    return masks


def nearness_masks(layout: Layout, slope: float) -> list[Tensor]:
    """Per group what is added to the attention of a token to another: -slope × their distance in its row, else -∞.

    (lines, 1, places, places); empty places see each other, for an attention to nothing is not a number.
    """
    masks = []
    for owner in layout.split(layout.owner):
        place = torch.arange(owner.shape[1], device=owner.device)
        masks.append(_added(owner[:, :, None] == owner[:, None, :]) - slope * (place - place[:, None]).abs())
    return masks


def _added(seen: Tensor) -> Tensor:
    """(lines, places, places) bool → (lines, 1, places, places), 0 or -∞."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -torch.inf)[:, None]


def positions_from_end(layout: Layout, most: int) -> Tensor:
    """(T,) indices into a position table of `most` rows: a row's last item always has the index most - 1.

    Counted this way an item's position says how recent it is, whatever the length. What stands on empty places is
    read by nobody.
    """
    return most - layout.lengths[layout.owner] + layout.column

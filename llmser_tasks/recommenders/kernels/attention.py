"""What the tokens of a batch look at: their own row, all of it or only what is before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.recommenders.kernels.row_attention import attend_rows
from llmser_tasks.recommenders.layout import SHORT, Layout


@dataclass(frozen=True)
class Attention:
    """The attention of every layer of a model, over one batch.

    Attributes:
        causal: a token sees itself and what is before it in its row; else the whole row.
        slope: how much the logit falls with every step between two tokens (ALiBi, Press et al., 2022).
        masks: per group what is added to its logits, (lines, 1, places, places); None where nothing need be.
    """

    layout: Layout
    causal: bool
    slope: float
    masks: Sequence[Tensor | None]

    @classmethod
    def causally(cls, layout: Layout) -> Attention:
        """To itself and what is before it. Where a line holds one row, padding stands behind it and is hidden, too."""
        seen = [
            _same_row(owner).tril() if group.rows == "several" else None
            for group, owner in zip(layout.groups, layout.split(layout.owner), strict=True)
        ]
        return cls(layout, True, 0.0, [None if one is None else _added(one) for one in seen])

    @classmethod
    def by_nearness(cls, layout: Layout, slope: float) -> Attention:
        """To the whole row. Empty places see each other, because attention to nothing is not a number."""
        masks: list[Tensor | None] = []
        for group, owner in zip(layout.groups, layout.split(layout.owner), strict=True):
            place = torch.arange(owner.shape[1], device=owner.device)
            distance = (place - place[:, None]).abs() if group.rows != "all" else None
            masks.append(None if distance is None else _added(_same_row(owner)) - slope * distance)
        return cls(layout, False, slope, masks)

    def __call__(self, projected: Tensor, heads: int) -> Tensor:
        """(T, 3d) queries, keys and values → (T, d)."""
        parts = []
        for group, lines, mask in zip(self.layout.groups, self.layout.split(projected), self.masks, strict=True):
            if group.rows == "all":
                lengths = self.layout.lengths.where(self.layout.lengths <= SHORT, 0)
                rows = lines.flatten(0, 1)  # the same memory, for the gradient too, which `lines[0]` would copy
                attended = attend_rows(rows, self.layout.start, lengths, heads, self.causal, self.slope)
                parts.append(attended[None])
            else:
                mask = None if mask is None else mask.to(lines.dtype)
                of_heads = lines.view(*lines.shape[:2], 3, heads, -1)
                query, key, value = of_heads.permute(2, 0, 3, 1, 4)  # each (lines, heads, places, d / heads)
                attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
                parts.append(attended.transpose(1, 2).flatten(2))
        return self.layout.join(parts)


def _same_row(owner: Tensor) -> Tensor:
    """(lines, places) → (lines, places, places) bool."""
    return owner[:, :, None] == owner[:, None, :]


def _added(seen: Tensor) -> Tensor:
    """(lines, places, places) bool → (lines, 1, places, places), 0 or -∞."""
    return torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -torch.inf)[:, None]

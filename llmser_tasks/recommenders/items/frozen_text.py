"""What item tables share that read items' texts and never train what they read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llmser_tasks.recommenders.items.projection import Projection
from llmser_tasks.recommenders.items.table import Table

VECTORS = "item_vectors"  # the feature: (I + 1, D), zeros for padding and for what has no text


class FrozenText(Table):
    """A table with the principal components of every item's text.

    They are made from the feature whenever the projection changes, so that a batch gathers k numbers an item and not D.

    Attributes:
        projection: part of the state, so that a later training reads texts in the same way.
        text: (size, k) frozen components; zeros for padding, for items without text and for a backbone's own tokens.
    """

    text: Tensor

    def read_texts(self, components: int) -> None:
        """Make room for so many components; `initialise` fits them."""
        self.projection = Projection(self.feature(VECTORS).shape[1], components)
        self.register_buffer("text", torch.zeros(self.size, components), persistent=False)
        register: Any = self.register_load_state_dict_post_hook  # torch gives it no types
        register(_project)

    def fit_texts(self, deviation: float, *, whiten: bool = False) -> None:
        """Fit the projection to these items (`Projection.fit`), and project them."""
        self.projection.fit(self.feature(VECTORS), deviation, whiten=whiten)
        _project(self)


@torch.no_grad()
def _project(table: Any, *_: Any) -> None:
    """After a state was loaded, its projection may be another one."""
    table.text.copy_(table.projection(table.feature(VECTORS)))

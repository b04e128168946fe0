"""What terms share that hold a model to the texts of items, as RLMRec does (Ren et al., WWW 2024)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmser_tasks.core.errors import InputError
from llmser_tasks.recommenders.parts import Part
from llmser_tasks.recommenders.terms.term import TermInputs


class Between(Part):
    """Two layers from one space to another, the middle one as wide as both are on average."""

    def __init__(self, given: int, width: int) -> None:
        super().__init__()
        middle = (given + width) // 2
        self.layers = nn.Sequential(nn.Linear(given, middle), nn.LeakyReLU(), nn.Linear(middle, width))

    def forward(self, vectors: Tensor) -> Tensor:
        """(N, given) → (N, width)"""
        mapped: Tensor = self.layers(vectors)
        return mapped


def texts_of(inputs: TermInputs) -> Tensor:
    """(I + 1, D) vectors of items' texts, zeros where there is none.

    Raises:
        InputError: there is not one for each item.
    """
    texts = inputs.features["item_vectors"]
    if texts.ndim != 2 or len(texts) != inputs.items + 1:
        raise InputError(
            f"Alignment with texts needs a row of the feature item_vectors for padding and each of {inputs.items} "
            f"items, but was given {tuple(texts.shape)}."
        )
    return texts


def told_apart(vectors: Tensor, texts: Tensor, temperature: float, own: Tensor | None = None) -> Tensor:
    """(N,) -log (exp(cos(x, t_x) / τ) / Σ_j exp(cos(x, t_j) / τ)) of vectors (N, w) and texts (M, w).

    Args:
        own: (N,) the text of each vector; None: those of the same number.
    """
    scores = F.normalize(vectors, dim=1) @ F.normalize(texts, dim=1).T / temperature
    target = torch.arange(len(vectors), device=vectors.device) if own is None else own
    return F.cross_entropy(scores, target, reduction="none")

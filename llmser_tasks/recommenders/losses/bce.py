"""Binary cross-entropy, the paper's loss."""

from __future__ import annotations

from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import Loss
from llmser_tasks.recommenders import negatives as drawn
from llmser_tasks.recommenders.losses import LossFunction
from llmser_tasks.recommenders.losses.binary import balanced_binary
from llmser_tasks.recommenders.negatives import Negatives

DECLARED = Loss(title="BCE", place=3, negatives=1, shared=False)

make_sampler = drawn.own


def make_loss(config: Recommender, items: int) -> LossFunction:
    del config, items
    return bce


def bce(states: Tensor, positives: Tensor, negatives: Negatives, table: Tensor) -> Tensor:
    """Binary cross-entropy, LLMSeR Eq. 7: -log σ(s⁺) - Σ_k log(1 - σ(s⁻_k)), with (P, K) negatives per position.

    Scores are taken from log K on (see `balanced_binary`), which is 0 for the paper's one negative.
    """
    return balanced_binary(states, positives, negatives, table, 1.0)

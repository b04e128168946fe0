"""Generalised binary cross-entropy, gSASRec's loss."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import Loss
from llmser_tasks.recommenders import negatives as drawn
from llmser_tasks.recommenders.losses import LossFunction
from llmser_tasks.recommenders.losses.binary import balanced_binary
from llmser_tasks.recommenders.negatives import Negatives

DECLARED = Loss(title="gBCE", place=4, negatives=256, shared=False)

make_sampler = drawn.own


def make_loss(config: Recommender, items: int) -> LossFunction:
    return partial(gbce, calibration=config.calibration, others=items - 1)


def gbce(
    states: Tensor, positives: Tensor, negatives: Negatives, table: Tensor, *, calibration: float, others: int
) -> Tensor:
    """Generalised BCE (Petrov and Macdonald, gSASRec, RecSys 2023): -log σ(s⁺)^β - Σ_k log(1 - σ(s⁻_k)).

    With K of the I - 1 other items drawn, α = K / (I - 1) and β = α · (t · (1 - 1/α) + 1/α), which is 1 - t · (1 - α):
    t = 0 is BCE, t = 1 undoes the overconfidence that sampling brings. As -log σ(s)^β = β · softplus(-s), nothing
    overflows and no probability is formed. Like BCE's it is a sum over the K, where the paper divides by K + 1: the
    same to Adam. Scores are taken from log(K/β) on (see `balanced_binary`).

    Args:
        calibration: t, 0 … 1.
        others: I - 1.
    """
    share = min(1.0, negatives.items.shape[1] / max(1, others))  # α
    return balanced_binary(states, positives, negatives, table, 1 - calibration * (1 - share))

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from llmser_tasks.evaluation.metrics import METRICS, means, per_user

RANKS = np.array([1, 2, 3, 10, 11, 20, 21, 500], np.int32)


def test_hand_computed_cases() -> None:
    values = per_user(RANKS)
    assert tuple(values) == METRICS
    assert values["H@10"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert values["H@20"].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert values["N@10"] == pytest.approx([1, 0.63093, 0.5, 0.28906, 0, 0, 0, 0], abs=1e-5)
    assert values["N@20"][4:] == pytest.approx([0.27894, 0.22767, 0, 0], abs=1e-5)
    assert values["MRR"] == pytest.approx([1, 1 / 2, 1 / 3, 0.1, 1 / 11, 0.05, 1 / 21, 0.002])


@pytest.mark.parametrize("cut", [10, 20])
def test_ndcg_and_mrr_agree_with_an_independent_library(cut: int) -> None:
    items = 600
    scores = -np.tile(np.arange(items, dtype=float), (len(RANKS), 1))  # the item in column r has rank r + 1
    relevant = np.zeros((len(RANKS), items))
    relevant[np.arange(len(RANKS)), RANKS - 1] = 1
    ours = means(per_user(RANKS), np.ones(len(RANKS), bool))
    assert ours[f"N@{cut}"] == pytest.approx(ndcg_score(relevant, scores, k=cut))
    assert ours["MRR"] == pytest.approx(label_ranking_average_precision_score(relevant, scores))


def test_means_are_taken_over_the_group_alone() -> None:
    group = np.array([True, False, False, False, True, False, False, False])
    assert means(per_user(RANKS), group)["H@10"] == 0.5

from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from llmser_tasks.evaluation.metrics import METRICS, means, per_user
from llmser_tasks.methods.popularity import full_ranks
from llmser_tasks.sequences.histories import Histories

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


TREC = {"H@10": "success_10", "N@10": "ndcg_cut_10", "H@20": "success_20", "N@20": "ndcg_cut_20", "MRR": "recip_rank"}


def trec_eval(scores: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """Every user's metrics by NIST's trec_eval; `target` is the relevant item among each user's scored items.

    trec_eval puts the greater name first where scores are equal, so `target` loses to all others, which are `x…`.
    """
    asked = pytrec_eval.RelevanceEvaluator(
        {str(user): {"target": 1} for user in range(len(scores))}, {"success.10,20", "ndcg_cut.10,20", "recip_rank"}
    )
    found = asked.evaluate({str(user): items for user, items in enumerate(scores)})
    return {ours: np.array([found[str(user)][theirs] for user in range(len(scores))]) for ours, theirs in TREC.items()}


def test_every_metric_of_every_user_is_trec_evals_on_the_same_ranks() -> None:
    ranks = np.concatenate([RANKS, np.arange(1, 60), [999]]).astype(np.int32)
    placed = [
        {"target": -float(rank)} | {f"x{place}": -float(place) for place in range(1, 1001) if place != rank}
        for rank in ranks
    ]
    theirs = trec_eval(placed)
    for metric, values in per_user(ranks).items():
        assert values == pytest.approx(theirs[metric], abs=1e-12), metric


def test_ties_and_exclusions_are_those_that_trec_eval_sees() -> None:
    random = np.random.default_rng(0)
    users, items = 200, 80
    counts = np.concatenate([[0], random.integers(0, 20, items)])  # 20 values for 80 items: nearly all are tied
    contexts = Histories.of(range(users), [random.choice(items, 5, replace=False) + 1 for _ in range(users)])
    targets = np.array([random.choice(np.setdiff1d(np.arange(1, items + 1), row)) for row in contexts], np.int32)
    scored = [
        {f"x{item}" if item != target else "target": float(counts[item])
         for item in range(1, items + 1) if item not in seen}
        for target, seen in zip(targets, map(set, contexts), strict=True)
    ]  # fmt: skip
    ranks = full_ranks(counts, contexts, targets)
    theirs = trec_eval(scored)
    assert len(set(ranks)) > 10 and (ranks > 20).any() and (ranks <= 10).any()
    for metric, values in per_user(ranks).items():
        assert values == pytest.approx(theirs[metric], abs=1e-12), metric

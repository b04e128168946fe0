"""MELT: the base's model goes on to learn how head users look after a few items, and head items by a few histories; by
this tail users are served, and tail items have their vectors.

The branches are terms (`recommenders.terms.tail_users`, `tail_items`), whose files say where the released code is wrong
and what is done instead. They help each other: the states that items' vectors are made of are those that users are
served with. Tail users have at most T items when they are recommended to, whatever they had in training; of items,
those are head that are in the tables by group.

Beside next items all losses are walked through by the same users. (The released code zips three walks and ends with the
shortest.) Next items have the run's loss and its negatives. (There: 100 uniform ones that are drawn once.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.kinds import TERMS, Method
from llmser_tasks.core.run import Refs, Run
from llmser_tasks.methods.melt.settings import Melt
from llmser_tasks.methods.trained import Lessons
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.sequences.artefacts import threshold_of
from llmser_tasks.sequences.histories import Histories

DECLARED = Method(
    title="MELT",
    place=4,
    colour="fourteenth",
    trained=True,
    after_reference=True,
    terms=("tail-users", "tail-items"),
    ablations=("user-branch", "item-branch", "curriculum"),
)

USER_BRANCH, ITEM_BRANCH, CURRICULUM = DECLARED.ablations


def settings(config: RunConfig) -> dict[str, Any]:
    own = config.of(Melt)
    return {
        "melt_users": own.melt_users,
        "melt_items": own.melt_items,
        "melt_epochs": own.melt_epochs,
        "without": [part for part in DECLARED.ablations if config.without(part)],
    }


def lessons(run: Run, refs: Refs, histories: Histories) -> Lessons:
    """Next items, and each branch that has a weight and is not left out."""
    own, without = run.config.of(Melt), run.config.without
    users = 0.0 if without(USER_BRANCH) else own.melt_users
    items = 0.0 if without(ITEM_BRANCH) else own.melt_items
    terms = {name: weight for name, weight in zip(DECLARED.terms, (users, items), strict=True) if weight}
    longest = run.config.recommender.max_length
    features = {
        "tail_length": np.array(min(threshold_of(run, refs), longest - 1)),  # a model cannot count beyond that
        "curriculum_epochs": np.array(0 if without(CURRICULUM) else own.melt_epochs),
    }
    return Lessons(
        [
            WeightedTerm(histories),
            *(
                WeightedTerm(histories, np.full(len(histories), of, np.float32), name=name)
                for name, of in terms.items()
            ),
        ],
        {feature: features[feature] for name in terms for feature in TERMS[name].features},
    )


def prior(run: Run, refs: Refs) -> Histories:
    del run, refs
    return Histories.of([], [])

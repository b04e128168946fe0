"""What SRA-CL and each half of it bring on validation items, and what they cost, beside the base on the same users.

    python benchmarks/contrast.py --data FOLDER [--dataset amazon_beauty_2014] [--backbone sasrec] [--seeds 42,43,44]
        [--arms base,sra-cl,…] [--table ids] [--temperature 0.5] [--weight 0.1]

FOLDER holds `amazon_beauty_2014/`, or what --dataset names. An arm is the base, SRA-CL, or one of its two terms alone,
and is trained as a run would, on one thread; printed are the best validation NDCG@10 and the CPU seconds of an epoch
with its validation. Neighbours are those of a run by default. Test items are never read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from trainings import NEIGHBOURS, Arm, Data, begin, numbers, options, quality

from llmser_tasks.core.kinds import ITEM_TABLES, METHODS, REFERENCE, TERMS
from llmser_tasks.methods.sra_cl.settings import SraCl
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.texts.neighbours import neighbours

WHOLE = "sra-cl"
PARTS = METHODS[WHOLE].terms
ARMS = [REFERENCE, WHOLE, *PARTS]
USUAL = SraCl()


def found(data: Data, temperature: float) -> dict[str, NDArray[np.generic]]:
    """What the terms are made from."""
    users = data.user_neighbours()
    return {
        "user_neighbours": users.rows,
        "user_neighbour_cosines": users.cosines,
        "item_neighbours": np.maximum(neighbours(data.vectors, NEIGHBOURS).rows, 0),
        "contrast_replaced": np.array(USUAL.sra_replaced, np.float32),
        "contrast_temperature": np.array(temperature, np.float32),
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--table", choices=ITEM_TABLES, default=ITEM_TABLES.default)
    parser.add_argument("--seeds", type=numbers, default=[42, 43, 44])
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--temperature", type=float, default=USUAL.sra_temperature)
    parser.add_argument("--weight", type=float, default=USUAL.sra_view_contrast)
    given = parser.parse_args()
    data, config = begin(given, f", {given.table}, τ {given.temperature}, weight {given.weight}")
    known = found(data, given.temperature)
    weight = np.full(len(data.training), given.weight, np.float32)

    def arm(name: str) -> Arm:
        parts = {WHOLE: PARTS, REFERENCE: ()}.get(name, (name,))
        terms = [WeightedTerm(data.training, weight, name=part) for part in parts]
        features = {feature: known[feature] for part in parts for feature in TERMS[part].features}
        return Arm(name, given.table, terms=terms, features=features)

    quality(data, config, [arm(name) for name in given.arms.split(",")], given.seeds)


if __name__ == "__main__":
    main()

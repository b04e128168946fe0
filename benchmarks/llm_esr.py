"""What LLM-ESR costs, and what it and its ablations bring, beside the base on the same users.

    python benchmarks/llm_esr.py --data FOLDER [--dataset amazon_beauty_2014] [--backbone sasrec] [--rounds 5]
        [--train 42,43] [--arms base,llm-esr,co-view,…]
    python benchmarks/llm_esr.py ablations --data FOLDER [--dataset …] [--backbone …] [--seeds 42,43,44] [--arms …]

FOLDER holds `amazon_beauty_2014/`, or what --dataset names. The first compares CPU seconds: `trainings.py` says what a
round is, and for LLM-ESR encoding its teachers counts, too. The ratio is the median over rounds, with the least and the
greatest. --train also trains each arm with each of these seeds, as a run would, and prints the best validation NDCG@10;
test items are never read. An arm is the base, `text-start` or another item table, LLM-ESR, or a part that it is to be
without. Neighbours are those of a run by default.

`ablations` makes a run of the whole method and one without each of its parts, as `llmser run --without` would, and
prints mean ± sample sd of NDCG@10 over seeds, full ranking: validation items, then test items of three groups, each
with its difference to the whole method, and beside them what the paper and a reproduction with ten seeds found without
that part. Runs share artefacts, so an interrupted command goes on where it stopped.
"""

from __future__ import annotations

import argparse

import dumps
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from quality import figures
from sqlalchemy import text
from trainings import Arm, Data, begin, cost, numbers, options, quality

from llmser_tasks.core import environment
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import ITEM_TABLES, METHODS, REFERENCE
from llmser_tasks.methods.llm_esr.settings import LlmEsr
from llmser_tasks.recommenders import WeightedTerm
from llmser_tasks.runs.pipeline import run_all
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.engine import engine

WHOLE = "llm-esr"
ESR = METHODS[WHOLE]
DISTILLED = "self-distillation"
GROUPS = ("all", "tail users", "tail items")

# Test NDCG@10 among 100 negatives, SASRec on Yelp, without the part, less that of the whole method: the paper's, and
# those of its reproduction with ten seeds, github.com/AnkieFan/LLM-ESR. Of vectors that are trained themselves there is
# no such figure.
ELSEWHERE: dict[str, tuple[float, float]] = {
    "co-view": (-0.0392, -0.0323),
    "se-view": (-0.0170, -0.0273),
    DISTILLED: (-0.0087, -0.0042),
    "sharing": (-0.0050, -0.0042),
    "cross-attention": (-0.0048, -0.0060),
    "second-layer": (-0.0495, -0.0064),
    "pca-start": (-0.0224, -0.0150),
}


def arm_of(name: str, data: Data, near: NDArray[np.int32]) -> Arm:
    """The base, an item table, LLM-ESR, or a part that it is to be without."""
    if name in {REFERENCE, *ITEM_TABLES}:
        return Arm(name, ITEM_TABLES.default if name == REFERENCE else name)
    without = [] if name in {WHOLE, DISTILLED} else [name]
    if name == DISTILLED:
        return Arm(name, ESR.item_table, without)
    weight = np.full(len(data.training), LlmEsr().esr_distillation, np.float32)
    terms = [WeightedTerm(data.training, weight, name=term) for term in ESR.terms]
    return Arm(name, ESR.item_table, without, terms, {"user_neighbours": near})


def trained(warehouse: Warehouse, run_id: str) -> pd.DataFrame:
    """NDCG@10 of LLM-ESR, a row a seed: on validation items, and on test items of GROUPS."""
    of_seeds = figures(warehouse, run_id).loc[WHOLE]
    found = pd.DataFrame({group: of_seeds[group, "N@10"] for group in GROUPS})
    with engine(warehouse).connect() as connection:
        steps = connection.execute(
            text("select part, summary from steps where run_id = :run and step = :step"), {"run": run_id, "step": WHOLE}
        ).all()
    found.insert(0, "validation", pd.Series({int(part.split()[-1]): summary["ndcg"] for part, summary in steps}))
    return found


def ablations(arguments: argparse.Namespace, parts: list[str]) -> None:
    settings = dumps.values(arguments.data, arguments.dataset) | {
        "backbone": arguments.backbone,
        "methods": [REFERENCE, WHOLE],
        "seeds": arguments.seeds,
    }
    columns = ["validation", *GROUPS]
    print(f"{arguments.dataset}, {arguments.backbone}, seeds {', '.join(map(str, arguments.seeds))}, N@10\n")
    print("| without | " + " | ".join(columns) + " | paper | ten seeds |")
    print("| --- |" + " ---: |" * (len(columns) + 2), flush=True)
    with address.database() as warehouse:
        whole = None
        for part in ["", *parts]:
            own = settings | {"without": [part] if part else []}
            found = trained(warehouse, run_all(own, workspace=environment.workspace(), warehouse=warehouse))
            whole = found if whole is None else whole
            cells = []
            for column in columns:
                less = found[column].mean() - whole[column].mean()
                spread = f" ± {found[column].std():.4f}" if len(found) > 1 else ""
                cells.append(f"{found[column].mean():.4f}{spread}" + (f" ({less:+.4f})" if part else ""))
            cells += [f"{less:+.4f}" for less in ELSEWHERE[part]] if part in ELSEWHERE else ["", ""]
            print(f"| {part or 'nothing'} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("what", nargs="?", choices=["ablations"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", type=numbers, default=[])
    parser.add_argument("--seeds", type=numbers, default=[42, 43, 44])
    parser.add_argument("--arms")
    arguments = parser.parse_args()
    if arguments.what:
        ablations(arguments, arguments.arms.split(",") if arguments.arms else list(ESR.ablations))
        return
    data, config = begin(arguments)
    near = data.user_neighbours().rows
    names = arguments.arms or f"{REFERENCE},{DISTILLED},{WHOLE}"
    arms = [arm_of(name, data, near) for name in names.split(",")]
    if arguments.rounds:
        cost(data, config, arms, arguments.rounds)
    if arguments.train:
        quality(data, config, arms, arguments.train)


if __name__ == "__main__":
    main()

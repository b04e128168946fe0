"""What SRA-CL and each half of it bring on validation items, and what they cost, beside the base on the same users.

    python benchmarks/contrast.py --data FOLDER [--dataset amazon_beauty_2014] [--backbone sasrec] [--seeds 42,43,44]
        [--arms base,sra-cl,…] [--table ids] [--temperature 0.5] [--weight 0.1]

FOLDER holds `amazon_beauty_2014/`, or what --dataset names. An arm is the base, SRA-CL, or one of its two terms alone,
and is trained as a run would, on one thread; printed are the best validation NDCG@10 and the CPU seconds of an epoch
with its validation. Neighbours are those of a run by default. Test items are never read.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import dumps
import numpy as np
from item_tables import Data, read
from numpy.typing import NDArray

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import BACKBONES, ITEM_TABLES, METHODS, REFERENCE, TERMS
from llmser_tasks.methods.sra_cl.settings import SraCl
from llmser_tasks.recommenders import WeightedTerm, train
from llmser_tasks.texts.neighbours import neighbours
from llmser_tasks.texts.user_vectors import weighted_means

WHOLE, NEIGHBOURS = "sra-cl", 10
PARTS = METHODS[WHOLE].terms
ARMS = [REFERENCE, WHOLE, *PARTS]
USUAL = SraCl()


def found(data: Data, temperature: float) -> dict[str, NDArray[np.generic]]:
    """What the terms are made from."""
    users = neighbours(weighted_means(data.training, data.vectors), NEIGHBOURS)
    return {
        "user_neighbours": users.rows,
        "user_neighbour_cosines": users.cosines,
        "item_neighbours": np.maximum(neighbours(data.vectors, NEIGHBOURS).rows, 0),
        "contrast_replaced": np.array(USUAL.sra_replaced, np.float32),
        "contrast_temperature": np.array(temperature, np.float32),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=dumps.DATASETS, default="amazon_beauty_2014")
    parser.add_argument("--backbone", choices=BACKBONES, default=BACKBONES.default)
    parser.add_argument("--table", choices=ITEM_TABLES, default=ITEM_TABLES.default)
    parser.add_argument("--seeds", default="42,43,44")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--temperature", type=float, default=USUAL.sra_temperature)
    parser.add_argument("--weight", type=float, default=USUAL.sra_view_contrast)
    arguments = parser.parse_args()
    os.environ["LLMSER_THREADS"] = "1"
    data, config = read(arguments.data, arguments.dataset), Recommender(backbone=arguments.backbone)
    known = found(data, arguments.temperature)
    size = f"{len(data.training):,} users, {data.items:,} items"
    told = f"{BACKBONES[arguments.backbone].title}, {arguments.table}, τ {arguments.temperature}, {arguments.weight}"
    print(f"{arguments.dataset}: {size}; {told}\n")
    print("| | seed | best validation N@10 | epoch | epochs | CPU s an epoch |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    weight = np.full(len(data.training), arguments.weight, np.float32)
    for arm in arguments.arms.split(","):
        parts = {WHOLE: PARTS, REFERENCE: ()}.get(arm, (arm,))
        terms = [WeightedTerm(data.training), *(WeightedTerm(data.training, weight, name=part) for part in parts)]
        features = {name: known[name] for part in parts for name in TERMS[part].features}
        best = []
        for seed in map(int, arguments.seeds.split(",")):
            started = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                summary = train(
                    config,
                    terms,
                    data.items,
                    seed,
                    Path(folder),
                    watch=data.watch,
                    item_table=arguments.table,
                    features=data.features(arguments.table) | features,
                    device="cpu",
                )
            spent = (time.process_time() - started) / summary.epochs
            best.append(summary.ndcg)
            told = f"{seed} | {summary.ndcg:.4f} | {summary.best_epoch} | {summary.epochs} | {spent:.2f}"
            print(f"| {arm} | {told} |", flush=True)
        print(f"| {arm} | mean | {np.mean(best):.4f} | | | |", flush=True)


if __name__ == "__main__":
    main()

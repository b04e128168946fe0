"""Base and LLMSeR of every backbone on Beauty and Yelp, three seeds, beside popularity and co-occurrence.

    python benchmarks/quality.py --data FOLDER [--dataset yelp_s3rec] [--backbones sasrec,gru4rec,bert4rec] [--seeds 42]
        [--plain-inference] [--ties file]

FOLDER holds `amazon_beauty_2014/` and `yelp_s3rec/`. Histories are augmented once, by SASRec's candidates
and the embedding ranker; what the seeds vary are the recommenders. Artefacts and answers are kept, so an interrupted
run goes on where it stopped. --plain-inference leaves pseudo items to training: LLMSeR then recommends from the same
histories as the base. Prints one row a model and group, full ranking, test: mean ± sample sd over seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import dumps
import pandas as pd
from sqlalchemy import text

from llmser_tasks.core import environment
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import BACKBONES, COUNTERS, METHODS, USUAL
from llmser_tasks.ranker import child
from llmser_tasks.runs import pipeline
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.engine import engine

GROUPS = ("all", "tail users", "head users", "tail items", "head items")
METRICS = ("H@10", "N@10")


def figures(warehouse: Warehouse, run_id: str) -> pd.DataFrame:
    """One row per method and seed, a column per group and metric."""
    statement = text(
        "select method, seed, user_group, metric, value from metrics where run_id = :run and protocol = 'full'"
    )
    with engine(warehouse).connect() as connection:
        rows = pd.DataFrame(connection.execute(statement, {"run": run_id}).mappings().all())
    return rows.pivot(index=["method", "seed"], columns=["user_group", "metric"], values="value")


def show(label: str, rows: pd.DataFrame) -> None:
    cells = []
    for group in GROUPS:
        for metric in METRICS:
            values = rows[group, metric]
            spread = f" ± {values.std():.4f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.4f}{spread}")
    print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=dumps.DATASETS, default="amazon_beauty_2014")
    parser.add_argument("--backbones", default="sasrec,gru4rec,bert4rec")
    parser.add_argument("--seeds", default="42,43,44")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--methods", default=",".join(USUAL))
    parser.add_argument("--plain-inference", action="store_true")
    parser.add_argument("--ties", choices=("hash", "file"), default="hash")
    arguments = parser.parse_args()
    values = dumps.values(arguments.data, arguments.dataset) | {
        "epochs": arguments.epochs,
        "ties": arguments.ties,
        "methods": arguments.methods.split(","),
        "seeds": [int(seed) for seed in arguments.seeds.split(",")],
        "enhance_inference": not arguments.plain_inference,
    }
    workspace = environment.workspace()
    with address.database() as warehouse:
        first = pipeline.start(pipeline.new_run_id(values), values, workspace=workspace, warehouse=warehouse)
        with child.running(workspace.root / "embeddings") as endpoint:
            refs = pipeline.augment(first, endpoint)
        columns = [f"{group} {metric}" for group in GROUPS for metric in METRICS]
        print(f"\n{arguments.dataset}, seeds {arguments.seeds}\n\n| model | " + " | ".join(columns) + " |")
        print("| --- |" + " ---: |" * len(columns), flush=True)
        baselines_shown = False
        for backbone in arguments.backbones.split(","):
            own = values | {"backbone": backbone}
            run = pipeline.start(pipeline.new_run_id(own), own, workspace=workspace, warehouse=warehouse)
            pipeline.compare(run, refs)
            found = figures(warehouse, run.run_id)
            if not baselines_shown:
                for name in COUNTERS:
                    show(METHODS[name].title, found.loc[[name]].iloc[:1])  # nothing in it depends on a seed
                baselines_shown = True
            for name in run.config.methods:
                show(f"{BACKBONES[backbone].title}, {METHODS[name].title}", found.loc[[name]])
            compare_groups(warehouse, run.run_id)


def compare_groups(warehouse: Warehouse, run_id: str) -> None:
    """The paired test's verdict per group, as the run recorded it."""
    statement = text(
        "select method, user_group, difference, low, high, p_holm from comparisons"
        " where run_id = :run and protocol = 'full' and metric = 'N@10'"
    )
    with engine(warehouse).connect() as connection:
        for row in connection.execute(statement, {"run": run_id}):
            if row.user_group in GROUPS:
                print(
                    f"<!-- {row.method}, {row.user_group}: N@10 {row.difference:+.4f}"
                    f" [{row.low:+.4f}, {row.high:+.4f}], p after Holm {row.p_holm:.3f} -->",
                    flush=True,
                )


if __name__ == "__main__":
    main()

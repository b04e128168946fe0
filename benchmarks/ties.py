"""What the order of ties does to the figures, and how many ties there are.

    python benchmarks/ties.py --data FOLDER [--seeds 42,43,44] [--rules file,hash] [--shares-only]

FOLDER holds the four folders named in `dumps.py`. First the share of ties in each of them, and how many tied neighbours
ascend in item id under either rule: half of them where the order carries no information. Then Beauty, SASRec with its
defaults, augmented and trained under each rule: popularity, co-occurrence, base and LLMSeR, full ranking, test, mean
± sample sd over seeds. The two rules hold out different items, so their rows are figures of two tests. Artefacts and
answers are kept, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import dumps
import numpy as np
import pyarrow.parquet as pq
import quality

from llmser_tasks.core import environment
from llmser_tasks.core.kinds import COUNTERS
from llmser_tasks.ingest import ingest
from llmser_tasks.ranker import child
from llmser_tasks.runs import pipeline
from llmser_tasks.warehouse import address

RULES = ("file", "hash")
BEAUTY = "amazon_beauty_2014"


def shares(data: Path, rules: list[str]) -> None:
    """One line a dataset: how many neighbours and last items tie, and how many tied neighbours ascend in item id."""
    workspace = environment.workspace()
    columns = ["dataset", "neighbours that tie", "last items that tie", *(f"ascending, {rule}" for rule in rules)]
    print("| " + " | ".join(columns) + " |")
    print("| --- | ---: | ---: |" + " ---: |" * len(rules), flush=True)
    for name in dumps.DATASETS:
        ascending = []
        for rule in rules:
            dataset = environment.configuration(dumps.values(data, name) | {"ties": rule}).dataset
            folder = workspace.folder(ingest(workspace, dataset))
            ties = json.loads((folder / "report.json").read_text(encoding="utf-8"))["ties"]
            table = pq.read_table(folder / "interactions.parquet", columns=["user", "item", "timestamp"])
            user, item, time = (column.to_numpy() for column in table.columns)
            tied = (np.diff(user) == 0) & (np.diff(time) == 0)
            ascending.append(f"{(np.diff(item)[tied] > 0).mean():.1%}" if tied.any() else "")
        cells = [f"{ties['neighbours']:.1%}", f"{ties['last_items']:.1%}", *ascending]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def effect(data: Path, rules: list[str], seeds: list[int], epochs: int) -> None:
    """Beauty under each rule."""
    workspace = environment.workspace()
    columns = [f"{group} {metric}" for group in quality.GROUPS for metric in quality.METRICS]
    with address.database() as warehouse:
        for rule in rules:
            values = dumps.values(data, BEAUTY) | {"ties": rule, "seeds": seeds, "epochs": epochs}
            run = pipeline.start(pipeline.new_run_id(values), values, workspace=workspace, warehouse=warehouse)
            with child.running(workspace.root / "embeddings") as endpoint:
                refs = pipeline.augment(run, endpoint)
            pipeline.compare(run, refs)
            found = quality.figures(warehouse, run.run_id)
            print(f"\n{BEAUTY}, ties: {rule}, seeds {seeds}\n\n| model | " + " | ".join(columns) + " |")
            print("| --- |" + " ---: |" * len(columns), flush=True)
            for name in COUNTERS:
                quality.show(name, found.loc[[name]].iloc[:1])  # nothing in it depends on a seed
            quality.show("SASRec, base", found.loc[["base"]])
            quality.show("SASRec, LLMSeR", found.loc[["llmser"]])
            quality.compare_groups(warehouse, run.run_id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", default="42,43,44")
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--shares-only", action="store_true")
    arguments = parser.parse_args()
    rules = arguments.rules.split(",")
    shares(arguments.data, rules)
    if not arguments.shares_only:
        effect(arguments.data, rules, [int(seed) for seed in arguments.seeds.split(",")], arguments.epochs)


if __name__ == "__main__":
    main()

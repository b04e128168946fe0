"""What counts without learning, on Beauty or Yelp, full ranking, and what the vectors of titles cost.

    python benchmarks/counters.py --data FOLDER [--dataset yelp_s3rec] [--part validation]
        [--users 5000] [--ties file]

FOLDER holds `amazon_beauty_2014/` and `yelp_s3rec/`; --users takes so many users of Beauty, those of
`benchmarks/ablations.py`. Artefacts and vectors are kept in LLMSER_HOME; in a fresh one the
titles are embedded anew. Prints one row a counter.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import ablations
import dumps
import numpy as np

from llmser_tasks.core import environment
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import COUNTERS, METHODS, STEPS
from llmser_tasks.core.run import Run
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.evaluation.metrics import means, per_user
from llmser_tasks.evaluation.protocols import cases
from llmser_tasks.ingest import ingest
from llmser_tasks.methods.counting import Test
from llmser_tasks.sequences.artefacts import sequences, threshold_of
from llmser_tasks.sequences.catalogue import catalogue_size
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets

METRICS = ("H@10", "N@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=dumps.DATASETS, default="amazon_beauty_2014")
    parser.add_argument("--part", choices=("test", "validation"), default="test")
    parser.add_argument("--users", type=int)
    parser.add_argument("--ties", choices=("hash", "file"), default="hash")
    arguments = parser.parse_args()
    values = dumps.values(arguments.data, arguments.dataset)
    if arguments.users:
        values = ablations.values(arguments.data, arguments.users)
    run = Run("", environment.configuration(values | {"ties": arguments.ties}), environment.workspace(), Warehouse(""))
    made: dict[str, Artefact] = sequences(run.workspace, run.config.dataset, ingest(run.workspace, run.config.dataset))
    refs = {name: one.reference() for name, one in made.items()}
    needed = {need for name in COUNTERS for need in METHODS[name].needs}
    for name in sorted(needed):
        wall, cpu = time.perf_counter(), time.process_time()
        refs[name] = STEPS.load(name).make(run, refs).reference()
        print(f"{name}: {time.perf_counter() - wall:.1f} s wall, {time.process_time() - cpu:.1f} s CPU", flush=True)

    histories = Histories.of_run(run, refs)
    asked = cases(histories, read_targets(run.folder(refs, arguments.part) / "targets.parquet"))
    everybody, tail = np.ones(len(asked), bool), asked.n <= threshold_of(run, refs)
    groups = {"all": everybody, "tail": tail, "head": ~tail}
    print(f"\n{run.dataset}, {arguments.part}, {len(asked):,} users, {tail.sum():,} of them tail\n")
    columns = [f"{group} {metric}" for group in groups for metric in METRICS]
    print("| counter | " + " | ".join(columns) + " | wall s | CPU s |\n| --- |" + " ---: |" * (len(columns) + 2))
    for name in COUNTERS:
        folders = {need: run.folder(refs, need) for need in METHODS[name].needs}
        test = Test(histories, catalogue_size(run, refs), asked.contexts, asked.targets, {}, folders)
        wall, cpu = time.perf_counter(), time.process_time()
        values = per_user(METHODS.load(name).rank(test).full)
        took = f"{time.perf_counter() - wall:.1f} | {time.process_time() - cpu:.1f}"
        found = [f"{means(values, users)[metric]:.4f}" for users in groups.values() for metric in METRICS]
        print(f"| {METHODS[name].title} | " + " | ".join(found) + f" | {took} |", flush=True)


if __name__ == "__main__":
    main()

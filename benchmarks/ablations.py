"""The paper's Table 2: each part left out in turn, on a seeded sample of a dataset's users.

    python benchmarks/ablations.py --data FOLDER [--users 5000] [--seeds 42,43,44] [--only ccg,wd]

FOLDER holds `amazon_beauty_2014/`. Runs share artefacts and answers: the base recommenders are trained once per seed,
and a variant repeats only what its switch changes. Prints one row a variant, full ranking, test: mean ± sample
sd over seeds.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import text

from llmser_tasks.core import environment
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.runs.pipeline import run_all
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.engine import engine

VARIANTS = ["", "ccg", "snf", "arv", "rcs", "reason", "wd"]
COLUMNS = [("all", "H@10"), ("all", "N@10"), ("tail users", "H@10"), ("tail users", "N@10"), ("head users", "N@10")]


def sample_users(dump: Path, target: Path, users: int) -> None:
    """Copy the review lines of `users` users, chosen by a hash of their ids."""
    with gzip.open(dump, "rt", encoding="utf-8") as lines:
        parsed = [(json.loads(line)["reviewerID"], line) for line in lines]
    ranked = sorted({user for user, _ in parsed}, key=lambda user: hashlib.sha256(f"42 {user}".encode()).digest())
    kept = set(ranked[:users])
    with gzip.open(target, "wt", encoding="utf-8") as out:
        out.writelines(line for user, line in parsed if user in kept)


def values(data: Path, users: int) -> dict[str, Any]:
    """Settings of so many Beauty users, whose dump is written if it is not there yet."""
    source, folder = data / "amazon_beauty_2014", environment.home() / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    reviews = folder / f"reviews_Beauty_{users}.json.gz"
    if not reviews.exists():
        sample_users(source / "reviews_Beauty_5.json.gz", reviews, users)
    files = {"reviews": str(reviews), "items": str(source / "meta_Beauty.json.gz")}
    return {"dataset": "beauty-ablation", "source": "amazon-2014", **files, "user_core": 5, "item_core": 3}


def table(warehouse: Warehouse, run_id: str, method: str) -> pd.DataFrame:
    """One row per seed, a column per group and metric."""
    statement = text(
        "select seed, user_group, metric, value from metrics"
        " where run_id = :run and method = :method and protocol = 'full'"
    )
    with engine(warehouse).connect() as connection:
        rows = pd.DataFrame(connection.execute(statement, {"run": run_id, "method": method}).mappings().all())
    return rows.pivot(index="seed", columns=["user_group", "metric"], values="value")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--users", type=int, default=5000)
    parser.add_argument("--seeds", default="42,43,44")
    parser.add_argument("--only", default=",".join(VARIANTS))
    parser.add_argument("--backbone", default="sasrec")
    parser.add_argument("--epochs", type=int, default=200)
    arguments = parser.parse_args()

    with address.database() as warehouse:
        print("| variant | " + " | ".join(f"{group} {metric}" for group, metric in COLUMNS) + " |")
        print("| --- |" + " --- |" * len(COLUMNS), flush=True)
        base_shown = False
        for part in arguments.only.split(","):
            own = values(arguments.data, arguments.users) | {
                "backbone": arguments.backbone,
                "epochs": arguments.epochs,
                "seeds": [int(seed) for seed in arguments.seeds.split(",")],
                "without": [part] if part else [],
            }
            run_id = run_all(own, workspace=environment.workspace(), warehouse=warehouse)
            if not base_shown:
                print_row("base", table(warehouse, run_id, "base"))
                base_shown = True
            print_row(f"w/o {part.upper()}" if part else "LLMSeR", table(warehouse, run_id, "llmser"))


def print_row(label: str, figures: pd.DataFrame) -> None:
    cells = [f"{figures[column].mean():.4f} ± {figures[column].std():.4f}" for column in COLUMNS]
    print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

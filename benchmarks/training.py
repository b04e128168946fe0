"""Our training against RecTools, RePlay and RecBole: seconds of one core per epoch, and to the same quality.

    python benchmarks/training.py --data FOLDER [--dataset yelp_s3rec] [--only llmser,rectools] [--max-len 50,200]
        [--sampled] [--epochs 40] [--seed 43] [--batch-size 256]

FOLDER holds `amazon_beauty_2014/` and `yelp_s3rec/`. Every library trains the same SASRec (our default's width, layers,
heads, dropout) on the same users, items and sequences, in batches of 128 or --batch-size, in a process of its own that
has one core and one thread. Peers are installed on first use, each in an environment below --envs, at the versions
pinned in `peers/*.lock`; torch comes from wherever pip is set up to find it (`--find-links` in its configuration spares
the CUDA build).

Prints three tables. CPU seconds are user + system time of whole epochs; imports and data preparation stand apart. The
first epoch warms up and does not count; the figure is the median of the next three, or of fewer once 300 s are spent.
--sampled leaves out the losses over all items, which take the peers minutes to quarters of an hour an epoch, and --only
takes a library or one way to use it (replay-plain, replay-buckets, rectools-256). `peers/common.py` tells how a peer is
driven, `peers/run_*.py` how each is set up. The whole takes hours, nearly all of them the peers'.

--epochs and --cpu-seconds bound the third table's trainings, which have --seed and stop after 5 epochs without a better
validation NDCG@10; --epochs 0 leaves the table out, --race-only the other two. The test figures are those of the epoch
that is best on validation. --quick takes 2,000 users and one epoch after the warm-up, to see that everything runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dumps
import numpy as np
import torch
from floor import MODEL as SIZES
from floor import multiply_adds

from llmser_tasks.core import environment
from llmser_tasks.core.config import Recommender
from llmser_tasks.evaluation.metrics import per_user
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import read_targets

PEERS = Path(__file__).parent / "peers"
REPEATS = 3
ENOUGH = 300  # CPU seconds after which no further epoch is measured
PATIENCE = 5
MODEL = SIZES | {"dropout": Recommender().dropout_rate}


@dataclass(frozen=True)
class System:
    """A library, or a way to use it.

    Attributes:
        library: names its script, lock file and environment.
        strong: its own loss for quality: the default or what its authors recommend.
    """

    label: str
    library: str
    strong: str
    variant: str = ""
    losses: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What --only knows it by, besides its library's name."""
        return f"{self.library}-{self.variant or 'plain'}"


SYSTEMS = (
    System("LLMSeR", "llmser", "sampled-softmax", losses=("bce", "sampled-softmax", "cross-entropy")),
    System("RecTools", "rectools", "softmax", losses=("bce", "softmax")),
    System("RecTools, 64 negatives", "rectools", "sampled-softmax", "64"),
    System("RecTools, 256 negatives", "rectools", "sampled-softmax", "256"),
    System("RePlay", "replay", "sampled-softmax", losses=("bce", "sampled-softmax")),
    System("RePlay, buckets", "replay", "sampled-softmax", "buckets", losses=("bce", "sampled-softmax", "ce")),
    System("RecBole", "recbole", "ce", losses=("bce", "ce")),
)
RANKED_AT_ONCE = 256  # users; their scores of all items are in memory
FULL = {"softmax", "ce", "cross-entropy"}  # losses over all items


# Data ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """Training histories, validation and test targets, from our own artefacts.

    Attributes:
        held: (U,) the item behind each history, 0 where there is none.
        test: (U,) the item behind that, 0 where there is none.
    """

    histories: Histories
    items: int
    held: np.ndarray
    test: np.ndarray

    def write(self, path: Path, max_len: int) -> None:
        """The newest max_len + 1 training items of every user: max_len inputs, each with a next item."""
        kept = np.minimum(self.histories.lengths, max_len + 1)
        offsets = np.concatenate([[0], np.cumsum(kept)])
        source = np.repeat(self.histories.offsets[1:] - offsets[1:], kept) + np.arange(offsets[-1])
        np.savez(path, offsets=offsets, items=self.histories.items[source], held=self.held)


def prepare(folder: Path, name: str, users: int | None) -> Data:
    """Ingest and split a dataset (what is there already is kept); the first `users` users, or all."""
    store, made = dumps.cut(folder, name)
    histories = Histories.read(store.folder(made["training"]) / "histories.parquet")
    if users is not None:
        histories = histories.select(np.arange(min(users, len(histories))))
    found = []
    for part in ("validation", "test"):
        targets = read_targets(store.folder(made[part]) / "targets.parquet")
        rows = histories.rows_of(targets.users)
        found.append(np.zeros(len(histories), np.int32))
        found[-1][rows[rows >= 0]] = targets.items[rows >= 0]
    return Data(histories, dumps.items_of(store, made["catalogue"]), *found)


def ranks(data: Data, export: Path, test: bool) -> np.ndarray:
    """Full ranking of the validation or test items, history excluded, ties count against the model.

    Whoever had the item before is left out, as in our own evaluation. Items that a model does not know (NaN rows) come
    last; where one is the target, it has the last rank.

    Args:
        export: states (2U, d), of the histories and of these with the validation items behind them; table (I, d).
    """
    with np.load(export) as arrays:
        states, table = torch.from_numpy(arrays["states"]), torch.from_numpy(arrays["table"])
    targets = data.test if test else data.held
    first = len(data.histories) if test else 0
    unknown = table.isnan().any(1)
    table = table.nan_to_num(0.0).T
    found: list[np.ndarray] = []
    asked = np.flatnonzero(targets)
    for rows in np.split(asked, range(RANKED_AT_ONCE, len(asked), RANKED_AT_ONCE)):
        scores = states[first + rows] @ table
        target = torch.from_numpy(targets[rows].astype(np.int64) - 1)
        scores[:, unknown] = -torch.inf
        new = np.ones(len(rows), bool)
        for place, row in enumerate(rows):
            had = data.histories[row].astype(np.int64)
            if test and data.held[row]:
                had = np.append(had, data.held[row])
            new[place] = targets[row] not in had
            scores[place, torch.from_numpy(had) - 1] = -torch.inf
        below = (scores < scores.gather(1, target[:, None])).sum(1).numpy()
        found.append((data.items - below[new]).astype(np.int32))
    return np.concatenate(found)


@dataclass(frozen=True)
class Setup:
    """What all trainings have in common.

    Attributes:
        batch_size: users, of RecBole prefixes.
        envs: folder of the libraries' environments.
    """

    data: Data
    batch_size: int
    seed: int
    envs: Path


# Running a library ---------------------------------------------------------------------------------------------------


def interpreter(library: str, envs: Path) -> Path:
    """Python of the library's environment, which is made, or brought to its lock file, where need be."""
    if library == "llmser":
        return Path(sys.executable)
    lock, folder = PEERS / f"{library}.lock", envs / library
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"Installing {library} into {folder} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(lock)], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def epochs(setup: Setup, system: System, loss: str, max_len: int, count: int, export: bool) -> Iterator[dict[str, Any]]:
    """Train; yields what the library says when it is ready and after every epoch (exported: with "ndcg" and "test").

    Closing the generator ends the training. Where the process fails, its log goes to stderr and RuntimeError is raised.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        setup.data.write(folder / "data.npz", max_len)
        job = MODEL | {
            "data": str(folder / "data.npz"),
            "export": str(folder / "export.npz") if export else "",
            "items": setup.data.items,
            "max_len": max_len,
            "loss": loss,
            "variant": system.variant,
            "epochs": count,
            "batch_size": setup.batch_size,
            "seed": setup.seed,
        }
        if not export:
            job["negatives_from"] = "uniform"  # as the peers' are, where only time counts
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        python = str(interpreter(system.library, setup.envs))
        command = [python, "-W", "ignore", str(PEERS / f"run_{system.library}.py")]
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LLMSER_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with (folder / "log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [*command, str(folder / "job.json")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env=os.environ | one_thread,
                preexec_fn=on_one_core,
                encoding="utf-8",
            )
        assert process.stdin is not None and process.stdout is not None
        try:
            for text in process.stdout:
                line = json.loads(text)
                if "epoch" in line and export:
                    held, test = (per_user(ranks(setup.data, folder / "export.npz", test=t)) for t in (False, True))
                    line |= {"ndcg": float(held["N@10"].mean())}
                    line |= {"test": {metric: float(values.mean()) for metric, values in test.items()}}
                yield line
                if line.get("epoch") == count:
                    process.stdin.close()
                elif "epoch" in line:
                    process.stdin.write("go\n")
                    process.stdin.flush()
            if process.wait():
                sys.stderr.write((folder / "log").read_text(encoding="utf-8")[-5000:])
                raise RuntimeError(f"{system.label} with {loss} ended with status {process.returncode}")
        finally:
            process.kill()
            process.wait()


def on_one_core() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


# First table: seconds per epoch --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speed:
    """One row of the first table."""

    system: System
    loss: str
    max_len: int
    version: str
    torch: str
    prepared: float
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measure(setup: Setup, system: System, loss: str, max_len: int, repeats: int) -> Speed:
    """The epochs after the first, which warms up; where they are long fewer, and the first if it is alone."""
    running = epochs(setup, system, loss, max_len, 1 + repeats, export=False)
    ready = next(running)
    seconds: list[float] = []
    for line in running:
        seconds.append(line["cpu_s"])
        if sum(seconds) > ENOUGH:
            break
    running.close()
    counted = tuple(seconds[1:] or seconds)
    return Speed(system, loss, max_len, ready["version"], ready["torch"], ready["prepared_cpu_s"], counted)


def speed_table(setup: Setup, chosen: list[System], lengths: list[int], sampled: bool, repeats: int) -> list[Speed]:
    head = "max_len | loss | library | CPU s per epoch | range | users per CPU s | × ours | preparation, CPU s"
    print(f"\n| {head} |\n| ---: | --- | --- | ---: | --- | ---: | ---: | ---: |", flush=True)
    rows: list[Speed] = []
    for max_len in lengths:
        for system in chosen:
            for loss in system.losses:
                if sampled and loss in FULL:
                    continue
                rows.append(measure(setup, system, loss, max_len, repeats))
                print_speed(rows[-1], rows, len(setup.data.histories))
    return rows


def print_speed(row: Speed, rows: list[Speed], users: int) -> None:
    kind = "cross-entropy" if row.loss in FULL else row.loss
    ours = next((r for r in rows if (r.system.library, r.max_len, r.loss) == ("llmser", row.max_len, kind)), None)
    cells = [
        str(row.max_len),
        row.loss,
        f"{row.system.label} {row.version}",
        f"{row.median:.2f}",
        f"{min(row.seconds):.2f}–{max(row.seconds):.2f}",
        f"{users / row.median:,.0f}",
        f"{row.median / ours.median:.1f}" if ours else "",
        f"{row.prepared:.1f}",
    ]
    print(f"| {' | '.join(cells)} |", flush=True)


# Second table: the arithmetic floor -----------------------------------------------------------------------------------


def product_rate(rows: int, inner: int, columns: int) -> float:
    """Multiply-adds per second of float32 matrix products (rows, inner) × (inner, columns) on one thread, at best."""
    left, right = torch.rand(rows, inner), torch.rand(inner, columns)
    out = torch.empty(rows, columns)
    rates = []
    for _ in range(200):
        started = time.process_time()
        for _ in range(max(1, 2**28 // (rows * inner * columns))):
            torch.mm(left, right, out=out)
        done = max(1, 2**28 // (rows * inner * columns)) * rows * inner * columns
        rates.append(done / (time.process_time() - started))
    return float(np.quantile(rates, 0.9))


def floor_table(rows: list[Speed], data: Data) -> None:
    torch.set_num_threads(1)
    large, ours = product_rate(1024, 1024, 1024), product_rate(512, MODEL["dimension"], MODEL["dimension"])
    print(f"\nOne thread multiplies and adds {large / 1e9:.0f} G/s in a product of 1024³, {ours / 1e9:.0f} G/s in")
    print(f"512 × {MODEL['dimension']} by {MODEL['dimension']} × {MODEL['dimension']}; the floor counts the former.\n")
    print("| max_len | loss | G multiply-adds per epoch | floor, s | our epoch, CPU s | × the floor |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        if row.system.library == "llmser":
            count = multiply_adds(data.histories.lengths, data.items, row.loss, row.max_len)
            cells = f"{count / 1e9:.1f} | {count / large:.2f} | {row.median:.2f} | {row.median * large / count:.1f}"
            print(f"| {row.max_len} | {row.loss} | {cells} |")


# Third table: seconds to a quality ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Race:
    """After every epoch: validation NDCG@10, the CPU seconds of all epochs so far, and the test figures."""

    system: System
    ndcg: tuple[float, ...]
    seconds: tuple[float, ...]
    test: tuple[dict[str, float], ...]
    ended: str

    @property
    def best(self) -> int:
        """The epoch (from 0) with the best NDCG@10."""
        return int(np.argmax(self.ndcg))

    def until(self, quality: float) -> int | None:
        """The first epoch (from 0) that is as good."""
        return next((epoch for epoch, value in enumerate(self.ndcg) if value >= quality), None)


def race(setup: Setup, system: System, max_len: int, most: int, budget: float) -> Race:
    """Train until PATIENCE epochs brought nothing better, `most` epochs are run or `budget` CPU seconds are spent."""
    values: list[float] = []
    seconds: list[float] = []
    test: list[dict[str, float]] = []
    ended = "epochs"
    for line in epochs(setup, system, system.strong, max_len, most, export=True):
        if "epoch" not in line:
            continue
        values.append(line["ndcg"])
        seconds.append(line["cpu_s"] + (seconds[-1] if seconds else 0.0))
        test.append(line["test"])
        print(f"{system.label}, epoch {len(values)}: {values[-1]:.4f} after {seconds[-1]:.0f} s", file=sys.stderr)
        if len(values) - 1 - int(np.argmax(values)) >= PATIENCE:
            ended = "patience"
            break
        if seconds[-1] > budget:
            ended = "budget"
            break
    return Race(system, tuple(values), tuple(seconds), tuple(test), ended)


def race_table(setup: Setup, chosen: list[System], max_len: int, most: int, budget: float) -> None:
    """Each library with its strong loss; how soon ours is as good as its best epoch."""
    bounds = f"{PATIENCE} epochs without improvement, {most} epochs or {budget:.0f} CPU s"
    print(f"\nmax_len {max_len}, seed {setup.seed}; {bounds} end a training.\n")
    head = (
        "library, loss | best validation N@10 | epoch | CPU s until then | ended by"
        " | ours as good in epoch | CPU s | × faster | test H@10 | test N@10"
    )
    print(f"| {head} |\n| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    ours: Race | None = None
    for system in chosen:
        found = race(setup, system, max_len, most, budget)
        if system.library == "llmser":
            ours = found
        cells = [
            f"{system.label}, {system.strong}",
            f"{found.ndcg[found.best]:.4f}",
            str(found.best + 1),
            f"{found.seconds[found.best]:.0f}",
            found.ended,
        ]
        if ours is None or system.library == "llmser":
            cells += ["", "", ""]
        elif (epoch := ours.until(found.ndcg[found.best])) is None:
            cells += ["never", "", ""]
        else:
            ratio = found.seconds[found.best] / ours.seconds[epoch]
            cells += [str(epoch + 1), f"{ours.seconds[epoch]:.0f}", f"{ratio:.1f}"]
        cells += [f"{found.test[found.best][metric]:.4f}" for metric in ("H@10", "N@10")]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    libraries = list(dict.fromkeys(system.library for system in SYSTEMS))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=dumps.DATASETS, default="amazon_beauty_2014")
    parser.add_argument("--envs", type=Path, default=environment.home() / "benchmarks" / "peers")
    parser.add_argument("--only", default=",".join(libraries))
    parser.add_argument("--max-len", default="50,200")
    parser.add_argument("--sampled", action="store_true")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--cpu-seconds", type=float, default=1200)
    parser.add_argument("--race-only", action="store_true")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    chosen = [system for system in SYSTEMS if {system.library, system.name} & set(arguments.only.split(","))]
    lengths = [int(length) for length in arguments.max_len.split(",")]

    data = prepare(arguments.data, arguments.dataset, 2000 if arguments.quick else None)
    setup = Setup(data, arguments.batch_size, arguments.seed, arguments.envs.absolute())
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    print(f"{cpu}, one core, one thread; Python {platform.python_version()}, torch {torch.__version__}.")
    size = f"{len(data.histories):,} users, {data.items:,} items, {len(data.histories.items):,} training interactions"
    print(f"{arguments.dataset}: {size}.")
    print(f"SASRec {', '.join(f'{k} {v}' for k, v in MODEL.items())}; batches of {setup.batch_size}.")
    if not arguments.race_only:
        repeats = 1 if arguments.quick else REPEATS
        floor_table(speed_table(setup, chosen, lengths, arguments.sampled, repeats), data)
    if arguments.epochs:
        most = 2 if arguments.quick else arguments.epochs
        race_table(setup, chosen, lengths[0], most, arguments.cpu_seconds)


if __name__ == "__main__":
    main()

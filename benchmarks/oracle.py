"""What perfect pseudo items would bring: the ceiling of putting items before short histories.

    python benchmarks/oracle.py --data FOLDER [--dataset amazon_beauty_2014] [--backbone sasrec] [--seeds 42]
        [--arms 'base; true; true marked; …']

FOLDER holds `amazon_gift_cards_2018/`, or what --dataset names. Every training history loses its first items, up to
four, and keeps two or more: what is left is S_u, and everything is trained on it. The lost items are what a perfect
candidate generator, filter and scorer would find. Arms give them back, or other items in their place, as pseudo-prior
items, as LLMSeR does (never targets, also shown at inference):

    base                  S_u alone
    whole                 the histories as they were, lost items real again (targets, too): beyond what pseudo items do
    true                  the lost items, ω = 1
    true marked           the same with LLMSeR mended's mark
    random                as many random items, ω = 1
    ccg                   as many of CCG's first candidates, ω = 1
    ccg, perfect ω        the same, ω = how many of them are lost items, as a share
    filtered              those of CCG's candidates that are lost items (a perfect SNF), ω = 1 where there are any
    filtered marked       the same with the mark

Whoever's ω is 0 is shown S_u alone. CCG is trained on S_u back to front. Weights of head users do not decay. Trained
models are kept in $LLMSER_HOME/benchmarks/oracle, so an interrupted call goes on; delete it after a change of the code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import dumps
import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core import environment
from llmser_tasks.core.config import Recommender
from llmser_tasks.evaluation.metrics import per_user
from llmser_tasks.evaluation.protocols import Cases, cases
from llmser_tasks.evaluation.significance import PairedTest
from llmser_tasks.methods.held_out import share_of_users, split_last
from llmser_tasks.methods.llmser.dual_channel import dual_channel
from llmser_tasks.recommenders import Watch, WeightedTerm, load, ranks, top_k, train
from llmser_tasks.recommenders.load import DESCRIPTION
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import Targets, read_targets

LOST, LEFT = 4, 2  # items cut off at most, items left at least
POOL = 20  # candidates of CCG
SHORT = 3  # items of S_u, for the group of short histories

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Data:
    """
    Attributes:
        whole: training histories as they were.
        histories: S_u, what is left of them.
        lost: the first items, which were cut off; same rows.
    """

    whole: Histories
    histories: Histories
    lost: Histories
    validation: Targets
    test: Targets
    items: int
    config: Recommender
    kept: Path

    @classmethod
    def read(cls, folder: Path, name: str, backbone: str) -> Data:
        store, made = dumps.cut(folder, name)
        whole = Histories.read(store.folder(made["training"]) / "histories.parquet")
        validation, test = (
            read_targets(store.folder(made[part]) / "targets.parquet") for part in ("validation", "test")
        )
        items = dumps.items_of(store, made["catalogue"])
        cut = np.clip(whole.lengths - LEFT, 0, LOST)
        place = np.arange(len(whole.items)) - np.repeat(whole.offsets[:-1], whole.lengths)
        first = place < np.repeat(cut, whole.lengths)
        lost = Histories(whole.users, np.concatenate([[0], np.cumsum(cut)]), whole.items[first])
        left = Histories(whole.users, whole.offsets - lost.offsets, whole.items[~first])
        kept = environment.home() / "benchmarks" / "oracle" / f"{name}-{backbone}"
        return cls(whole, left, lost, validation, test, items, Recommender(backbone=backbone), kept)

    @cached_property
    def asked(self) -> Cases:
        """Nobody is tested on an item that they had, lost ones included, which are excluded with the rest."""
        return cases(self.whole, self.test)

    def pools(self, seed: int) -> Ints:
        """(U, POOL) CCG's candidates for what came before S_u, the likeliest first."""
        backwards = self.histories.reverse()
        held = share_of_users(self.histories, self.config.held_out_users, seed)
        sequences, watch = split_last(backwards, held)
        folder = self.trained(f"reverse {seed}", [WeightedTerm(sequences)], watch, seed)
        return top_k(load(folder), backwards, POOL, backwards)[0]

    def trained(self, name: str, terms: Sequence[WeightedTerm], watch: Watch, seed: int) -> Path:
        digest = hashlib.sha256(json.dumps([name, self.config.model_dump(mode="json")]).encode()).hexdigest()[:16]
        folder = self.kept / digest
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / DESCRIPTION).exists():
            train(self.config, terms, self.items, seed, folder, watch=watch)
        return folder


# Arms ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arm:
    """
    Attributes:
        pseudo: (U) what stands before S_u.
        omega: (U,) how far it is trusted.
    """

    pseudo: Histories
    omega: NDArray[np.float64]

    @classmethod
    def trusted(cls, pseudo: Histories) -> Arm:
        """Fully, where there is anything."""
        return cls(pseudo, (pseudo.lengths > 0).astype(float))

    def marked(self) -> Arm:
        return Arm(self.pseudo.marked(), self.omega)


def true(data: Data, seed: int) -> Arm:
    del seed
    return Arm.trusted(data.lost)


def random(data: Data, seed: int) -> Arm:
    """Items that somebody neither has nor lost."""
    draws = np.random.default_rng(seed)
    every = np.arange(1, data.items + 1)
    rows = [
        draws.choice(np.setdiff1d(every, own), count, replace=False)
        for own, count in zip(data.whole, data.lost.lengths.tolist(), strict=True)
    ]
    return Arm.trusted(Histories.of(data.whole.users, rows))


def ccg(data: Data, seed: int) -> Arm:
    """The likeliest next to v_1."""
    pools, counts = data.pools(seed), data.lost.lengths.tolist()
    return Arm.trusted(Histories.of(data.whole.users, [row[:k][::-1] for row, k in zip(pools, counts, strict=True)]))


def ccg_perfect(data: Data, seed: int) -> Arm:
    pseudo = ccg(data, seed).pseudo
    right = [np.isin(one, lost).mean() if len(one) else 0.0 for one, lost in zip(pseudo, data.lost, strict=True)]
    return Arm(pseudo, np.array(right))


def filtered(data: Data, seed: int) -> Arm:
    """In the order of CCG."""
    rows = [pool[np.isin(pool, lost)][::-1] for pool, lost in zip(data.pools(seed), data.lost, strict=True)]
    return Arm.trusted(Histories.of(data.whole.users, rows))


ARMS: dict[str, Callable[[Data, int], Arm] | None] = {
    "base": None,
    "true": true,
    "ccg": ccg,
    "filtered": filtered,
    "true marked": lambda data, seed: true(data, seed).marked(),
    "random": random,
    "whole": None,
    "ccg, perfect ω": ccg_perfect,
    "filtered marked": lambda data, seed: filtered(data, seed).marked(),
}


def measure(data: Data, name: str, seed: int) -> dict[str, Any]:
    """Per-user NDCG@10 and H@10 on test items, and what the arm's pseudo items are."""
    histories = data.whole if name == "whole" else data.histories
    make = ARMS[name]
    arm = make(data, seed) if make else Arm.trusted(Histories.of([], []))
    terms = [WeightedTerm(histories)]
    if make:
        enhanced = histories.after(arm.pseudo)
        terms = dual_channel(histories, enhanced, arm.omega, enhanced.lengths - histories.lengths)
    shown = arm.pseudo.select(arm.omega > 0)
    validation, asked = data.validation, data.asked
    watched, owned = (validation.inputs(part) for part in (histories.after(shown), data.whole))
    folder = data.trained(f"{name} {seed}", terms, Watch.of(watched, validation.items, owned), seed)
    between = data.test.contexts.select(data.test.contexts.rows_of(asked.contexts.users))
    own = histories.select(histories.rows_of(asked.contexts.users)).then(between)
    found = ranks(load(folder), own.after(shown), asked.targets, asked.contexts)
    truly = data.lost if make else arm.pseudo
    right = sum(int(np.isin(one, lost).sum()) for one, lost in zip(arm.pseudo.unmarked(), truly, strict=True))
    return {
        "figures": {metric: per_user(found)[metric] for metric in ("H@10", "N@10")},
        "users": float((arm.omega > 0).mean()) if len(arm.omega) else 0.0,
        "right": right / max(1, len(arm.pseudo.items)),
    }


def show(data: Data, found: dict[str, dict[int, dict[str, Any]]]) -> None:
    """One row an arm, each against the base over the same users, who are averaged over the seeds."""
    n = data.histories.lengths[data.histories.rows_of(data.asked.contexts.users)]
    groups = {"all": np.ones(len(n), bool), f"n ≤ {SHORT}": n <= SHORT}
    columns = [f"{group}: {what}" for group in groups for what in ("H@10", "N@10", "against base")]
    print("| arm | users with pseudo items | of these items true | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * (2 + len(columns)))
    for name, seeds in found.items():
        cells = [f"{fmean(one[what] for one in seeds.values()):.1%}" for what in ("users", "right")]
        for users in groups.values():
            cells += [spread(seeds, metric, users) for metric in ("H@10", "N@10")]
            ours, base = (ndcg(of, users) for of in (seeds, found["base"]))
            p = PairedTest.of(ours - base).p
            cells.append(f"{ours.mean() / base.mean() - 1:+.1%} (p {p:.2g})" if name != "base" else "")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def spread(seeds: dict[int, dict[str, Any]], metric: str, users: NDArray[np.bool_]) -> str:
    values = [float(one["figures"][metric][users].mean()) for one in seeds.values()]
    return f"{fmean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def ndcg(seeds: dict[int, dict[str, Any]], users: NDArray[np.bool_]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.mean([one["figures"]["N@10"][users] for one in seeds.values()], axis=0)
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=dumps.DATASETS, default="amazon_gift_cards_2018")
    parser.add_argument("--backbone", default="sasrec")
    parser.add_argument("--seeds", default="42")
    parser.add_argument("--arms", default="; ".join(ARMS))
    given = parser.parse_args()
    data = Data.read(given.data, given.dataset, given.backbone)
    print(
        f"{given.dataset}, {given.backbone}: {len(data.histories):,} users, {len(data.lost.items):,} of "
        f"{len(data.whole.items):,} training interactions cut off, of {int((data.lost.lengths > 0).sum()):,} users\n",
        flush=True,
    )
    arms = ["base", *(name.strip() for name in given.arms.split(";") if name.strip() != "base")]
    seeds = [int(seed) for seed in given.seeds.split(",")]
    show(data, {name: {seed: measure(data, name, seed) for seed in seeds} for name in arms})


if __name__ == "__main__":
    main()

"""Measure base, LLMSeR, popularity and co-occurrence on the test items, and recommend to every user.

A test user's context is the training history and the items up to the target, which is new to them. LLMSeR sees the
pseudo-prior items before it (`enhance_inference`). What is excluded is the real context alone: a pseudo item is no
interaction, so it may be recommended, and may be the target.

Recommendations are what a shop would serve next: they start from everything a user is known to have, validation and
test items included, and exclude it. Users without a training item (temporal split) get none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmser_tasks import recommenders
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import METHODS
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.workspace import Artefact, Workspace, write_json
from llmser_tasks.evaluation.groups import Mask, groups
from llmser_tasks.evaluation.metrics import METRICS, Floats, Ranks, means, per_user
from llmser_tasks.evaluation.protocols import FULL, Cases, append, cases, draw_negatives, uniform
from llmser_tasks.evaluation.significance import PairedTest, judged
from llmser_tasks.methods.counting import Counted, Test
from llmser_tasks.recommenders.load import modules_in
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import Targets, read_targets

TRAINED = {name: method.trained for name, method in METHODS.items() if method.trained}  # → artefact
COUNTERS = [name for name, method in METHODS.items() if not method.trained]
LONGEST_SHOWN = 30  # histories at least this long share the last bar of the length histogram

METRIC_ROWS = pa.schema(
    [
        ("model", pa.string()),
        ("seed", pa.int32()),
        ("protocol", pa.string()),
        ("user_group", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("users", pa.int32()),
    ]
)
COMPARISON_ROWS = pa.schema(
    [(name, pa.string()) for name in ("protocol", "user_group", "metric")]
    + [(name, pa.float64()) for name in ("base", "llmser", "difference", "low", "high", "p", "p_holm", "level")]
    + [("seeds", pa.int32()), ("stars", pa.string())]
)
RANK_ROWS = pa.schema(
    [
        ("model", pa.dictionary(pa.int8(), pa.string())),
        ("seed", pa.int32()),
        ("protocol", pa.dictionary(pa.int8(), pa.string())),
        ("user", pa.int32()),
        ("rank", pa.int32()),
    ]
)
RECOMMENDATION_ROWS = pa.schema(
    [("user", pa.int32()), ("items", pa.list_(pa.int32())), ("scores", pa.list_(pa.float32()))]
)


@dataclass(frozen=True)
class Ranking:
    """Ranks (U,) of one model, seed and protocol."""

    model: str
    seed: int
    protocol: str
    ranks: Ranks


@dataclass
class Paired:
    """Per-user metrics of base and LLMSeR in one protocol, summed over the seeds."""

    sums: dict[str, dict[str, Floats]] = field(default_factory=lambda: {"base": {}, "llmser": {}})

    def add(self, model: str, values: Mapping[str, Floats]) -> None:
        sums = self.sums[model]
        for metric, value in values.items():
            sums[metric] = sums[metric] + value if metric in sums else value

    def mean(self, model: str, metric: str, seeds: int) -> Floats:
        return self.sums[model][metric] / seeds


def evaluate(
    workspace: Workspace,
    dataset_name: str,
    config: RunConfig,
    *,
    training: Artefact,
    validation: Artefact,
    test: Artefact,
    catalogue: Artefact,
    pseudo: Artefact,
    models: Mapping[str, Artefact],
    tail_threshold: int,
    progress: Progress = silent,
) -> Artefact:
    """Write metrics, comparisons, ranks, recommendations (Parquet) and the report's facts (JSON).

    Args:
        models: `base/SEED` and `weighted/SEED` for every seed of the run.
        tail_threshold: T.

    Raises:
        InputError: a seed's model is missing, or the split left no test user.
    """
    seeds = config.evaluation.seeds
    missing = [f"{kind}/{seed}" for seed in seeds for kind in TRAINED.values() if f"{kind}/{seed}" not in models]
    if missing:
        raise InputError(f"Evaluation lacks the trained models {', '.join(missing)}; train them for every seed first.")

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.read(workspace.folder(training) / "histories.parquet")
        prior = Histories.read(workspace.folder(pseudo) / "pseudo.parquet")
        items, users = (
            pq.read_metadata(workspace.folder(catalogue) / name).num_rows for name in ("items.parquet", "users.parquet")
        )
        held_out = read_targets(workspace.folder(test) / "targets.parquet")
        asked = cases(histories, held_out)
        if not len(asked):
            raise InputError(
                "No user has a test item that is new to them; the dataset is too small for this split: "
                "lower the filters."
            )
        if not config.reliability.enhance_inference:
            prior = Histories.of([], [])

        counts = histories.counts(items)
        masks = groups(asked.n, asked.targets, counts, tail_threshold)
        trained = {
            (name, seed): workspace.folder(models[f"{kind}/{seed}"]) for seed in seeds for name, kind in TRAINED.items()
        }
        rankings = rank_all(asked, prior, histories, items, config, trained, progress)
        metrics, paired = measure(rankings, asked, masks, folder / "ranks.parquet")
        pq.write_table(pa.Table.from_pylist(metrics, METRIC_ROWS), folder / "metrics.parquet")
        comparisons = compare(paired, masks, len(seeds))
        pq.write_table(pa.Table.from_pylist(comparisons, COMPARISON_ROWS), folder / "comparisons.parquet")

        known = known_items(histories, read_targets(workspace.folder(validation) / "targets.parquet"), held_out)
        model = recommenders.load(trained["llmser", config.seed])
        best, scores = recommenders.top_k(model, known.after(prior), config.evaluation.recommendations, known, progress)
        recommended = write_recommendations(folder / "recommendations.parquet", known.users, best, scores)

        base = paired[FULL].mean("base", "N@10", len(seeds))
        facts = {
            "users": users,
            "items": items,
            "test_users": len(asked),
            "repeats": len(held_out) - len(asked),
            "tail_threshold": tail_threshold,
            "seeds": list(seeds),
            "groups": {name: int(mask.sum()) for name, mask in masks.items()},
            "lengths": by_length(histories.lengths, asked.n, base),
        }
        write_json(folder / "facts.json", facts)
        return {"test_users": len(asked), "recommended_users": recommended, "metrics": len(metrics)}

    return workspace.produce(
        "evaluation",
        dataset_name,
        write,
        inputs={"training": training, "validation": validation, "test": test, "catalogue": catalogue, "pseudo": pseudo}
        | dict(models),
        config={
            "evaluation": config.evaluation,
            "enhance_inference": config.reliability.enhance_inference,
            "tail_threshold": tail_threshold,
        },
        chosen=sorted({name for model in models.values() for name in modules_in(workspace.folder(model))})
        + [METHODS.module_of(name) for name in COUNTERS],
        seed=config.seed,
    )


def rank_all(
    asked: Cases,
    prior: Histories,
    training: Histories,
    items: int,
    config: RunConfig,
    trained: Mapping[tuple[str, int], Path],
    progress: Progress,
) -> Iterator[Ranking]:
    """Ranks of every model, seed and protocol, one after the other, so that memory holds few of them.

    The counters are not trained, so their full ranking is the same for every seed; only the negatives differ.
    """
    seeds, size = config.evaluation.seeds, config.evaluation.sampled_negatives
    known = append(asked.contexts, asked.targets)
    negatives = {seed: draw_negatives(known, items, size, seed) for seed in seeds}
    legacy = uniform(size)

    test = Test(training, items, asked.contexts, asked.targets, negatives)
    counted: dict[str, Counted] = {name: METHODS.load(name).rank(test, progress) for name in COUNTERS}
    for seed in seeds:
        for name, ranks in counted.items():
            yield Ranking(name, seed, FULL, ranks.full)
            yield Ranking(name, seed, legacy, ranks.sampled[seed])

    for done, ((name, seed), folder) in enumerate(trained.items()):
        progress(done, len(trained), "models", f"{name}, seed {seed}")
        model = recommenders.load(folder)
        seen = asked.contexts.after(prior) if name == "llmser" else asked.contexts
        full = recommenders.ranks(model, seen, asked.targets, asked.contexts)
        yield Ranking(name, seed, FULL, full)
        yield Ranking(name, seed, legacy, recommenders.sampled_ranks(model, seen, asked.targets, negatives[seed]))
    progress(len(trained), len(trained), "models")


def measure(
    rankings: Iterator[Ranking], asked: Cases, masks: Mapping[str, Mask], ranks_file: Path
) -> tuple[list[dict[str, Any]], dict[str, Paired]]:
    """Write the ranks as they come; return the metrics' rows and, per protocol, the sums to compare."""
    rows: list[dict[str, Any]] = []
    paired: dict[str, Paired] = {}
    with pq.ParquetWriter(ranks_file, RANK_ROWS) as writer:
        for ranking in rankings:
            writer.write_table(_rank_table(ranking, asked.contexts.users))
            values = per_user(ranking.ranks)
            if ranking.model in TRAINED:
                paired.setdefault(ranking.protocol, Paired()).add(ranking.model, values)
            for group, users in masks.items():
                what = {"model": ranking.model, "seed": ranking.seed, "protocol": ranking.protocol, "user_group": group}
                rows += [
                    what | {"metric": metric, "value": value, "users": int(users.sum())}
                    for metric, value in means(values, users).items()
                ]
    return rows, paired


def compare(paired: Mapping[str, Paired], masks: Mapping[str, Mask], seeds: int) -> list[dict[str, Any]]:
    """LLMSeR against base in every protocol, group and metric, over users, each user averaged over the seeds."""
    rows, tests = [], []
    for protocol, values in paired.items():
        for metric in METRICS:
            base, llmser = (values.mean(model, metric, seeds) for model in TRAINED)
            for group, users in masks.items():
                tests.append(PairedTest.of((llmser - base)[users]))
                rows.append(
                    {"protocol": protocol, "user_group": group, "metric": metric}
                    | {"base": float(base[users].mean()), "llmser": float(llmser[users].mean())}
                )
    return [row | said for row, said in zip(rows, judged(tests, [seeds] * len(tests)), strict=True)]


def known_items(training: Histories, validation: Targets, test: Targets) -> Histories:
    """Everything each user is known to have, oldest first: the training history and what follows, up to the test item.

    A user without a test item (temporal split) keeps what goes up to the validation item.
    """
    tested = append(test.contexts, test.items)
    validated = append(validation.contexts, validation.items)
    return training.then(tested).then(validated.select(tested.rows_of(validated.users) < 0))


def write_recommendations(
    path: Path, users: NDArray[np.int32], items: NDArray[np.int32], scores: NDArray[np.float32]
) -> int:
    """One row per user, best first, without padding; returns how many users got any."""
    known = items != 0
    offsets = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
    lists = (
        pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values[known])) for values in (items, scores)
    )
    pq.write_table(pa.table([pa.array(users), *lists], RECOMMENDATION_ROWS), path)
    return int(known.any(axis=1).sum())


def by_length(lengths: NDArray[np.int64], n: NDArray[np.int64], base: Floats) -> list[dict[str, Any]]:
    """Per n_u: training users, test users and the base's mean NDCG@10 over these (the paper's Figure 1)."""
    most = LONGEST_SHOWN
    users = np.bincount(np.minimum(lengths, most), minlength=most + 1)
    tested = np.bincount(np.minimum(n, most), minlength=most + 1)
    total = np.bincount(np.minimum(n, most), weights=base, minlength=most + 1)
    return [
        {
            "n": length,
            "users": int(users[length]),
            "test_users": int(tested[length]),
            "N@10": float(total[length] / tested[length]) if tested[length] else None,
        }
        for length in range(1, most + 1)
    ]


def _rank_table(ranking: Ranking, users: NDArray[np.int32]) -> pa.Table:
    def constant(value: str) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(np.zeros(len(users), np.int8), [value])

    seed = np.full(len(users), ranking.seed, np.int32)
    columns = [constant(ranking.model), seed, constant(ranking.protocol), users, ranking.ranks]
    return pa.table([column if isinstance(column, pa.Array) else pa.array(column) for column in columns], RANK_ROWS)

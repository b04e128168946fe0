"""Measure every method of a run on the test items, and recommend to every user.

A test user's context is the training history and the items up to the target, which is new to them. A method may show
its models more before it (LLMSeR its pseudo-prior items). What is excluded is the real context alone: a pseudo item is
no interaction, so it may be recommended, and may be the target.

Recommendations are what a shop would serve next: they start from everything a user is known to have, validation and
test items included, and exclude it. Users without a training item (temporal split) get none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmser_tasks import recommenders
from llmser_tasks.core.config import BEST
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import ADDITIONS, COUNTERS, METHODS, REFERENCE
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact, model_name
from llmser_tasks.core.workspace import Artefact, write_json
from llmser_tasks.evaluation.groups import COLD, Mask, groups
from llmser_tasks.evaluation.item_maps import write_maps
from llmser_tasks.evaluation.ladder import beside_reference, climb, ladder
from llmser_tasks.evaluation.metrics import METRICS, Floats, Ranks, means, per_user
from llmser_tasks.evaluation.protocols import FULL, Cases, append, cases, draw_negatives, uniform
from llmser_tasks.evaluation.significance import PairedTest, judged
from llmser_tasks.methods import adding
from llmser_tasks.methods.counting import Counted, Test
from llmser_tasks.methods.trained import Recipe
from llmser_tasks.recommenders import Added, Model
from llmser_tasks.recommenders.load import modules_in
from llmser_tasks.sequences.artefacts import threshold_of
from llmser_tasks.sequences.catalogue import catalogue_size
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import Targets, read_targets
from llmser_tasks.texts import item_vectors
from llmser_tasks.texts.vectors import ItemVectors

LONGEST_SHOWN = 30  # histories at least this long share the last bar of the length histogram

METRIC_ROWS = pa.schema(
    [
        ("method", pa.string()),
        ("seed", pa.int32()),
        ("protocol", pa.string()),
        ("user_group", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("users", pa.int32()),
    ]
)
COMPARISON_ROWS = pa.schema(
    [(name, pa.string()) for name in ("method", "reference", "protocol", "user_group", "metric")]
    + [(name, pa.float64()) for name in ("mean", "reference_mean", "difference", "low", "high", "p", "p_holm", "level")]
    + [("seeds", pa.int32()), ("stars", pa.string())]
)
RANK_ROWS = pa.schema(
    [
        ("method", pa.dictionary(pa.int8(), pa.string())),
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
    """Ranks (U,) of one method, seed and protocol."""

    method: str
    seed: int
    protocol: str
    ranks: Ranks


@dataclass
class Sums:
    """Per-user metrics of methods in one protocol, summed over the seeds: method → metric → (U,)."""

    sums: dict[str, dict[str, Floats]] = field(default_factory=dict)

    def add(self, method: str, values: Mapping[str, Floats]) -> None:
        sums = self.sums.setdefault(method, {})
        for metric, value in values.items():
            sums[metric] = sums[metric] + value if metric in sums else value

    def mean(self, method: str, metric: str, seeds: int) -> Floats:
        return self.sums[method][metric] / seeds


@dataclass(frozen=True)
class Measured:
    """A method's model of one seed, as it recommends.

    Attributes:
        folder: of the trained model.
        prior: what comes before a user's own items when it is shown them.
        addition, fitted: what is added to its scores, and the folder that says how much; None: nothing is.
    """

    folder: Path
    prior: Histories
    addition: str = ""
    fitted: Path | None = None

    def added(self, owned: Histories, model: Model) -> Added | None:
        """What is added for users who own these items."""
        return None if self.fitted is None else adding.added(self.addition, self.fitted, owned, model.device)


def evaluate(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Write metrics, comparisons, ranks, recommendations, maps of items (Parquet) and the report's facts (JSON).

    Recommendations are those of the method that readers are given (`publish`), with the run's first seed.

    Raises:
        InputError: a seed's model is missing, or the split left no test user.
    """
    config, seeds, tail_threshold = run.config, run.config.evaluation.seeds, threshold_of(run, refs)
    names = [model_name(method, seed) for seed in seeds for method in [*config.models, *config.methods]]
    if missing := [name for name in names if name not in refs]:
        raise InputError(f"Evaluation lacks the trained models {', '.join(missing)}; train them for every seed first.")
    models = {name: artefact(refs, name) for name in names}
    validation = {method: _validation(run, refs, method) for method in config.methods}
    chosen = best_of(validation) if config.evaluation.publish == BEST else config.evaluation.publish
    # What a method shows before a user's own items is the same whatever its item table and addition.
    own = dict.fromkeys(map(METHODS.without_parts, config.methods))
    priors = {method: Recipe.of(run, refs, method).prior() for method in own}
    counted = {need for counter in COUNTERS for need in METHODS[counter].needs}
    evaluated = config.evaluation.model_dump(include={"seeds", "recommendations", "sampled_negatives"}, mode="json")
    settings: dict[str, Any] = {
        "evaluation": evaluated,
        "methods": config.methods,
        "chosen": [chosen, config.evaluation.publish],
        "tail_threshold": tail_threshold,
    }

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.of_run(run, refs)
        held_out = read_targets(run.folder(refs, "test") / "targets.parquet")
        asked = cases(histories, held_out)
        if not len(asked):
            raise InputError(
                "No user has a test item that is new to them; the dataset is too small for this split: "
                "lower the filters."
            )
        measured = {
            (method, seed): _measured(run, models, method, seed, priors[METHODS.without_parts(method)])
            for seed in seeds
            for method in config.methods
        }
        counts = histories.counts(catalogue_size(run, refs))
        masks = groups(asked.n, asked.targets, counts, tail_threshold)
        rankings = rank_all(run, refs, asked, measured, progress)
        metrics, sums = measure(rankings, asked, masks, folder / "ranks.parquet")
        pq.write_table(pa.Table.from_pylist(metrics, METRIC_ROWS), folder / "metrics.parquet")
        comparisons = compare(sums, masks, len(seeds))
        pq.write_table(pa.Table.from_pylist(comparisons, COMPARISON_ROWS), folder / "comparisons.parquet")

        validated = read_targets(run.folder(refs, "validation") / "targets.parquet")
        known = known_items(histories, validated, held_out)
        served = measured[chosen, config.seed]
        model, count = recommenders.load(served.folder), config.evaluation.recommendations
        best, scores = recommenders.top_k(
            model, known.after(served.prior), count, known, progress, added=served.added(known, model)
        )
        recommended = write_recommendations(folder / "recommendations.parquet", known.users, best, scores)

        trained = METHODS.sorted(config.models)
        mapped = {name: run.workspace.folder(models[model_name(name, config.seed)]) for name in trained}
        ndcg = {method: sums[FULL].mean(method, "N@10", len(seeds)) for method in config.methods}
        facts = {
            "users": pq.read_metadata(run.folder(refs, "catalogue") / "users.parquet").num_rows,
            "items": catalogue_size(run, refs),
            "test_users": len(asked),
            "repeats": len(held_out) - len(asked),
            "tail_threshold": tail_threshold,
            "seeds": list(seeds),
            "methods": config.methods,
            "chosen": chosen,
            "chosen_by": "validation" if config.evaluation.publish == BEST else "name",
            "validation": validation,
            "groups": {name: int(mask.sum()) for name, mask in masks.items()},
            "lengths": by_length(histories.lengths, asked.n, ndcg[REFERENCE]),
            "rungs": climb(ladder(config.methods, beside_reference(chosen, validation)), ndcg, masks, len(seeds)),
            "item_maps": write_maps(folder, mapped, counts, config.seed, _texts(run, refs)),
        }
        write_json(folder / "facts.json", facts)
        return {
            "test_users": len(asked),
            "recommended_users": recommended,
            "metrics": len(metrics),
            "chosen": chosen,
            "validation": validation,
        }

    read = {"training", "validation", "test", "catalogue"} | counted | ({item_vectors.STEP} & set(refs))
    given_ = {name: artefact(refs, name) for name in sorted(read)}
    shown_before = {f"prior/{method}": prior.content() for method, prior in priors.items()}
    return run.workspace.produce(
        "evaluation",
        run.dataset,
        write,
        inputs={**given_, **models, **shown_before},
        config=settings,
        chosen=sorted(_modules(run, models)) + [METHODS.module_of(name) for name in COUNTERS],
        seed=config.seed,
    )


def _texts(run: Run, refs: Refs) -> ItemVectors | None:
    """The vectors of items' texts, where the run has them."""
    return ItemVectors.read(run.folder(refs, item_vectors.STEP)) if item_vectors.STEP in refs else None


def _measured(run: Run, models: Mapping[str, Artefact], method: str, seed: int, prior: Histories) -> Measured:
    folder = run.workspace.folder(models[model_name(METHODS.model_of(method), seed)])
    if not (addition := METHODS[method].addition):
        return Measured(folder, prior)
    return Measured(folder, prior, addition, run.workspace.folder(models[model_name(method, seed)]))


def _modules(run: Run, models: Mapping[str, Artefact]) -> set[str]:
    """The modules that the methods' files, models and additions are chosen by."""
    methods, seeds = run.config.methods, run.config.evaluation.seeds
    folders = [run.workspace.folder(models[model_name(name, seed)]) for name in run.config.models for seed in seeds]
    additions = {METHODS[name].addition for name in methods} - {""}
    return (
        {METHODS.module_of(name) for name in methods}
        | {ADDITIONS.module_of(name) for name in additions}
        | {name for folder in folders for name in modules_in(folder)}
    )


def _validation(run: Run, refs: Refs, method: str) -> float:
    """NDCG@10 of a method's models on validation items, mean over the seeds."""
    models = [artefact(refs, model_name(method, seed)) for seed in run.config.evaluation.seeds]
    return fmean(run.workspace.summary(model)["ndcg"] for model in models)


def best_of(validation: Mapping[str, float]) -> str:
    """The method with the highest validation metric; among equals the simplest, which comes first."""
    return max(validation, key=lambda method: validation[method])


def rank_all(
    run: Run, refs: Refs, asked: Cases, measured: Mapping[tuple[str, int], Measured], progress: Progress
) -> Iterator[Ranking]:
    """Ranks of every method, seed and protocol, one at a time, so that memory holds few of them.

    The counters are not trained, so their full ranking is the same for every seed; only the negatives differ.
    """
    items, evaluation = catalogue_size(run, refs), run.config.evaluation
    known = append(asked.contexts, asked.targets)
    negatives = {seed: draw_negatives(known, items, evaluation.sampled_negatives, seed) for seed in evaluation.seeds}
    legacy = uniform(evaluation.sampled_negatives)

    for name in COUNTERS:
        folders = {need: run.folder(refs, need) for need in METHODS[name].needs}
        test = Test(Histories.of_run(run, refs), items, asked.contexts, asked.targets, negatives, folders)
        counted: Counted = METHODS.load(name).rank(test, progress)
        for seed in evaluation.seeds:
            yield Ranking(name, seed, FULL, counted.full)
            yield Ranking(name, seed, legacy, counted.sampled[seed])

    for done, ((name, seed), one) in enumerate(measured.items()):
        progress(done, len(measured), "models", f"{METHODS[name].title}, seed {seed}")
        model = recommenders.load(one.folder)
        seen, added = asked.contexts.after(one.prior), one.added(asked.contexts, model)
        full = recommenders.ranks(model, seen, asked.targets, asked.contexts, added)
        yield Ranking(name, seed, FULL, full)
        sampled = recommenders.sampled_ranks(model, seen, asked.targets, negatives[seed], added)
        yield Ranking(name, seed, legacy, sampled)
    progress(len(measured), len(measured), "models")


def measure(
    rankings: Iterator[Ranking], asked: Cases, masks: Mapping[str, Mask], ranks_file: Path
) -> tuple[list[dict[str, Any]], dict[str, Sums]]:
    """Write the ranks as they come; return the metrics' rows and, per protocol, the trained methods' sums."""
    rows: list[dict[str, Any]] = []
    sums: dict[str, Sums] = {}
    with pq.ParquetWriter(ranks_file, RANK_ROWS) as writer:
        for ranking in rankings:
            writer.write_table(_rank_table(ranking, asked.contexts.users))
            values = per_user(ranking.ranks)
            if METHODS[ranking.method].trained:
                sums.setdefault(ranking.protocol, Sums()).add(ranking.method, values)
            for group, users in masks.items():
                what = {"method": ranking.method, "seed": ranking.seed, "protocol": ranking.protocol}
                rows += [
                    what | {"user_group": group, "metric": metric, "value": value, "users": int(users.sum())}
                    for metric, value in means(values, users).items()
                ]
    return rows, sums


def compare(sums: Mapping[str, Sums], masks: Mapping[str, Mask], seeds: int) -> list[dict[str, Any]]:
    """Every trained method against the reference in every protocol, group and metric, over users, each user averaged
    over the seeds; p is corrected over all of them. Cold items are left out: they are few, and counted in another
    group already.
    """
    rows, tests = [], []
    masks = {group: users for group, users in masks.items() if group != COLD}
    for protocol, of_methods in sums.items():
        for method in of_methods.sums:
            if method == REFERENCE:
                continue
            for metric in METRICS:
                reference, ours = (of_methods.mean(name, metric, seeds) for name in (REFERENCE, method))
                for group, users in masks.items():
                    tests.append(PairedTest.of((ours - reference)[users]))
                    rows.append(
                        {"method": method, "reference": REFERENCE, "protocol": protocol, "user_group": group}
                        | {"metric": metric, "mean": float(ours[users].mean())}
                        | {"reference_mean": float(reference[users].mean())}
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
    columns = [constant(ranking.method), seed, constant(ranking.protocol), users, ranking.ranks]
    return pa.table([column if isinstance(column, pa.Array) else pa.array(column) for column in columns], RANK_ROWS)

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from evaluated_world import ITEMS, SEEDS, USERS, T, Trained
from noted_run import changed

from llmser_tasks import recommenders
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import COUNTERS
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.evaluation.evaluate import best_of
from llmser_tasks.evaluation.groups import COLD
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.targets import Targets, read_targets, write_targets

METHODS = {"base", "llmser", *COUNTERS}


def folder(trained: Trained, config: RunConfig | None = None, **other: Artefact) -> Path:
    return trained.workspace.folder(trained.evaluated(config, **other))


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def test_metrics_of_every_model_seed_protocol_and_group(trained: Trained) -> None:
    metrics = rows(folder(trained) / "metrics.parquet")
    assert {row["method"] for row in metrics} == METHODS
    assert {row["protocol"] for row in metrics} == {"full", "uniform-5"}
    assert {row["seed"] for row in metrics} == set(SEEDS)
    groups = {row["user_group"]: row["users"] for row in metrics}
    assert groups["all"] == USERS - 1
    assert groups["tail users"] + groups["head users"] == USERS - 1
    assert groups["tail users"] == sum(n <= T for user, n in enumerate(trained.world.histories.lengths) if user != 5)
    key = ("method", "seed", "protocol", "user_group", "metric")
    assert len({tuple(row[name] for name in key) for row in metrics}) == len(metrics)


def test_metrics_follow_from_the_ranks(trained: Trained) -> None:
    made = folder(trained)
    ranks: dict[tuple[str, int, str], list[int]] = {}
    for row in rows(made / "ranks.parquet"):
        ranks.setdefault((row["method"], row["seed"], row["protocol"]), []).append(row["rank"])
    assert len(ranks) == len(METHODS) * len(SEEDS) * 2
    for row in rows(made / "metrics.parquet"):
        if row["user_group"] == "all" and row["metric"] == "H@10":
            of_users = ranks[row["method"], row["seed"], row["protocol"]]
            assert row["value"] == pytest.approx(np.mean([rank <= 10 for rank in of_users]))


def test_the_ring_is_learned_so_the_ranks_mean_something(trained: Trained) -> None:
    metrics = rows(folder(trained) / "metrics.parquet")
    mrr = {row["method"]: row["value"] for row in metrics if (row["user_group"], row["metric"], row["protocol"]) == ALL}
    assert mrr["cooccurrence"] > 2 * mrr["popularity"]


ALL = ("all", "MRR", "full")


def test_cold_items_have_metrics_and_are_in_no_comparison(trained: Trained) -> None:
    test = read_targets(trained.folder("test") / "targets.parquet")
    target = int(test.items[0])
    histories = trained.world.histories
    kept = histories.items != target
    ends = np.concatenate([[0], np.cumsum(kept)])[histories.offsets]

    def write(made: Path) -> dict[str, Any]:
        Histories(histories.users, ends, histories.items[kept]).write(made / "histories.parquet")
        return {"tail_threshold": T}

    training = trained.workspace.produce("cold-training", "tiny", write, inputs={}, config={})
    made = folder(trained, training=training)
    metrics = [row for row in rows(made / "metrics.parquet") if row["user_group"] == COLD]
    assert {row["method"] for row in metrics} == METHODS and {row["metric"] for row in metrics} >= {"H@10", "N@10"}
    facts = json.loads((made / "facts.json").read_text(encoding="utf-8"))
    assert {row["users"] for row in metrics} == {facts["groups"][COLD]} and facts["groups"][COLD] > 0
    compared = {row["user_group"] for row in rows(made / "comparisons.parquet")}
    assert compared == set(facts["groups"]) - {COLD}


def test_comparisons_average_each_user_over_the_seeds(trained: Trained) -> None:
    made = folder(trained)
    values = {"base": np.zeros(USERS - 1), "llmser": np.zeros(USERS - 1)}
    table = pq.read_table(made / "ranks.parquet").to_pandas()
    for model in values:
        for seed in SEEDS:
            chosen = table[(table.method == model) & (table.seed == seed) & (table.protocol == "full")]
            values[model] += 1 / chosen["rank"].to_numpy() / len(SEEDS)
    row = next(row for row in rows(made / "comparisons.parquet") if _place(row) == ALL)
    assert row["reference_mean"] == pytest.approx(values["base"].mean())
    assert row["mean"] == pytest.approx(values["llmser"].mean())
    assert row["difference"] == pytest.approx((values["llmser"] - values["base"]).mean())
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["p"] <= row["p_holm"] <= 1


def test_everybody_gets_recommendations_of_items_they_do_not_have(trained: Trained) -> None:
    recommended = Histories.read(folder(trained) / "recommendations.parquet")
    test = read_targets(trained.folder("test") / "targets.parquet")
    assert recommended.users.tolist() == list(range(USERS))
    later = {int(user): [*test.contexts[row], test.items[row]] for row, user in enumerate(test.users)}
    for user, items in zip(recommended.users, recommended, strict=True):
        known = [*trained.world.histories[user], *later.get(int(user), [])]
        assert len(items) == 4
        assert not set(items) & set(known)


def test_llmser_sees_pseudo_items_but_only_real_ones_are_excluded(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[Histories]] = {"contexts": [], "excluded": []}
    ranks = recommenders.ranks

    def spy(model: Any, contexts: Histories, targets: Any, exclude: Histories, added: Any) -> Any:
        seen["contexts"].append(contexts)
        seen["excluded"].append(exclude)
        return ranks(model, contexts, targets, exclude, added)

    monkeypatch.setattr(recommenders, "ranks", spy)
    changed = trained.config.model_copy(
        update={"evaluation": trained.config.evaluation.model_copy(update={"recommendations": 3})}
    )
    trained.evaluated(changed)
    pseudo = Histories.read(trained.folder("pseudo") / "pseudo.parquet")
    test = read_targets(trained.folder("test") / "targets.parquet")
    base, llmser = seen["contexts"][0], seen["contexts"][1]
    for row, user in enumerate(test.users):
        real = [*trained.world.histories[user], *test.contexts[row]]
        assert list(base[row]) == real
        assert list(llmser[row]) == [*pseudo[user], *real]
        assert list(seen["excluded"][1][row]) == real
        assert test.items[row] not in real


def test_pseudo_items_can_be_left_out_at_inference(trained: Trained) -> None:
    changed = trained.config.model_copy(
        update={"reliability": trained.config.reliability.model_copy(update={"enhance_inference": False})}
    )
    usual, without = (
        pq.read_table(folder(trained, config=config) / "ranks.parquet").to_pandas().query("protocol == 'full'")
        for config in (trained.config, changed)
    )
    same = (usual["rank"] == without["rank"]).groupby(usual["method"].astype(str)).all()
    assert same["base"] and all(same[counter] for counter in COUNTERS)
    assert not same["llmser"]


def test_a_second_time_nothing_is_computed(trained: Trained) -> None:
    first, second = trained.evaluated(), trained.evaluated()
    assert second.unchanged and second.content == first.content


def test_facts_hold_what_the_figures_need(trained: Trained) -> None:
    facts = json.loads((folder(trained) / "facts.json").read_text())
    lengths = trained.world.histories.lengths
    shown = {row["n"]: row["users"] for row in facts["lengths"] if row["users"]}
    assert shown == {int(n): int((lengths == n).sum()) for n in np.unique(lengths)}
    assert facts["items"] == ITEMS and facts["tail_threshold"] == T


def test_the_facts_have_what_each_part_brought_and_it_is_the_comparison_where_there_is_one_part(
    trained: Trained,
) -> None:
    made = folder(trained)
    rungs = json.loads((made / "facts.json").read_text(encoding="utf-8"))["rungs"]
    assert [(row["previous"], row["method"], row["user_group"]) for row in rungs] == [
        ("base", "llmser", "all"), ("base", "llmser", "tail users"),
    ]  # fmt: skip
    for rung in rungs:
        place = (rung["user_group"], "N@10", "full")
        compared = next(row for row in rows(made / "comparisons.parquet") if _place(row) == place)
        assert {name: rung[name] for name in ("mean", "difference", "p")} == {
            name: pytest.approx(compared[name]) for name in ("mean", "difference", "p")
        }
        assert rung["p_holm"] <= compared["p_holm"], "corrected over fewer"


def test_a_missing_model_is_named(trained: Trained) -> None:
    with pytest.raises(InputError, match="llmser/43"):
        trained.evaluated(**{"llmser/43": None})


def test_a_split_without_test_users_is_refused(trained: Trained) -> None:
    empty: Sequence[int] = []
    nobody = Targets(np.zeros(0, np.int32), Histories.of(empty, []), np.zeros(0, np.int32))

    def write(folder: Path) -> dict[str, Any]:
        write_targets(folder / "targets.parquet", nobody)
        return {}

    test = trained.workspace.produce("empty-test", "tiny", write, inputs={}, config={})
    with pytest.raises(InputError, match="No user has a test item"):
        trained.evaluated(test=test)


def _place(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["user_group"], row["metric"], row["protocol"]


def test_the_best_by_validation_is_chosen_and_of_equals_the_simplest() -> None:
    assert best_of({"base": 0.1, "llmser": 0.2}) == "llmser"
    assert best_of({"base": 0.2, "llmser": 0.2}) == "base"


def test_recommendations_are_those_of_the_chosen_method(trained: Trained) -> None:
    def of(publish: str) -> tuple[list[list[int]], dict[str, Any]]:
        made = folder(trained, changed(trained, "evaluation", publish=publish))
        facts: dict[str, Any] = json.loads((made / "facts.json").read_text())
        return [list(items) for items in Histories.read(made / "recommendations.parquet")], facts

    (base, of_base), (llmser, _), (best, of_best) = of("base"), of("llmser"), of("best")
    assert base != llmser
    assert (of_base["chosen"], of_base["chosen_by"]) == ("base", "name")
    validation = of_best["validation"]
    summaries = [trained.workspace.summary(trained.made[f"llmser/{seed}"])["ndcg"] for seed in SEEDS]
    assert validation["llmser"] == pytest.approx(np.mean(summaries))
    assert of_best["chosen"] == max(validation, key=lambda name: validation[name])
    assert of_best["chosen_by"] == "validation"
    assert best == (base if of_best["chosen"] == "base" else llmser)


def test_a_run_of_the_reference_alone_compares_nothing_and_recommends(trained: Trained) -> None:
    alone = changed(trained, "evaluation", methods=("base",), publish="best")
    made = folder(trained, alone, pseudo=None, reliability=None)
    assert {row["method"] for row in rows(made / "metrics.parquet")} == METHODS - {"llmser"}
    assert rows(made / "comparisons.parquet") == []
    assert json.loads((made / "facts.json").read_text(encoding="utf-8"))["rungs"] == []
    assert len(Histories.read(made / "recommendations.parquet")) == USERS

"""The search among a run's methods, settings and item tables, by validation items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from searched_world import prepared, ring
from tiny_world import World

from llmser_tasks.core import config
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import METHODS, QUESTION_STEPS, STEPS, TRAINED, chain
from llmser_tasks.core.progress import silent
from llmser_tasks.core.run import Made, Run
from llmser_tasks.core.workspace import DATA_SUFFIXES, Workspace
from llmser_tasks.methods import trained
from llmser_tasks.methods.searched import search
from llmser_tasks.methods.searched.halving import Plan
from llmser_tasks.methods.searched.outcome import FILE, Outcome
from llmser_tasks.methods.searched.settings import ADDED, Search
from llmser_tasks.methods.searched.space import families, listed, with_settings
from llmser_tasks.recommenders.loop import training


@pytest.fixture
def world(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    return ring(workspace)


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The epochs that are trained, as they are."""
    done: list[int] = []
    real = training._run_epoch

    def counted(*given: Any) -> float:
        done.append(given[5])
        return real(*given)

    monkeypatch.setattr(training, "_run_epoch", counted)
    yield done


def searched(run: Run, refs: Made) -> Outcome:
    return Outcome.read(run.workspace.folder(search.make(run, refs)))


def bytes_of(run: Run, made: Any) -> dict[str, bytes]:
    folder = run.workspace.folder(made)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in DATA_SUFFIXES}


# What comes of it ----------------------------------------------------------------------------------------------------


def test_a_better_way_is_found_and_trained_as_that_method_is(world: World) -> None:
    run, refs = prepared(world)
    made = search.make(run, refs)
    found = Outcome.read(run.workspace.folder(made))
    (reference,) = (row for row in found.tried if row["method"] == "base")
    best = found.tried[0]
    assert best["place"] == found.chosen and best["method"] != "base"
    assert best["ndcg"] > reference["ndcg"] + 0.02 and best["tail_ndcg"] is not None
    assert [row["ndcg"] for row in found.tried] == sorted((row["ndcg"] for row in found.tried), reverse=True)
    refs = refs | {"search": made.reference()}
    ours, theirs = (trained.train(run, refs, name, 42) for name in ("searched", best["method"]))
    assert ours.step == "searched/42" and bytes_of(run, ours) == bytes_of(run, theirs)
    assert run.workspace.summary(ours)["ndcg"] == best["ndcg"], "a trial is the training that it tries"
    assert {path.name for path in run.workspace.folder(made).iterdir()} == {FILE, "manifest.json"}


@pytest.mark.parametrize("budget", [2, 3, 6])
def test_the_budget_is_kept(world: World, epochs: list[int], budget: int) -> None:
    run, refs = prepared(world, search=str(budget))
    found = searched(run, refs)
    assert found.full == 9
    assert len(epochs) == sum(row["epochs"] for row in found.tried) <= budget * found.full


def test_hopeless_trials_are_stopped_early_and_promising_ones_are_not(world: World) -> None:
    run, refs = prepared(world, search="3")
    found = searched(run, refs)
    stopped = [row for row in found.tried if "others were better" in row["how"]]
    assert stopped and all(row["epochs"] < found.full for row in stopped)
    assert all(row["tail_ndcg"] is not None for row in stopped)
    assert found.tried[0]["how"] == "trained to its end"
    assert [rung["trials"] for rung in found.rungs] == sorted((r["trials"] for r in found.rungs), reverse=True)


@pytest.mark.parametrize("after", [4, 9, 11, 16, 22])
def test_a_killed_search_goes_on_where_it_stood(world: World, tmp_path: Path, epochs: list[int], after: int) -> None:
    run, refs = prepared(world, search="3")
    other = replace(run, workspace=Workspace(tmp_path / "undisturbed"))
    for name in ("training", "validation", "catalogue", "item-vectors"):
        copied = other.workspace.root / refs[name]["path"]
        copied.parent.mkdir(parents=True)
        copied.symlink_to(run.workspace.root / refs[name]["path"])
    whole = (other.workspace.folder(search.make(other, refs)) / FILE).read_bytes()
    every, told = epochs.copy(), 0
    epochs.clear()

    def killed(*given: Any) -> None:
        nonlocal told
        told += 1
        if told == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.make(run, refs, killed)
    assert len(epochs) == after
    assert (run.workspace.folder(search.make(run, refs)) / FILE).read_bytes() == whole
    assert sorted(epochs) == sorted(every), "nothing was trained twice"
    assert search.make(run, refs).unchanged and search.make(replace(run, run_id="two"), refs).unchanged


def test_minutes_are_minutes_of_training(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr(training.time, "monotonic", lambda: float(next(clock)))  # 4 s an epoch
    run, refs = prepared(world, search="1m")
    found = searched(run, refs)
    assert found.full == 9 and sum(row["epochs"] for row in found.tried) == 15


def test_people_are_told_which_trial_it_is(world: World) -> None:
    notes: list[tuple[int, int | None, str, str]] = []
    run, refs = prepared(world, search="3")
    search.make(run, refs, lambda *told: notes.append(told))  # type: ignore[arg-type]
    assert notes[0][1] is None and notes[0][3].startswith("trial 1, base: .")
    assert any(
        note.startswith("trial ") and " of 5, base + text start: " in note and note.endswith(" after 1 epoch")
        for *_, note in notes
    )
    assert [done for done, *_ in notes] == list(range(1, len(notes) + 1))
    assert all(total == 27 for _, total, *_ in notes[9:]) and len(notes) <= 27


def test_what_cannot_be_trained_says_why_and_the_others_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run, refs = prepared(world, search="4")
    real = trained.Recipe.train

    def train(self: trained.Recipe, *given: Any, **more: Any) -> Any:
        if self.method == "base+summed":
            raise InputError("These two do not go together.")
        return real(self, *given, **more)

    monkeypatch.setattr(trained.Recipe, "train", train)
    found = searched(run, refs)
    (refused,) = (row for row in found.tried if row["method"] == "base+summed")
    assert (refused["how"], refused["ndcg"], refused["epochs"]) == ("These two do not go together.", None, 0)
    assert found.tried[-1] is refused and found.tried[0]["method"] != "base"


# What is tried -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs_", [1, 10, 60, 200])
@pytest.mark.parametrize("full", [1, 2, 9, 40])
def test_a_plan_costs_no_more_than_it_may(epochs_: int, full: int) -> None:
    plan = Plan.within(epochs_ * full, full, least=1, most=50)
    assert plan.rungs[-1] == full and list(plan.rungs) == sorted(set(plan.rungs))
    assert plan.costs[-1] <= epochs_ * full and plan.shares[-1] == 1
    assert list(plan.sizes) == sorted(plan.sizes, reverse=True) and 1 <= plan.sizes[0] <= 50
    assert Plan.within(50 * full, full, least=1, most=50).sizes == (50,) * len(plan.rungs), "enough for all of them"


def test_the_list_begins_with_every_method_as_the_run_has_it_and_takes_turns() -> None:
    made = config.from_flat({"methods": ["base", "llmser", "llm-esr+content"], "search": "9"})
    every = listed(made, 42)
    assert [(one.method, dict(one.settings)) for one in every[:3]] == [("base", {}), ("llm-esr", {}), ("llmser", {})]
    assert [METHODS.without_parts(one.method) for one in every[3:9]] == 2 * ["base", "llm-esr", "llmser"]
    assert listed(made, 42) == every != listed(made, 43)
    assert len({(one.method, str(with_settings(made, one.settings))) for one in every}) == len(every)
    assert sum(one.method == "base+text-start" for one in every) == 1, "the base has no settings of its own to try"
    assert {one.method for one in every if one.method.startswith("llm-esr")} == {"llm-esr"}, "it has its own table"


def test_whatever_methods_there_are_what_is_tried_fits_and_asks_nothing_else() -> None:
    made = config.from_flat({"methods": [name for name in TRAINED if not METHODS.found(name)], "search": "9"})
    for name, of_family in families(made).items():
        assert of_family[0].method == name and not of_family[0].settings
        for one in of_family:
            other = with_settings(made, one.settings)
            assert {*one.remade} <= {*STEPS} - {*QUESTION_STEPS}
            assert other.augmentation.picks_asked == made.augmentation.picks_asked
            assert other.reliability.reason_pool == made.reliability.reason_pool
            assert other.llm == made.llm and other.dataset == made.dataset and other.texts == made.texts
            needed = chain([one.method], config.to_flat(made))
            assert [*needed] == [step for step in made.chain if step in needed]


def test_what_a_run_leaves_out_stays_out() -> None:
    every = {"methods": ["base", "llm-esr", "llmser"], "search": "9"}
    parts = ["cross-attention", "self-distillation", "wd"]
    plain, without = config.from_flat(every), config.from_flat(every | {"without": parts})
    assert {one.title(plain) for one in families(plain)["llm-esr"]} >= {"LLM-ESR, without cross-attention"}
    assert [one.title(without) for one in families(without)["llm-esr"]] == ["LLM-ESR"]
    assert not any("beta" in one.title(without) for one in families(without)["llmser"])
    assert any("beta" in one.title(plain) for one in families(plain)["llmser"])


def test_the_runs_chain_has_what_is_tried_and_the_search_last() -> None:
    plain, searching = (config.from_flat({"methods": ["base"], "search": budget}) for budget in (None, "9"))
    assert "search" not in plain.chain and [*searching.chain][-1] == "search"
    assert plain.methods == ["base"] and searching.methods == ["base", *ADDED]
    assert config.from_flat(config.to_flat(searching)) == searching
    every = config.from_flat({"methods": ["base", "llm-esr"], "search": "9"}).chain
    assert {"user-neighbours", "item-vectors", "near-texts"} < {*every} and "snf" not in every


@pytest.mark.parametrize("budget", ["0", "1", "8x", "-3", "0m", "1.5", "", "99999", 1, True])
def test_a_budget_that_is_none_is_refused_in_a_sentence(budget: object) -> None:
    with pytest.raises(InputError) as error:
        config.from_flat({"search": budget})
    assert str(error.value) == (
        f"Setting search (--search) cannot be {budget!r}: give a budget, as so many full trainings (2 to 10,000: 12) or"
        " minutes of training (1m to 10,000m: 30m)."
    )


@pytest.mark.parametrize("budget", ["2", "30m", 12, " 7 "])
def test_budgets(budget: object) -> None:
    assert config.from_flat({"search": budget}).of(Search).search == str(budget).strip()


@pytest.mark.parametrize("name", ["searched", "searched+content"])
def test_a_search_without_a_budget_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(InputError) as error:
        config.from_flat({"methods": ["base", name]})
    assert str(error.value) == (
        "The settings do not fit together: methods names searched, which needs a budget: add one with --search 12"
        " (trainings) or --search 30m (minutes), or take it out."
    )


def test_the_search_finds_the_item_table_so_nobody_names_one() -> None:
    assert "searched+text-start" not in METHODS and "searched+content" in METHODS
    with pytest.raises(InputError, match="name base"):
        config.from_flat({"methods": ["base", "searched+text-start"], "search": "9"})


def test_a_made_step_is_not_asked_to_search_without_a_budget(world: World) -> None:
    run, refs = prepared(world, search=None)
    with pytest.raises(InputError, match="A search needs a budget"):
        search.make(run, refs, silent)

"""Nothing up to α knows a validation or test item, and no model a test item: by the bytes, and by what the steps can
name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from endpoint_double import Double, llm, llm_server
from tiny_dumps import ITEMS, SMALL, Careers, FakeEncoder, careers, write_dumps

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import METHODS
from llmser_tasks.core.run import artefact
from llmser_tasks.core.workspace import DATA_SUFFIXES, Workspace
from llmser_tasks.evaluation.evaluate import COUNTERS
from llmser_tasks.methods.counting import Counted, Test
from llmser_tasks.runs import pipeline
from llmser_tasks.runs.pipeline import Made
from llmser_tasks.texts.encoder import Encoder

__all__ = ["llm", "llm_server"]

UP_TO_ALPHA = ("training", "catalogue", "reverse", "ccg", "pseudo", "forward", "rcs", "reliability")
TITLES = {"ccg": {"item-vectors"}}  # who may also know what items are called
DERIVED = {"reverse", "ccg", "pseudo", "forward", "rcs", "reliability"}  # these must not see held-out items


def permuted(people: Careers) -> dict[str, list[int]]:
    """Everybody's last two items handed on among users, each day's among themselves: the catalogue, every item's count
    and every user's length and times stay; no user's validation and test item stay both."""
    users, random = list(people), np.random.default_rng(1)
    while True:
        second, last = random.permutation(len(users)), random.permutation(len(users))
        mixed = {
            user: [*people[user][:-2], people[users[second[row]]][-2], people[users[last[row]]][-1]]
            for row, user in enumerate(users)
        }
        if all(mixed[user][-2:] != people[user][-2:] for user in users):
            return mixed


def last_permuted(people: Careers, users: Sequence[str]) -> dict[str, list[int]]:
    """Only these users' last items handed on among them, to whom they are new; nobody keeps theirs."""
    random, lasts = np.random.default_rng(2), [people[user][-1] for user in users]
    while unfit := [row for row, user in enumerate(users) if lasts[row] in people[user]]:
        for row, other in zip(unfit, random.integers(0, len(users), len(unfit)), strict=True):
            lasts[row], lasts[other] = lasts[other], lasts[row]
    handed = dict(zip(users, lasts, strict=True))
    return {user: [*items[:-1], handed.get(user, items[-1])] for user, items in people.items()}


def files(workspace: Workspace, refs: Made, name: str) -> dict[str, bytes]:
    folder = workspace.root / refs[name]["path"]
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix in DATA_SUFFIXES}


@pytest.mark.parametrize("other", [{}, {"pool_from": ["ccg", "titles"], "masked_in_pool": True, "asked_items": 4}])
def test_what_comes_after_training_changes_no_byte_up_to_alpha(
    tmp_path: Path, warehouse: Warehouse, llm: Double, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    monkeypatch.setattr(Encoder, "open", FakeEncoder.open)
    before = careers()
    worlds: list[tuple[Workspace, Made]] = []
    calls = []
    for name, people in (("before", before), ("after", permuted(before))):
        workspace = Workspace(tmp_path / name)
        values = SMALL | other | write_dumps(tmp_path / f"{name}-dumps", people)
        run = pipeline.start(name, values, workspace=workspace, warehouse=warehouse)
        llm.reset()
        worlds.append((workspace, pipeline.augment(run, llm.endpoint)))
        calls.append(len(llm.asked))

    (here, ours), (there, theirs) = worlds
    for name in UP_TO_ALPHA:
        made = files(here, ours, name)
        assert made, name
        assert made == files(there, theirs, name), f"{name} knows something of the held-out items"
        assert not theirs[name]["unchanged"]
    for name in ("ingest", "validation", "test"):
        assert files(here, ours, name) != files(there, theirs, name), f"{name} should differ"
    assert calls[0] > 0
    assert calls[1] == 0, "the second world asks the same questions, so the ledger answers them all"

    held_out = {refs[name]["content"] for _, refs in worlds for name in ("ingest", "validation", "test")}
    for workspace, refs in worlds:
        for name in DERIVED:
            inputs = json.loads((workspace.root / refs[name]["path"] / "manifest.json").read_text())["inputs"]
            assert set(inputs) <= {"training", "catalogue", "picks", *DERIVED} | TITLES.get(name, set()), name
            assert not held_out & set(inputs.values()), name


METHODS_LEARNED = ("base", "llmser", "llmser-mended")
MODELS = tuple(f"{method}/{seed}" for seed in (42, 43) for method in METHODS_LEARNED)
LEARNING = SMALL | {"methods": METHODS_LEARNED, "seeds": [42, 43], "epochs": 6, "patience": 1, "gate": None}


def trained(run: pipeline.Run, llm: Double) -> Made:
    """Everything up to the models, but not the figures."""
    refs = pipeline.augment(run, llm.endpoint)
    for seed in run.config.evaluation.seeds:
        for method in run.config.methods:
            refs = refs | pipeline.train(method, run, refs, seed)
    return refs


def learned(workspace: Workspace, refs: Made, name: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A model's bytes, and what its training came to: when it stopped, and how good it was where it looked."""
    summary = json.loads((workspace.root / refs[name]["path"] / "manifest.json").read_text())["summary"]
    return files(workspace, refs, name), {key: summary[key] for key in ("epochs", "best_epoch", "ndcg", "users")}


def names_no_test(workspace: Workspace, refs: Made) -> None:
    for name in MODELS:
        inputs = json.loads((workspace.root / refs[name]["path"] / "manifest.json").read_text())["inputs"]
        assert refs["test"]["content"] not in inputs.values(), name


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    monkeypatch.setenv("LLMSER_HOME", str(tmp_path))
    monkeypatch.delenv("LLMSER_INBOX", raising=False)
    monkeypatch.setattr(Encoder, "open", FakeEncoder.open)


def test_test_items_change_no_byte_of_a_model_a_counter_or_a_title_that_is_compared(
    tmp_path: Path, warehouse: Warehouse, llm: Double, light: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[Sequence[str]] = []
    embed = FakeEncoder.embed
    monkeypatch.setattr(
        FakeEncoder, "embed", lambda self, titles, *rest: embedded.append(titles) or embed(self, titles)
    )
    counted: list[bytes] = []
    for name in COUNTERS:
        module = METHODS.load(name)

        def counting(test: Test, progress: Any, rank: Any = module.rank) -> Counted:
            seen = test.training
            counted.append(seen.users.tobytes() + seen.offsets.tobytes() + seen.items.tobytes())
            return rank(test, progress)

        monkeypatch.setattr(module, "rank", counting)

    people = careers()
    worlds: list[tuple[Workspace, Made]] = []
    looked: list[tuple[list[Sequence[str]], list[bytes]]] = []
    for name, world in (("before", people), ("after", last_permuted(people, list(people)))):
        workspace = Workspace(tmp_path / name)
        values = LEARNING | write_dumps(tmp_path / f"{name}-dumps", world)
        run = pipeline.start(name, values, workspace=workspace, warehouse=warehouse)
        refs = trained(run, llm)
        pipeline.evaluate(run, refs)
        worlds.append((workspace, refs))
        looked.append((embedded[:], counted[:]))
        embedded.clear(), counted.clear()

    (here, ours), (there, theirs) = worlds
    for name in (*UP_TO_ALPHA, "validation"):
        assert files(here, ours, name) == files(there, theirs, name), name
    assert files(here, ours, "test") != files(there, theirs, "test")
    for name in MODELS:
        assert learned(here, ours, name) == learned(there, theirs, name), f"{name} knows something of the test items"
    assert all(looked[0]) and looked[0] == looked[1]
    for workspace, refs in worlds:
        names_no_test(workspace, refs)


def test_test_items_change_no_byte_of_a_model_that_a_refresh_goes_on_from(
    tmp_path: Path, warehouse: Warehouse, llm: Double, light: None
) -> None:
    people = careers()
    workspace = Workspace(tmp_path / "artefacts")
    where = {"workspace": workspace, "warehouse": warehouse}
    values = LEARNING | {"dataset": "tiny"} | write_dumps(tmp_path / "dumps", people)
    pipeline.run_all(values, run_id="former", endpoint=llm.endpoint, **where)

    new = np.random.default_rng(3)
    active = [user for user, items in people.items() if len(items) > 3][:6]  # each gets two items more
    grown = {
        user: [*items, *(int(i) for i in new.permutation(np.setdiff1d(range(1, ITEMS + 1), items))[:2])]
        if user in active
        else items
        for user, items in people.items()
    }
    runs = []
    for name, world in (("one", grown), ("two", last_permuted(grown, active))):
        dumps = write_dumps(tmp_path / f"{name}-dumps", world)
        knobs = values | dumps | {"incremental": True}
        runs.append(pipeline.start(name, knobs, **where))  # both start from the same run: neither is published
    ours, theirs = (trained(run, llm) for run in runs)
    assert "changes" in ours and files(workspace, ours, "test") != files(workspace, theirs, "test")
    for name in MODELS:
        assert learned(workspace, ours, name) == learned(workspace, theirs, name), name
        manifest = json.loads((workspace.root / ours[name]["path"] / "manifest.json").read_text())
        assert "start" in manifest["inputs"], f"{name} did not go on from the earlier one"
    names_no_test(workspace, ours)
    names_no_test(workspace, theirs)


def test_test_items_change_no_byte_of_a_search_or_of_what_it_found(
    tmp_path: Path, warehouse: Warehouse, llm: Double, light: None
) -> None:
    people = careers()
    found, models = [], []
    for name, world in (("before", people), ("after", last_permuted(people, list(people)))):
        workspace = Workspace(tmp_path / name)
        other = {"methods": ["base", "llmser", "llm-esr"], "seeds": [42], "search": "4"}
        values = LEARNING | other | write_dumps(tmp_path / f"{name}-dumps", world)
        run = pipeline.start(name, values, workspace=workspace, warehouse=warehouse)
        refs = pipeline.augment(run, llm.endpoint)
        folder = workspace.root / refs["search"]["path"]
        inputs = json.loads((folder / "manifest.json").read_text())["inputs"]
        assert not {refs[name]["content"] for name in ("test", "ingest")} & set(inputs.values())
        found.append((folder / "search.json").read_bytes())
        refs |= pipeline.train("searched", run, refs, 42)
        gamma = (workspace.root / refs["searched+content/42"]["path"] / "gamma.json").read_bytes()
        models.append([files(workspace, refs, "searched/42"), gamma])
    assert found[0] == found[1] and len(json.loads(found[0])["tried"]) > 3
    assert models[0] == models[1] and all(models[0])


UNPAID = (
    "item-vectors",
    "reverse",
    "prior-items",
    "user-vectors",
    "user-neighbours",
    "item-neighbours",
)  # what methods without questions are made of
SILENT = ("asrep", "llm-esr", "sra-cl", "cities", "melt", "rlmrec")  # methods that ask no LLM
WITHOUT_QUESTIONS = LEARNING | {"methods": ["base", *SILENT], "seeds": [42], "asrep_items": 3, "asrep_length": 6}


@pytest.fixture
def fake_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    monkeypatch.setattr(Encoder, "open", FakeEncoder.open)


def test_held_out_items_change_no_byte_of_what_methods_without_questions_are_made_of(
    tmp_path: Path, warehouse: Warehouse, llm: Double, fake_titles: None
) -> None:
    before = careers()
    worlds: list[tuple[Workspace, Made]] = []
    for name, people in (("before", before), ("after", permuted(before))):
        workspace = Workspace(tmp_path / name)
        values = WITHOUT_QUESTIONS | write_dumps(tmp_path / f"{name}-dumps", people)
        run = pipeline.start(name, values, workspace=workspace, warehouse=warehouse)
        worlds.append((workspace, pipeline.augment(run, llm.endpoint)))
    assert not llm.asked

    (here, ours), (there, theirs) = worlds
    assert files(here, ours, "test") != files(there, theirs, "test")
    for name in UNPAID:
        assert files(here, ours, name), name
        assert files(here, ours, name) == files(there, theirs, name), f"{name} knows something of the held-out items"
        inputs = here.manifest(artefact(ours, name))["inputs"]
        assert inputs.keys() <= {"training", "catalogue", "reverse", "item-vectors", "user-vectors"}, name


def test_test_items_change_no_byte_of_methods_without_questions_or_of_what_counters_are_given(
    tmp_path: Path, warehouse: Warehouse, llm: Double, fake_titles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, bytes, list[bytes]]] = []
    for name in COUNTERS:
        module = METHODS.load(name)

        def noting(test: Test, progress: Any, rank: Any = module.rank, name: str = name) -> Counted:
            seen = test.training
            counted = seen.users.tobytes() + seen.offsets.tobytes() + seen.items.tobytes()
            folders = [
                path.read_bytes()
                for folder in test.folders.values()
                for path in sorted(folder.iterdir())
                if path.suffix in DATA_SUFFIXES
            ]
            given.append((name, counted, folders))
            return rank(test, progress)

        monkeypatch.setattr(module, "rank", noting)

    people = careers()
    worlds: list[tuple[Workspace, Made]] = []
    for name, world in (("before", people), ("after", last_permuted(people, list(people)))):
        workspace = Workspace(tmp_path / name)
        values = WITHOUT_QUESTIONS | write_dumps(tmp_path / f"{name}-dumps", world)
        run = pipeline.start(name, values, workspace=workspace, warehouse=warehouse)
        refs = pipeline.augment(run, llm.endpoint)
        for method in run.config.methods:
            refs = refs | pipeline.train(method, run, refs, 42)
        pipeline.evaluate(run, refs)
        worlds.append((workspace, refs))

    (here, ours), (there, theirs) = worlds
    for name in (*UNPAID, *(f"{method}/42" for method in SILENT)):
        assert files(here, ours, name), name
        assert files(here, ours, name) == files(there, theirs, name), f"{name} knows something of the test items"
    for method in SILENT:
        one, other = (store.summary(artefact(of, f"{method}/42")) for store, of in worlds)
        assert one["ndcg"] == other["ndcg"]
    assert [name for name, *_ in given] == 2 * list(COUNTERS)
    assert given[: len(COUNTERS)] == given[len(COUNTERS) :]

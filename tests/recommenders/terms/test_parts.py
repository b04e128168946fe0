"""Trainings whose terms train something beside the model can be killed, repeated and shared out like any other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from teaching_world import CONFIG, ITEMS, VECTORS, log_of

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.kinds import TERMS
from llmser_tasks.core.workspace import write_json
from llmser_tasks.recommenders import Watch, WeightedTerm, load, train
from llmser_tasks.recommenders.loop.parallel import VARIABLE
from llmser_tasks.recommenders.parts import make_parts
from llmser_tasks.sequences.histories import Histories

EVERY: dict[str, Any] = {
    "tail_length": np.array(4),
    "curriculum_epochs": np.array(3),
    "item_vectors": VECTORS,
    "alignment_temperature": np.array(0.2, np.float32),
    "alignment_masked": np.array(0.3, np.float32),
}
TOGETHER = [("tail-users", "tail-items"), ("text-contrast",), ("text-reconstruction",)]


def fit(
    folder: Path, ring: Histories, watch: Watch, names: Sequence[str], config: Recommender = CONFIG, **given: Any
) -> Path:
    folder.mkdir(exist_ok=True)
    weights = np.full(len(ring), 0.3, np.float32)
    terms = [WeightedTerm(ring), *(WeightedTerm(ring, weights, name=name) for name in names)]
    features = {feature: EVERY[feature] for name in names for feature in TERMS[name].features}
    train(config, terms, ITEMS, 1, folder, watch=watch, features=features, device="cpu", **given)
    return folder


def unwatched() -> Watch:
    """All epochs are run, and the last is kept."""
    nobody = Histories.of([], [])
    return Watch(nobody, np.zeros(0, np.int32), nobody)


@pytest.mark.parametrize("names", TOGETHER, ids="-".join)
@pytest.mark.parametrize("averaging", [0.0, 0.5])
def test_killed_it_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, ring: Histories, names: Sequence[str], averaging: float
) -> None:
    def interrupt(done: int, *_: object, **__: object) -> None:
        if done == 2:
            raise KeyboardInterrupt

    config = CONFIG.model_copy(update={"averaging": averaging})
    with suppress(KeyboardInterrupt):
        fit(tmp_path / "killed", ring, unwatched(), names, config, progress=interrupt)
    assert len(log_of(tmp_path / "killed")) == 2
    killed, whole = (fit(tmp_path / name, ring, unwatched(), names, config) for name in ("killed", "whole"))
    assert len(log_of(killed)) == 4
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("names", TOGETHER, ids="-".join)
def test_two_processes_take_the_steps_of_one(
    tmp_path: Path, ring: Histories, watch: Watch, names: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    still = CONFIG.model_copy(update={"dropout": 0.0})
    alone = fit(tmp_path / "alone", ring, watch, names, still)
    monkeypatch.setenv(VARIABLE, "2")
    both = fit(tmp_path / "both", ring, watch, names, still)
    for one, other in zip(log_of(alone), log_of(both), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
        assert one["ndcg@10"] == pytest.approx(other["ndcg@10"], abs=2e-3)


def test_what_is_not_kept_is_not_written_and_what_is_kept_is_named(tmp_path: Path, ring: Histories) -> None:
    for names in TOGETHER:
        folder = fit(tmp_path / names[0], ring, unwatched(), names, CONFIG.model_copy(update={"epochs": 1}))
        with safe_open(folder / "model.safetensors", "np") as file:
            written = {name.split(".")[1] for name in file.keys() if name.startswith("parts.")}  # noqa: SIM118
        assert written == {"tail-users"} & set(names)
        assert set(load(folder, "cpu").parts) == written


def test_it_begins_from_a_model_that_has_none_and_the_first_weights_may_stay_the_best(
    tmp_path: Path, ring: Histories, watch: Watch
) -> None:
    plain = fit(tmp_path / "plain", ring, watch, [])
    useless = CONFIG.model_copy(update={"learning_rate": 1e-9, "epochs": 1})
    names = ["tail-users"]
    later = load(fit(tmp_path / "later", ring, watch, names, useless, start_from=plain), "cpu")
    assert (later.table == load(plain, "cpu").table).all() and not later.parts["tail-users"].map.weight.any()


def test_a_part_that_this_version_does_not_have_is_told(tmp_path: Path, ring: Histories) -> None:
    folder = fit(tmp_path / "model", ring, unwatched(), ["tail-users"], CONFIG.model_copy(update={"epochs": 1}))
    described = {"recommender": CONFIG.model_dump(mode="json"), "items": ITEMS, "item_table": "ids"}
    write_json(folder / "config.json", described | {"parts": ["tomorrow"]})
    with pytest.raises(StorageError, match="holds a model with a part of the term 'tomorrow', which this version"):
        load(folder, "cpu")


def test_a_missing_feature_is_told() -> None:
    with pytest.raises(
        InputError, match="text-contrast needs the feature item_vectors, which the training was not given"
    ):
        make_parts(["text-contrast"], 16, {})

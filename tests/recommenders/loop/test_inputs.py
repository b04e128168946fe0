"""What a training is given: whatever it depends on is in its signature, and reaches other processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders import Watch, WeightedTerm
from llmser_tasks.recommenders.loop.inputs import TrainingInputs
from llmser_tasks.sequences.histories import Histories


@pytest.fixture
def inputs(ring: Histories, watch: Watch, tmp_path: Path) -> TrainingInputs:
    weighted = WeightedTerm(ring.reverse(), np.full(len(ring), 0.5, np.float32), np.ones(len(ring), np.int64))
    terms = [WeightedTerm(ring), weighted]
    return TrainingInputs(Recommender(), terms, 30, 1, tmp_path, "cpu", watch, features={"titles": np.eye(31)})


def test_what_it_depends_on_is_in_its_signature(inputs: TrainingInputs, ring: Histories) -> None:
    first, second = inputs.terms
    assert second.weights is not None and second.context is not None
    others = [
        inputs,
        replace(inputs, seed=2),
        replace(inputs, item_table="another"),
        replace(inputs, features={"titles": np.eye(31) * 2}),
        replace(inputs, features={"names": np.eye(31)}),
        replace(inputs, terms=[first]),
        replace(inputs, terms=[second, first]),
        replace(inputs, terms=[first, replace(second, sequences=ring)]),
        replace(inputs, terms=[first, replace(second, weights=second.weights * 2)]),
        replace(inputs, terms=[first, replace(second, context=second.context * 2)]),
        replace(inputs, terms=[first, replace(second, name="another")]),
    ]
    assert len({other.signature for other in others}) == len(others)


def test_another_process_reads_what_was_written(inputs: TrainingInputs, tmp_path: Path) -> None:
    inputs.write(tmp_path)
    read = TrainingInputs.read(tmp_path)
    assert read.signature == inputs.signature
    assert [term.name for term in read.terms] == [term.name for term in inputs.terms]
    assert read.terms[0].weights is None and read.terms[0].context is None
    assert np.array_equal(read.features["titles"], inputs.features["titles"])

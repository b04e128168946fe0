"""Nothing up to α knows a validation or test item: by the bytes, and by what the steps can name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from endpoint_double import Double, llm, llm_server
from tiny_dumps import SMALL, Careers, FakeEncoder, careers, write_dumps

from llmser_tasks import pipeline
from llmser_tasks.pipeline import Made
from llmser_tasks.workspace import DATA_SUFFIXES, Workspace

__all__ = ["llm", "llm_server"]

UP_TO_ALPHA = ("training", "catalogue", "reverse", "ccg", "pseudo", "forward", "rcs", "reliability")
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


def files(workspace: Workspace, refs: Made, name: str) -> dict[str, bytes]:
    folder = workspace.root / refs[name]["path"]
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix in DATA_SUFFIXES}


def test_what_comes_after_training_changes_no_byte_up_to_alpha(
    tmp_path: Path, database_url: str, llm: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMSER_THREADS", "1")
    monkeypatch.setattr(pipeline, "Encoder", FakeEncoder)
    before = careers()
    worlds: list[tuple[Workspace, Made]] = []
    calls = []
    for name, people in (("before", before), ("after", permuted(before))):
        workspace = Workspace(tmp_path / name)
        values = SMALL | write_dumps(tmp_path / f"{name}-dumps", people)
        run = pipeline.start(name, values, workspace=workspace, database_url=database_url)
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
            assert set(inputs) <= {"training", "catalogue", "picks", *DERIVED}, name
            assert not held_out & set(inputs.values()), name

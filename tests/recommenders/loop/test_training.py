"""Training: it learns, it is reproducible, it stops early, and it survives a kill."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.threads import thread_count
from llmser_tasks.methods.llmser.dual_channel import dual_channel
from llmser_tasks.recommenders import Watch, WeightedTerm, load, ranks, train
from llmser_tasks.recommenders.load import modules_in
from llmser_tasks.recommenders.loop.checkpoints import CHECKPOINT
from llmser_tasks.recommenders.loop.training import _seeds
from llmser_tasks.sequences.histories import Histories

RING = 30


def run(
    config: Recommender, about: Histories | list[WeightedTerm], folder: Path, watch: Watch, seed: int = 42, **more: Any
) -> bytes:
    folder.mkdir(parents=True, exist_ok=True)
    terms = [WeightedTerm(about)] if isinstance(about, Histories) else about
    train(config, terms, RING, seed, folder, watch=watch, device="cpu", **more)
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("loss", ["sampled-softmax", "bce"])
def test_every_backbone_learns_the_ring(
    small: Recommender, ring: Histories, watch: Watch, tmp_path: Path, loss: str
) -> None:
    negatives = 4 if loss == "bce" else 20
    config = small.model_copy(update={"loss": loss, "negatives": negatives, "dropout": 0, "epochs": 20, "patience": 20})
    notes: list[str] = []
    summary = train(
        config,
        [WeightedTerm(ring)],
        RING,
        1,
        tmp_path,
        watch=watch,
        progress=lambda done, total, unit, note="": notes.append(note),
    )
    rank = ranks(load(tmp_path), watch.contexts, watch.targets, watch.exclude)
    assert (rank == 1).mean() > 0.5  # chance: 1 in 25
    assert summary.ndcg == pytest.approx(np.where(rank <= 10, 1 / np.log2(1.0 + rank), 0).mean())
    assert len(notes) == summary.epochs and "NDCG@10" in notes[-1]
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in log] == list(range(1, summary.epochs + 1))
    assert max(entry["ndcg@10"] for entry in log) == summary.ndcg == log[summary.best_epoch - 1]["ndcg@10"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "log.jsonl", "model.safetensors"]


def test_weights_of_zero_train_the_base_and_others_do_not(
    small: Recommender, ring: Histories, watch: Watch, tmp_path: Path
) -> None:
    pseudo = Histories.of(ring.users, [[(first - 2) % RING + 1] for first in (row[0] for row in ring)])
    alpha = np.linspace(0, 1, len(ring))
    small = small.model_copy(update={"epochs": 3})
    weighted = run(small, dual_channel(ring, ring.after(pseudo), alpha), tmp_path / "weighted", watch)
    base = run(small, ring, tmp_path / "base", watch)
    zero = run(small, dual_channel(ring, ring.after(pseudo), np.zeros(len(ring))), tmp_path / "zero", watch)
    assert weighted != base
    assert zero == base


def test_the_seed_decides_every_byte(small: Recommender, ring: Histories, watch: Watch, tmp_path: Path) -> None:
    config = small.model_copy(update={"epochs": 2})
    state = torch.random.get_rng_state()
    first = run(config, ring, tmp_path / "a", watch)
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's randomness is left alone
    torch.manual_seed(99)
    assert run(config, ring, tmp_path / "b", watch) == first
    assert run(config, ring, tmp_path / "c", watch, seed=43) != first


def test_every_epoch_of_every_seed_draws_anew() -> None:
    def draws(seed: int, epoch: int) -> list[int]:
        return list(itertools.islice(_seeds(seed, epoch), 3))

    assert draws(42, 1) == draws(42, 1)
    assert len({number for seed in (42, 43) for epoch in (1, 2) for number in draws(seed, epoch)}) == 12


def test_it_stops_after_patience_and_keeps_the_best(ring: Histories, tmp_path: Path) -> None:
    config = Recommender(dimension=16, learning_rate=1e-2, epochs=50, patience=2, dropout=0)
    wrong = Watch(ring, (ring.last() + 13) % RING + 1, ring)  # learning makes this worse
    summary = train(config, [WeightedTerm(ring)], RING, 1, tmp_path, watch=wrong)
    assert summary.epochs == summary.best_epoch + 2 < 50
    rank = ranks(load(tmp_path), wrong.contexts, wrong.targets, wrong.exclude)
    assert summary.ndcg == pytest.approx(np.where(rank <= 10, 1 / np.log2(1.0 + rank), 0).mean())


def test_nobody_is_watched_for_an_item_that_they_had_before() -> None:
    owned = Histories.of([1, 5, 6], [[4, 2], [3], [2, 2, 7]])
    shown = Histories.of([1, 5, 6], [[9, 4, 2], [2, 3], [9, 2, 2, 7]])
    watch = Watch.of(shown, np.array([2, 2, 9], np.int32), exclude=owned)
    assert watch.contexts.users.tolist() == watch.exclude.users.tolist() == [5, 6]
    assert watch.targets.tolist() == [2, 9]  # in what is shown it may be: a pseudo item is no interaction


def test_with_nobody_to_watch_it_runs_to_the_end(ring: Histories, tmp_path: Path) -> None:
    nobody = Histories.of([], [])
    config = Recommender(dimension=8, epochs=3, patience=1)
    summary = train(config, [WeightedTerm(ring)], RING, 1, tmp_path, watch=Watch(nobody, np.zeros(0, np.int32), nobody))
    assert (summary.epochs, summary.best_epoch, summary.ndcg) == (3, 3, 0.0)


def test_the_average_follows_the_weights_of_every_epoch(small: Recommender, ring: Histories, tmp_path: Path) -> None:
    nobody = Watch(Histories.of([], []), np.zeros(0, np.int32), Histories.of([], []))

    def weights(epochs: int, averaging: float) -> dict[str, torch.Tensor]:
        folder = tmp_path / f"{epochs} {averaging}"
        run(small.model_copy(update={"epochs": epochs, "averaging": averaging}), ring, folder, nobody)
        return load_file(folder / "model.safetensors")

    first, second = weights(1, 0), weights(2, 0)
    for name, average in weights(2, 0.75).items():
        torch.testing.assert_close(average, 0.75 * first[name] + 0.25 * second[name])


def test_users_with_one_item_or_none_do_no_harm(small: Recommender, tmp_path: Path) -> None:
    histories = Histories.of([1, 2, 3, 4], [[5], [], [1, 2, 3], [6, 7]])
    watch = Watch(histories, np.array([6, 1, 4, 8], np.int32), histories)
    config = small.model_copy(update={"epochs": 3})
    summary = train(config, [WeightedTerm(histories)], RING, 1, tmp_path, watch=watch)
    assert summary.users == 2
    assert all(torch.isfinite(p).all() for p in load(tmp_path).parameters())


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders import Watch, WeightedTerm
from llmser_tasks.recommenders.loop import training
from llmser_tasks.sequences.histories import Histories

folder = Path(sys.argv[1])
ring = Histories.read(folder / "ring.parquet")
config = Recommender.model_validate_json((folder / "settings.json").read_text())
epochs = []
whole = training._run_epoch

def one_epoch(*arguments):
    if len(epochs) == 2:  # in the third epoch, once its first batches have moved the weights
        model, optimiser, objective = arguments[:3]
        calls = []
        inner = type(objective).__call__
        def batch(self, *rest):
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(self, *rest)
        type(objective).__call__ = batch
    epochs.append(1)
    return whole(*arguments)

training._run_epoch = one_epoch
watch = Watch(ring, ring.last() % 30 + 1, ring)
training.train(config, [WeightedTerm(ring)], 30, 42, folder / "killed", watch=watch, device="cpu")
"""


def test_killed_and_resumed_equals_uninterrupted(ring: Histories, watch: Watch, tmp_path: Path) -> None:
    config = Recommender(dimension=16, batch_size=16, epochs=5)
    ring.write(tmp_path / "ring.parquet")
    (tmp_path / "settings.json").write_text(config.model_dump_json())
    killed = tmp_path / "killed"
    killed.mkdir()
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert process.returncode == -signal.SIGKILL
    assert (killed / CHECKPOINT).is_file()
    check_resumed(config, ring, watch, tmp_path)


def test_of_few_users_a_batch_has_128(ring: Histories, watch: Watch, tmp_path: Path) -> None:
    losses = []
    for batch_size in (None, 128, 256):
        config = Recommender(dimension=16, batch_size=batch_size, epochs=1)
        folder = tmp_path / str(batch_size)
        folder.mkdir()
        train(config, [WeightedTerm(ring)], 30, 42, folder, watch=watch, device="cpu")
        losses.append(json.loads((folder / "log.jsonl").read_text())["loss"])
    assert losses[0] == losses[1] != losses[2]


def test_every_backbone_resumes_where_it_was_interrupted(
    small: Recommender, ring: Histories, watch: Watch, tmp_path: Path
) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(done: int, total: int | None, unit: str, note: str = "") -> None:
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(small, ring, tmp_path / "killed", watch, progress=interrupt)
    check_resumed(small, ring, watch, tmp_path)


def check_resumed(config: Recommender, ring: Histories, watch: Watch, folder: Path) -> None:
    """Continue `folder`/killed after its second of five epochs and compare with a training that nobody disturbed."""
    killed, done = folder / "killed", []

    def note_epoch(epoch: int, total: int | None, unit: str, note: str = "") -> None:
        done.append(epoch)

    resumed = run(config, ring, killed, watch, progress=note_epoch)
    assert done == [3, 4, 5]  # the first two epochs were not run again
    assert resumed == run(config, ring, folder / "whole", watch)
    assert not (killed / CHECKPOINT).exists()
    assert len((killed / "log.jsonl").read_text().splitlines()) == 5


def test_a_checkpoint_of_other_data_or_a_damaged_one_is_not_continued(
    ring: Histories, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Recommender(dimension=8, epochs=2)
    monkeypatch.setattr("llmser_tasks.recommenders.loop.training.remove_checkpoint", lambda folder: None)
    run(config, ring, tmp_path / "a", watch, seed=1)
    monkeypatch.undo()
    monkeypatch.setenv("LLMSER_THREADS", "1")
    checkpoint = (tmp_path / "a" / CHECKPOINT).read_bytes()
    expected = run(config, ring, tmp_path / "whole", watch, seed=2)
    for name, content in (("other", checkpoint), ("damaged", checkpoint[:1000]), ("empty", b"")):
        (tmp_path / name).mkdir()
        (tmp_path / name / CHECKPOINT).write_bytes(content)
        assert run(config, ring, tmp_path / name, watch, seed=2) == expected


def test_a_folder_without_a_usable_model_is_told(ring: Histories, watch: Watch, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no usable model"):
        load(tmp_path)
    run(Recommender(dimension=8, epochs=1), ring, tmp_path, watch)
    assert load(tmp_path).items == RING
    (tmp_path / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(StorageError, match="no usable model"):
        load(tmp_path)


def test_a_model_of_an_earlier_version_or_of_an_unknown_item_table_is_told(
    ring: Histories, watch: Watch, tmp_path: Path
) -> None:
    run(Recommender(dimension=8, epochs=1), ring, tmp_path, watch)
    description = json.loads((tmp_path / "config.json").read_text())
    for given, told in (({}, "of an earlier version of LLMSeR"), ({"item_table": "gone"}, "the item table 'gone'")):
        changed = {name: value for name, value in description.items() if name != "item_table"} | given
        (tmp_path / "config.json").write_text(json.dumps(changed))
        for reader in (load, modules_in):
            with pytest.raises(StorageError, match=told):
                reader(tmp_path)


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMSER_THREADS")
    assert 1 <= thread_count() <= 8
    monkeypatch.setenv("LLMSER_THREADS", "3")
    assert thread_count() == 3
    monkeypatch.setenv("LLMSER_THREADS", "many")
    with pytest.raises(InputError, match="LLMSER_THREADS"):
        thread_count()

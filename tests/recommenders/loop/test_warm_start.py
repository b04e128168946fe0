"""Warm start: what an earlier model knew of an item follows the item's id, wherever its number moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.recommenders import Watch, WeightedTerm, load, train
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.checkpoints import CHECKPOINT, save_description, save_weights
from llmser_tasks.recommenders.loop.warm_start import begin_from
from llmser_tasks.recommenders.model import Model
from llmser_tasks.sequences.histories import Histories

RING = 30
OLD = [f"B{number:02}" for number in range(RING)]


def matched(new: list[str]) -> NDArray[np.int64]:
    """(I + 1,) the number that each item of a new catalogue has among OLD."""
    return np.array([0, *(OLD.index(one) + 1 if one in OLD else 0 for one in new)])


def fresh(config: Recommender, items: int, seed: int) -> Model:
    torch.manual_seed(seed)
    return make_model(config, items)


@pytest.fixture
def earlier(small: Recommender, tmp_path: Path) -> Path:
    """Folder of an earlier model; its weights are as random as a trained one's would be."""
    folder = tmp_path / "earlier"
    folder.mkdir()
    model = fresh(small, RING, seed=1)
    with torch.no_grad():
        model.item_table.all().mul_(5)  # longer than at first
    save_weights(folder, model)
    save_description(folder, small, RING, {})
    return folder


def others(model: Model) -> dict[str, Tensor]:
    """All weights but the item table."""
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("item_table.")}


def test_with_all_items_known_it_is_the_earlier_model(small: Recommender, earlier: Path, tmp_path: Path) -> None:
    for rows in (None, matched(OLD)):
        model = fresh(small, RING, seed=2)
        begin_from(model, earlier, rows)
        for name, tensor in load(earlier, "cpu").state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor), name


def test_added_and_removed_items(small: Recommender, earlier: Path, tmp_path: Path) -> None:
    ids = ["A00", *OLD[5:], "Z99"]  # five are gone, a new one comes first and moves all the others
    model, random = fresh(small, len(ids), seed=2), fresh(small, len(ids), seed=2)
    begin_from(model, earlier, matched(ids))
    old = load(earlier, "cpu")
    assert torch.equal(model.table[2:-1], old.table[6:])
    new = [1, len(ids)]
    torch.testing.assert_close(F.normalize(model.table[new]), F.normalize(random.table[new]))
    assert model.table[new].norm(dim=1).mean().item() == pytest.approx(old.table[6:].norm(dim=1).mean().item())
    assert not model.table[0].any()
    begin_from(stranger := fresh(small, 2, seed=2), earlier, matched(["x", "y"]))
    assert torch.equal(stranger.table, fresh(small, 2, seed=2).table)
    for name, tensor in others(old).items():
        assert torch.equal(model.state_dict()[name], tensor), name
    tokens, lengths = torch.tensor([[2, 9, 4]]), torch.tensor([3])
    shown = model.eval().encode(tokens, lengths)
    assert torch.equal(shown, old.encode(tokens + 4, lengths))


def test_berts_mask_stays_the_mask(tmp_path: Path) -> None:
    config = Recommender(backbone="bert4rec", dimension=8)
    old = fresh(config, RING, seed=1)
    save_weights(tmp_path, old)
    save_description(tmp_path, config, RING, {})
    for ids in (["new", *OLD, "newer"], OLD[3:]):
        model = fresh(config, len(ids), seed=2)
        begin_from(model, tmp_path, matched(ids))
        assert torch.equal(model.item_table.all()[len(ids) + 1], old.item_table.all()[RING + 1])
        assert len(model.item_table.all()) == len(ids) + 2


@pytest.mark.parametrize(
    "changed", [{"dimension": 32}, {"layers": 2}, {"heads": 1}, {"max_length": 9}, {"backbone": None}]
)
def test_another_architecture_is_refused(small: Recommender, earlier: Path, changed: dict[str, object]) -> None:
    (name,) = changed
    if name == "backbone":
        changed = {name: "gru4rec" if small.backbone == "sasrec" else "sasrec"}
    model = fresh(small.model_copy(update=changed), RING, seed=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match=f"has {name} {getattr(small, name)} and this training {changed[name]}"):
        begin_from(model, earlier)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_rows_that_do_not_fit_are_refused(earlier: Path, small: Recommender) -> None:
    model = fresh(small, 3, seed=2)
    bad: list[NDArray[np.generic] | None] = [None, *map(np.array, ([0, 1, 2], [1, 2, 3, 4], [0, 1, -1, 2]))]
    bad += [np.array([0, 1, 2, RING + 1]), np.array([0.0, 1.0, 2.0, 3.0])]
    for rows in bad:
        with pytest.raises(InputError, match="items 1–30 and this training 1–3"):
            begin_from(model, earlier, rows)
    begin_from(model, earlier, np.array([0, 1, 2, RING]))


def test_training_goes_on_from_there(ring: Histories, watch: Watch, tmp_path: Path) -> None:
    config = Recommender(dimension=16, batch_size=16, learning_rate=1e-3, dropout=0)

    def trained(name: str, epochs: int, **more: object) -> float:
        (tmp_path / name).mkdir()
        settings = config.model_copy(update={"epochs": epochs})
        return train(settings, [WeightedTerm(ring)], RING, 1, tmp_path / name, watch=watch, device="cpu", **more).ndcg

    first = trained("first", 15)
    assert trained("on", 1, start_from=tmp_path / "first") >= first - 0.001
    assert trained("anew", 1) < first - 0.1
    with pytest.raises(StorageError, match="no usable model"):
        trained("nowhere", 1, start_from=tmp_path / "nothing")
    with pytest.raises(InputError, match="name its folder"):
        trained("unnamed", 1, old_rows=np.arange(RING + 1))


def test_where_no_epoch_makes_it_better_the_earlier_model_is_kept(
    ring: Histories, watch: Watch, tmp_path: Path
) -> None:
    config = Recommender(dimension=16, batch_size=16, learning_rate=1e-3, dropout=0, epochs=15)
    for name in ("first", "on"):
        (tmp_path / name).mkdir()
    first = train(config, [WeightedTerm(ring)], RING, 1, tmp_path / "first", watch=watch, device="cpu")
    spoiling = config.model_copy(update={"epochs": 2, "learning_rate": 1.0})
    start = {"start_from": tmp_path / "first"}
    went_on = train(spoiling, [WeightedTerm(ring)], RING, 1, tmp_path / "on", watch=watch, device="cpu", **start)
    assert (went_on.best_epoch, went_on.epochs, went_on.ndcg) == (0, 2, first.ndcg)
    kept, before = (load(tmp_path / name, "cpu").state_dict() for name in ("on", "first"))
    assert all(torch.equal(kept[name], tensor) for name, tensor in before.items())


def test_a_checkpoint_belongs_to_the_model_it_began_from(
    ring: Histories, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Recommender(dimension=8, epochs=1)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        save_weights(tmp_path / name, fresh(config, RING, seed=len(name)))
        save_description(tmp_path / name, config, RING, {})
    swapped = np.array([0, 2, 1, *range(3, RING + 1)])
    monkeypatch.setattr("llmser_tasks.recommenders.loop.training.remove_checkpoint", lambda folder: None)
    (tmp_path / "target").mkdir()

    def epochs_run(**more: object) -> int:
        done: list[int] = []

        def note(epoch: int, total: int | None, unit: str, note: str = "") -> None:
            done.append(epoch)

        train(
            config, [WeightedTerm(ring)], RING, 1, tmp_path / "target", watch=watch, device="cpu", progress=note, **more
        )
        assert (tmp_path / "target" / CHECKPOINT).is_file()
        return len(done)

    starts = [{}, {"start_from": tmp_path / "one"}, {"start_from": tmp_path / "other"}]
    starts.append({"start_from": tmp_path / "one", "old_rows": swapped})
    for start in starts:
        assert epochs_run(**start) == 1
        assert epochs_run(**start) == 0  # its own checkpoint is gone on with: nothing is left to do

"""Item tables that read texts: how they begin, what of them moves, and where new items stand in a refresh."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import ITEM_TABLES
from llmser_tasks.recommenders.items.projection import Projection
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.checkpoints import load, save_description, save_weights
from llmser_tasks.recommenders.loop.optimiser import Adam
from llmser_tasks.recommenders.loop.warm_start import begin_from
from llmser_tasks.recommenders.model import Model

ITEMS, GIVEN, WIDTH = 200, 24, 8
NAMELESS = [3, 77]
OF_TEXTS = [name for name, table in ITEM_TABLES.items() if "item_vectors" in table.features]
DEVIATION = 0.02  # of the backbones' usual start


def vectors(seed: int = 0, items: int = ITEMS, given: int = GIVEN, rank: int | None = None) -> NDArray[np.float32]:
    """(items + 1, given) unit vectors around a common direction, fewer and fewer in the later ones."""
    random = np.random.default_rng(seed)
    spread = random.normal(size=(items + 1, given)) * np.linspace(2, 0.5, given)
    if rank is not None:
        spread = spread[:, :rank] @ random.normal(size=(rank, given))
    raw = spread + 1.5
    raw /= np.linalg.norm(raw, axis=1, keepdims=True) if rank is None else 10
    raw[[0, *NAMELESS]] = 0
    return raw.astype(np.float32)


def fresh(table: str, given: NDArray[np.float32], seed: int = 1, backbone: str = "sasrec") -> Model:
    torch.manual_seed(seed)
    config = Recommender(backbone=backbone, dimension=WIDTH)
    return make_model(config, len(given) - 1, table, {"item_vectors": given})


def components(given: NDArray[np.float32], width: int = WIDTH) -> NDArray[np.float64]:
    """(I + 1, width) by another road than the code's: the singular vectors of the centred matrix."""
    text = given.any(1)
    centred = given[text].astype(np.float64) - given[text].astype(np.float64).mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    found = np.zeros((len(given), width))
    found[text] = centred @ directions[:width].T
    return found


def up_to_signs(found: Tensor, expected: NDArray[np.float64]) -> None:
    signs = np.sign((found.detach().numpy() * expected).sum(0))
    np.testing.assert_allclose(found.detach().numpy(), expected * signs, atol=2e-5)


def others(given: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.flatnonzero(given.any(1))


@pytest.mark.parametrize("table", ["text-start", "summed"])
def test_it_begins_as_the_principal_components_under_one_scale(table: str) -> None:
    given = vectors()
    begun = fresh(table, given).table
    expected = components(given)
    scale = DEVIATION / expected[others(given)].std(0).mean()
    up_to_signs(begun[others(given)], expected[others(given)] * scale)
    deviations = begun[others(given)].detach().std(0, correction=0)
    assert deviations.mean().item() == pytest.approx(DEVIATION, rel=1e-4)
    assert deviations[0] > 1.3 * deviations[-1], "not whitened"


@pytest.mark.parametrize("table", OF_TEXTS)
def test_padding_is_zero_and_a_tokens_vector_is_its_own(table: str) -> None:
    model = fresh(table, vectors(), backbone="bert4rec")
    everything = model.item_table.all()
    assert not everything[0].any()
    (mask,) = everything[ITEMS + 1 :]
    assert (mask != 0).all() and mask.std() < 3 * DEVIATION


def test_what_has_no_text_begins_randomly_and_so_do_columns_in_which_texts_do_not_differ() -> None:
    table = fresh("text-start", vectors()).table.detach()
    assert 0.2 * DEVIATION < table[NAMELESS].std() < 2 * DEVIATION
    flat = vectors(rank=3)
    begun = fresh("text-start", flat).table.detach()[others(flat)]
    assert begun[:, :3].std(0).mean().item() == pytest.approx(DEVIATION, rel=0.01)
    assert begun[:, 3:].std().item() == pytest.approx(DEVIATION, rel=0.1)
    other = fresh("text-start", flat, seed=2).table.detach()[others(flat)]
    assert torch.equal(begun[:, :3], other[:, :3]) and not (begun[:, 3:] == other[:, 3:]).any()


def test_the_rest_of_a_model_begins_as_with_ids() -> None:
    torch.manual_seed(1)
    known = dict(make_model(Recommender(dimension=WIDTH), ITEMS).named_parameters())
    for name, values in fresh("text-start", vectors()).named_parameters():
        assert torch.equal(values, known[name]) == (name != "item_table.ids.weight"), name


def a_step(model: Model) -> None:
    """Push the rows of items 2, 5 and 9 about."""
    rows = model.item_table.rows(torch.tensor([0, 2, 5, 9]))
    torch.autograd.backward((rows * torch.randn(4, WIDTH)).sum())
    Adam(model.parameters(), 1e-2).step()


def test_alphafuse_moves_the_weakest_three_quarters_of_whitened_texts() -> None:
    given = vectors()
    model = fresh("alphafuse", given)
    text = others(given)
    begun = model.table.detach().clone()
    correlations = np.corrcoef(begun[text].numpy().T)
    np.testing.assert_allclose(correlations, np.eye(WIDTH), atol=1e-3)
    deviations = begun[text].std(0, correction=0)
    assert (deviations - deviations[0]).abs().max() < 1e-4 * deviations[0]
    expected = components(given)[text]
    shared = np.corrcoef(np.concatenate([begun[text].numpy(), expected], 1).T)[:WIDTH, WIDTH:]
    np.testing.assert_allclose(np.abs(np.diag(shared)), 1, atol=1e-3)  # most variance first
    a_step(model)
    moved = model.table.detach() != begun
    assert not moved[:, : WIDTH // 4].any()
    assert torch.nonzero(moved[:, WIDTH // 4 :].any(1))[:, 0].tolist() == [2, 5, 9]
    assert all(values.requires_grad for values in model.parameters())


def test_alphafuses_ids_take_all_directions_in_which_texts_say_nothing() -> None:
    narrow = vectors(given=1)
    model = fresh("alphafuse", narrow)
    begun = model.table.detach().clone()
    a_step(model)
    assert (model.table.detach() != begun).any(0).tolist() == [False] + [True] * (WIDTH - 1)


def test_the_sums_adapter_learns_for_all_items_at_once() -> None:
    given = vectors()
    model = fresh("summed", given)
    begun = model.table.detach().clone()
    a_step(model)
    assert (model.table.detach() != begun).any(1)[others(given)].all()
    assert not model.table[0].any()


@pytest.mark.parametrize("table", OF_TEXTS)
def test_all_rows_are_the_rows_of_a_batch(table: str) -> None:
    model = fresh(table, vectors(), backbone="bert4rec")
    ids = torch.tensor([0, 1, 3, 50, ITEMS, ITEMS + 1])
    torch.testing.assert_close(model.item_table.rows(ids), model.item_table.all()[ids])
    items = torch.tensor([4, 5])
    torch.testing.assert_close(model.item_table.rows(items), model.item_table.all()[items])


# New items in a refresh -----------------------------------------------------------------------------------------------

OLD_ROWS = np.array([0, 0, *range(161, ITEMS + 1), 0, 0])  # most are gone; three are new, one of them comes first
NEW = np.flatnonzero(OLD_ROWS[1:] == 0) + 1
KNOWN = np.flatnonzero(OLD_ROWS)


def refreshed() -> NDArray[np.float32]:
    """The later catalogue's vectors, of texts whose own principal components are others; the last has no text."""
    given = vectors()[OLD_ROWS]
    given[NEW] = np.roll(vectors(seed=9), 5, axis=1)[NEW]
    given[-1] = 0
    return given


@pytest.fixture(params=[name for name in OF_TEXTS if fresh(name, vectors()).item_table.read_plainly])
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    """A trained model of the earlier catalogue, and its folder."""
    model = fresh(request.param, vectors())
    with torch.no_grad():
        for values in model.item_table.parameters():
            values.mul_(5).add_(torch.randn(values.shape) * 0.01 * (torch.arange(len(values)) > 0)[:, None])
    save_weights(tmp_path, model)
    save_description(tmp_path, model.config, ITEMS, {}, request.param)
    return model


def gone_on(earlier: Model, folder: Path, given: NDArray[np.float32]) -> Model:
    model = fresh(earlier.item_table.name, given, seed=2)
    begin_from(model, folder, OLD_ROWS)
    return model


def test_a_new_item_begins_as_its_text_in_the_earlier_models_directions(earlier: Model, tmp_path: Path) -> None:
    given = refreshed()
    model = gone_on(earlier, tmp_path, given)
    table, old = model.table.detach(), earlier.table.detach()
    torch.testing.assert_close(table[KNOWN], old[OLD_ROWS[KNOWN]])
    projection = next(part for part in earlier.modules() if isinstance(part, Projection))
    expected = projection(torch.from_numpy(given))[NEW[:-1]]
    own = fresh(earlier.item_table.name, given).table.detach()[NEW[:-1]]
    found = table[NEW[:-1]]
    if earlier.item_table.name == "alphafuse":
        torch.testing.assert_close(found, expected)
    elif earlier.item_table.name == "summed":
        torch.testing.assert_close(found, expected @ earlier.item_table.adapter.weight.T)  # type: ignore[union-attr, operator]
    else:
        torch.testing.assert_close(F.normalize(found), F.normalize(expected))
        lengths = table.norm(dim=1)
        assert lengths[NEW].mean().item() == pytest.approx(lengths[KNOWN].mean().item(), rel=1e-4)
    assert (F.cosine_similarity(found, own).abs() < 0.97).all(), "not this catalogue's own directions"


def test_a_third_training_still_has_the_first_ones_directions(earlier: Model, tmp_path: Path) -> None:
    second = gone_on(earlier, tmp_path, refreshed())
    (tmp_path / "second").mkdir()
    save_weights(tmp_path / "second", second)
    save_description(tmp_path / "second", second.config, second.items, {}, second.item_table.name)
    loaded = load(tmp_path / "second", "cpu")
    assert torch.equal(loaded.table, second.eval().table)
    third = fresh(earlier.item_table.name, refreshed(), seed=3)
    begin_from(third, tmp_path / "second")
    assert torch.equal(third.eval().table, second.table)
    for name, values in earlier.item_table.state_dict().items():
        if name.startswith("projection."):
            assert torch.equal(third.item_table.state_dict()[name], values), name


def test_an_item_that_was_renamed_is_read_by_its_new_text_where_texts_are_frozen(
    earlier: Model, tmp_path: Path
) -> None:
    given = refreshed()
    renamed = given.copy()
    renamed[KNOWN[5]] = given[KNOWN[9]]
    before, after = (gone_on(earlier, tmp_path, each).table.detach() for each in (given, renamed))
    changed = torch.nonzero((before != after).any(1))[:, 0].tolist()
    assert changed == ([] if earlier.item_table.name == "text-start" else [KNOWN[5]])


# What cannot be -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", OF_TEXTS)
def test_texts_that_say_nothing_are_told(table: str) -> None:
    none, one = np.zeros((9, 4), np.float32), np.zeros((9, 4), np.float32)
    one[2:5] = 0.5
    for given, count in ((none, 0), (one, 3)):
        with pytest.raises(InputError, match=f"{count} of the items have a text, and no two different ones"):
            fresh(table, given)
    with pytest.raises(InputError, match="not finite"):
        fresh(table, np.where(vectors() > 0.3, np.nan, vectors()).astype(np.float32))


def test_a_projection_is_the_same_however_the_vectors_lie_and_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    given = torch.from_numpy(vectors())
    whole, parts = Projection(GIVEN, WIDTH), Projection(GIVEN, WIDTH)
    whole.fit(given, DEVIATION)
    monkeypatch.setattr("llmser_tasks.recommenders.items.projection.AT_ONCE", 7)
    parts.fit(given.flip(0).contiguous(), DEVIATION)
    torch.testing.assert_close(whole.directions, parts.directions, atol=1e-5, rtol=1e-4)

"""Two views of an item: what a sequence's states depend on, what each part left out changes, what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import BACKBONES
from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.finished import finish
from llmser_tasks.recommenders.items.dual_view import DualView
from llmser_tasks.recommenders.layout import Layout
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop.checkpoints import load, save_description, save_weights
from llmser_tasks.recommenders.model import Model

ITEMS, GIVEN, WIDTH, LONGEST = 40, 24, 16, 90
VECTORS = np.random.default_rng(3).normal(size=(ITEMS + 1, GIVEN)).astype(np.float32)
VECTORS[[0, 7]] = 0  # padding, and an item without a text
CAUSAL = [name for name in BACKBONES if name != "bert4rec"]
ENCODED = [(), ("sharing",), ("cross-attention",), ("bare-attention",), ("co-view",), ("se-view",)]


def model_of(backbone: str = "sasrec", without: Sequence[str] = ()) -> Model:
    config = Recommender(backbone=backbone, dimension=WIDTH, layers=1, heads=2, max_length=LONGEST)
    torch.manual_seed(1)
    return make_model(config, ITEMS, "dual-view", {"item_vectors": VECTORS}, without).eval()


def table_of(without: Sequence[str] = (), backbone: str = "sasrec") -> DualView:
    table = model_of(backbone, without).item_table
    assert isinstance(table, DualView)
    return table


def some_rows(lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    known = torch.tensor(lengths)
    tokens = torch.randint(1, ITEMS + 1, (len(lengths), max(lengths)))
    return tokens.masked_fill(torch.arange(max(lengths)) >= known[:, None], 0), known


def names(without: Sequence[str] = (), backbone: str = "sasrec") -> set[str]:
    return set(model_of(backbone, without).state_dict())


@pytest.mark.parametrize("without", ENCODED, ids="-".join)
@pytest.mark.parametrize("backbone", CAUSAL)
@torch.no_grad()
def test_an_item_changes_no_state_before_it(backbone: str, without: Sequence[str]) -> None:
    model = model_of(backbone, without)
    tokens, lengths = some_rows([12])
    other = tokens.clone()
    other[0, 8] = other[0, 8] % ITEMS + 1
    one, another = model.states(tokens, lengths)[0], model.states(other, lengths)[0]
    assert torch.equal(one[:8], another[:8])
    views = one.split(WIDTH, dim=1), another.split(WIDTH, dim=1)
    assert all(not torch.allclose(x[8], y[8]) for x, y in zip(*views, strict=True)), "but that at its own place"


@torch.no_grad()
def test_bert_sees_the_whole_row() -> None:
    model = model_of("bert4rec")
    tokens, lengths = some_rows([12])
    other = tokens.clone()
    other[0, 8] = other[0, 8] % ITEMS + 1
    assert not torch.allclose(model.states(tokens, lengths)[0][2], model.states(other, lengths)[0][2])


@pytest.mark.parametrize("way", ["cpu", "gpu"])
@pytest.mark.parametrize("lengths", [[3, 1, 12, 7], [3, 80, 1, 66, 12, 90]], ids=["short", "some-long"])
@pytest.mark.parametrize("without", [(), ("sharing",)], ids=["shared", "apart"])
@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_who_else_is_in_the_batch_does_not_matter(
    backbone: str, without: Sequence[str], lengths: list[int], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(backbone, without)
    tokens, known = some_rows(lengths)
    alone = [
        model.states(tokens[row : row + 1, :length], known[row : row + 1])[0] for row, length in enumerate(lengths)
    ]
    if way == "gpu":
        monkeypatch.setattr(devices, "on_gpu", lambda tensor: True)
    states, layout = model.states(tokens, known)
    for row, own in enumerate(alone):
        torch.testing.assert_close(states[layout.owner == row], own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths", [[3, 1, 12], [3, 80, 1, 66, 12, 90]], ids=["short", "some-long"])
@pytest.mark.parametrize("kind", [Layout.back_to_back, Layout.in_lines], ids=["back-to-back", "in-lines"])
def test_what_is_stacked_comes_apart_again(kind: object, lengths: list[int]) -> None:
    layout = Layout.back_to_back(torch.tensor(lengths)) if kind == Layout.back_to_back else None
    layout = layout or Layout.in_lines(torch.tensor(lengths))
    size = len(layout.owner)
    first, second = torch.randn(size, 2), torch.randn(size, 2)
    twice = layout.twice()
    taken = layout.owner >= 0
    for before, after in zip((first, second), twice.split(twice.stack(first, second)), strict=True):
        assert torch.equal(before[taken], after[taken])
    rows = twice.stack(layout.owner, layout.owner)[twice.layout.owner >= 0]
    assert torch.equal(rows, (twice.layout.owner % len(lengths))[twice.layout.owner >= 0])


@torch.no_grad()
def test_a_score_is_the_sum_of_both_views() -> None:
    model = model_of()
    table = model.table
    assert table.shape == (ITEMS + 1, 2 * WIDTH)
    states = model.encode(*some_rows([5, 9]))
    by_view = [s @ t.T for s, t in zip(states.split(WIDTH, 1), table.split(WIDTH, 1), strict=True)]
    torch.testing.assert_close(states @ table.T, by_view[0] + by_view[1])
    assert not by_view[0].allclose(by_view[1])


@torch.no_grad()
def test_each_view_looks_at_the_other() -> None:
    model = model_of()
    tokens, lengths = some_rows([6])
    before = model.states(tokens, lengths)[0].split(WIDTH, 1)
    adapter = model.item_table.get_submodule("adapter.layers.0")
    assert isinstance(adapter, nn.Linear)
    adapter.weight.mul_(3)
    after = model.states(tokens, lengths)[0].split(WIDTH, 1)
    assert not before[0].allclose(after[0]), "the queries of one view come from the other"
    apart = model_of(without=["cross-attention"])
    before = apart.states(tokens, lengths)[0].split(WIDTH, 1)
    adapter = apart.item_table.get_submodule("adapter.layers.0")
    assert isinstance(adapter, nn.Linear)
    adapter.weight.mul_(3)
    after = apart.states(tokens, lengths)[0].split(WIDTH, 1)
    assert torch.equal(before[0], after[0]) and not before[1].allclose(after[1])


@torch.no_grad()
def test_one_attention_is_torchs() -> None:
    crossing = table_of().crossing
    assert crossing is not None
    first, second = torch.randn(9, WIDTH), torch.randn(9, WIDTH)
    layout = Layout.packed(torch.tensor([9]))
    made = crossing(first, second, model_of().attention(layout))
    later = torch.ones(9, 9, dtype=torch.bool).triu(1)
    own, other = (part.get_parameter("weight") for part in crossing.projections)
    for queries, keys, way, expected in (
        (other, own, (second, first), made[0]),
        (own, other, (first, second), made[1]),
    ):
        number = 0 if way[1] is first else 1
        packed = torch.cat([queries[:WIDTH], keys[WIDTH:]])
        out = crossing.outs[number]
        attended, _ = nn.functional.multi_head_attention_forward(
            way[0][:, None], way[1][:, None], way[1][:, None], WIDTH, 2, packed, torch.zeros(3 * WIDTH), None, None,
            False, 0.0, out.get_parameter("weight"), out.get_parameter("bias"), attn_mask=later,
        )  # fmt: skip
        torch.testing.assert_close(expected, attended[:, 0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_two_layers_without_activation_and_padding_is_nothing() -> None:
    table = table_of()
    assert table.adapter is not None
    first, second = (cast(nn.Linear, layer) for layer in table.adapter.layers)
    adapted = second(first(torch.from_numpy(VECTORS)))
    assert first.weight.shape == (GIVEN // 2, GIVEN)
    semantic = table.all()[:, WIDTH:]
    torch.testing.assert_close(semantic[1:], adapted[1:])
    assert not table.all()[0].any()
    nn.init.ones_(first.bias)
    assert not table.all()[0].any() and table.all()[7, WIDTH:].any()


@torch.no_grad()
def test_the_mask_has_a_learned_vector_in_each_view() -> None:
    table = table_of(backbone="bert4rec")
    mask = table.all()[ITEMS + 1]
    assert mask[:WIDTH].any() and mask[WIDTH:].any()
    named = dict(table.named_parameters())
    torch.testing.assert_close(mask[WIDTH:], named["adapter.tokens.weight"][0])
    nn.init.ones_(named["adapter.layers.1.bias"])
    torch.testing.assert_close(table.all()[ITEMS + 1], mask)


@torch.no_grad()
def test_ids_begin_as_principal_components() -> None:
    start = table_of().all()[: ITEMS + 1, :WIDTH].numpy()
    known = VECTORS.any(1)
    centred = VECTORS[known] - VECTORS[known].mean(0)
    left, sizes, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    np.testing.assert_allclose(np.abs(start[known]), np.abs(left * sizes)[:, :WIDTH], atol=1e-4)
    assert np.linalg.norm(start[7]) > 0, "what has no text begins randomly"
    random = table_of(["pca-start"]).all()[: ITEMS + 1, :WIDTH].numpy()
    assert np.abs(np.corrcoef(random[known].T, start[known].T)[:WIDTH, WIDTH:]).max() < 0.7


def test_vectors_stay_as_they_are_unless_they_are_not_frozen() -> None:
    def moved(without: Sequence[str]) -> set[str]:
        model = model_of(without=without).train()
        model.encode(*some_rows([5, 9])).square().sum().backward()
        return {name for name, weight in model.named_parameters() if weight.grad is not None}

    assert moved(["freezing"]) - moved([]) == {"item_table.trained.weight"}
    table = table_of(["freezing"])
    np.testing.assert_allclose(table.get_parameter("trained.weight").detach().numpy()[1:], VECTORS[1:])
    assert set(table.per_item()) == {"ids.weight", "trained.weight"}


def test_each_part_left_out_changes_what_it_names_and_nothing_else() -> None:
    whole = names()
    crossing = {name for name in whole if "crossing" in name}
    adapter = {name for name in whole if "adapter" in name}
    assert whole - names(["cross-attention"]) == crossing and names(["cross-attention"]) < whole
    start = {name for name in whole if "start" in name}
    assert len(start) == 2 and whole - names(["co-view"]) == crossing | start | {"item_table.ids.weight"}
    assert whole - names(["se-view"]) == crossing | adapter
    assert whole - names(["second-layer"]) == {f"item_table.adapter.layers.1.{what}" for what in ("weight", "bias")}
    assert whole - names(["pca-start"]) == start
    assert whole == names(["bare-attention"])
    own = {name for name in whole if not name.startswith("item_table")}
    assert names(["sharing"]) - whole == {f"item_table.encoders.0.{name}" for name in own}
    assert names(["sharing"]) > whole
    for without in (["co-view"], ["se-view"]):
        assert model_of(without=without).item_table.width == WIDTH
    for part in ("sharing", "cross-attention", "second-layer", "pca-start", "freezing"):
        assert model_of(without=[part]).item_table.width == 2 * WIDTH


@torch.no_grad()
def test_with_one_encoder_the_same_views_come_to_the_same_and_with_two_they_do_not() -> None:
    for without, same in ((("cross-attention",), True), (("cross-attention", "sharing"), False)):
        model = model_of(without=without)
        table = model.item_table
        view = torch.randn(ITEMS + 1, WIDTH)
        layout = Layout.packed(torch.tensor([5]))
        gathered = table.everything()
        alike = type(gathered)(gathered.ids, torch.cat([view, view], 1))
        first, second = table.states(model, alike, torch.arange(1, 6), layout).split(WIDTH, 1)
        assert torch.allclose(first, second, atol=1e-6) == same


@pytest.mark.parametrize("more", [(), ("sharing",)], ids=["shared", "apart"])
def test_with_residuals_the_views_begin_as_if_they_did_not_look_at_each_other(more: Sequence[str]) -> None:
    apart, residual = model_of(without=["cross-attention", *more]), model_of(without=["bare-attention", *more])
    residual.load_state_dict(apart.state_dict(), strict=False)
    tokens, lengths = some_rows([5, 9])
    states = residual.encode(tokens, lengths)
    torch.testing.assert_close(states, apart.encode(tokens, lengths))
    states.square().sum().backward()
    crossing = cast(DualView, residual.item_table).crossing
    assert crossing is not None
    grown = [cast(nn.Linear, out).weight.grad for out in crossing.outs]
    assert all(grad is not None and grad.any() for grad in grown), "and learn to"


@pytest.mark.parametrize(
    "both",
    [("co-view", "se-view"), ("co-view", "sharing"), ("freezing", "se-view"), ("bare-attention", "cross-attention")],
)
def test_what_cannot_be_left_out_together_is_said(both: Sequence[str]) -> None:
    with pytest.raises(InputError, match=f"without {both[0]} and {both[1]} at once"):
        model_of(without=both)


def test_a_part_that_there_is_not_and_an_odd_dimension_are_refused() -> None:
    with pytest.raises(InputError, match="was to be made without wings, but has no such part"):
        model_of(without=["wings"])
    with pytest.raises(InputError, match="the dimension must be even, not 5"):
        make_model(Recommender(dimension=5), ITEMS, "dual-view", {"item_vectors": VECTORS})


@pytest.mark.parametrize("without", [*ENCODED, ("second-layer",), ("freezing",)], ids="-".join)
@pytest.mark.parametrize("backbone", ["sasrec", "bert4rec"])
@torch.no_grad()
def test_an_exported_model_has_nothing_of_the_texts_left(backbone: str, without: Sequence[str], tmp_path: Path) -> None:
    model = model_of(backbone, without)
    tokens, lengths = some_rows([5, 9])
    states, table = model.encode(tokens, lengths), model.table.clone()
    done = finish(model)
    save_weights(tmp_path, done)
    save_description(tmp_path, done.config, ITEMS, {}, done.item_table.name, done.item_table.without)
    loaded = load(tmp_path, "cpu")
    torch.testing.assert_close(loaded.table, table)
    torch.testing.assert_close(loaded.encode(tokens, lengths), states)
    sizes = {tuple(values.shape) for values in load_file(tmp_path / "model.safetensors").values()}
    assert not [size for size in sizes if GIVEN in size]

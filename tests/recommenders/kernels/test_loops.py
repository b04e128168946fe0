"""What is compiled for the CPU gives the values and gradients of the same thing in torch's operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from llmser_tasks.recommenders.backbones.transformer import Block
from llmser_tasks.recommenders.embed import embed
from llmser_tasks.recommenders.kernels import own_scores as own_scores_module
from llmser_tasks.recommenders.kernels.attention import Attention
from llmser_tasks.recommenders.kernels.dropout import Dropout
from llmser_tasks.recommenders.kernels.gather import pick, pick_distinct
from llmser_tasks.recommenders.kernels.own_scores import own_scores
from llmser_tasks.recommenders.kernels.row_recurrence import recur_rows
from llmser_tasks.recommenders.layout import SHORT, Layout

LENGTHS = torch.tensor([3, 1, 7, SHORT + 6, 2, 20, SHORT])  # one row has a line of its own
ROWS = torch.tensor([4, 0, 4, 2, 5])


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


def agree(found: Callable[..., Tensor], expected: Callable[..., Tensor], *inputs: Tensor, within: float = 1e-7) -> None:
    values = [function(*inputs) for function in (found, expected)]
    torch.testing.assert_close(*values, rtol=within, atol=within)
    weights = torch.randn_like(values[0])
    gradients = (torch.autograd.grad(value, inputs, weights) for value in values)
    torch.testing.assert_close(*gradients, rtol=within, atol=within)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("slope", [None, 0.7], ids=["causal", "near"])
def test_rows_attend_to_themselves_alone(heads: int, slope: float | None) -> None:
    layout = Layout.back_to_back(LENGTHS)
    attention = Attention.causally(layout) if slope is None else Attention.by_nearness(layout, slope)

    def one_by_one(projected: Tensor) -> Tensor:
        out = torch.zeros(len(projected), 8, dtype=projected.dtype)
        for row, length in enumerate(LENGTHS.tolist()):
            own = torch.nonzero(layout.owner == row)[:, 0]
            query, key, value = projected[own].view(length, 3, heads, -1).permute(1, 2, 0, 3)
            logits = query @ key.transpose(1, 2) / (8 / heads) ** 0.5
            place = torch.arange(length)
            if slope is None:
                logits = logits.masked_fill(place > place[:, None], -torch.inf)
            else:
                logits = logits - slope * (place - place[:, None]).abs()
            out = out.index_copy(0, own, (logits.softmax(-1) @ value).transpose(0, 1).flatten(1))
        return out

    real = (layout.owner >= 0)[:, None]
    agree(lambda x: attention(x, heads) * real, one_by_one, normal(len(layout.owner), 24))


@pytest.mark.parametrize(("size", "within"), [(0.5, 1e-5), (20.0, 1e-3)], ids=["usual", "saturated"])
def test_rows_recur_on_their_own(size: float, within: float) -> None:
    """Up to what the tanh of the loops is off; where a gate is saturated, that is much of a gradient near 0."""
    layout = Layout.back_to_back(LENGTHS)
    gru = nn.GRU(8, 8, num_layers=2, dtype=torch.float64)
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)

    def rows(x: Tensor, *_: Tensor) -> Tensor:
        for layer in range(2):
            x = recur_rows(x, layout.start, layout.lengths, gru, layer)
        return x

    def one_by_one(x: Tensor, *_: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for row in range(len(LENGTHS)):
            own = torch.nonzero(layout.owner == row)[:, 0]
            out = out.index_copy(0, own, gru(x[own, None])[0][:, 0])
        return out

    x = (normal(len(layout.owner), 8) * size).detach().requires_grad_()
    agree(rows, one_by_one, x, *gru.parameters(), within=within)


def test_large_logits_do_not_overflow() -> None:
    layout = Layout.back_to_back(LENGTHS)
    projected = (torch.randn(len(layout.owner), 24) * 1e3).requires_grad_()
    attended = Attention.causally(layout)(projected, 1)
    attended.sum().backward()
    assert attended.isfinite().all() and projected.grad is not None and projected.grad.isfinite().all()


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU()], ids=["relu", "gelu"])
def test_a_block_is_what_its_parts_say(activation: nn.Module) -> None:
    block = Block(8, 2, 12, activation, dropout=0.0).double()
    layout = Layout.back_to_back(LENGTHS)
    attention = Attention.causally(layout)

    def in_parts(x: Tensor, *_: Tensor) -> Tensor:
        x = x + block.attention_out(attention(block.query_key_value(block.attention_norm(x)), 2))
        out: Tensor = x + block.feed_forward(block.feed_forward_norm(x))
        return out

    x = normal(len(layout.owner), 8)
    agree(lambda x, *_: block(x, attention), in_parts, x, *block.parameters())


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.GELU()], ids=["relu", "gelu"])
def test_a_blocks_gradient_knows_what_was_dropped(activation: nn.Module) -> None:
    """Slopes of the function that its keys make of it, taken by differences."""
    block = Block(4, 1, 6, activation, dropout=0.4).double()
    layout = Layout.back_to_back(torch.tensor([3, 2]))

    def dropped(x: Tensor, *_: Tensor) -> Tensor:
        torch.manual_seed(5)
        out: Tensor = block(x, Attention.causally(layout))
        return out

    assert torch.autograd.gradcheck(dropped, (normal(5, 4), *block.parameters()))
    x = normal(5, 4)
    assert not torch.allclose(dropped(x), block.eval()(x, Attention.causally(layout)))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(probability: float) -> None:
    x = torch.ones(400, 64, requires_grad=True)
    dropped = Dropout(probability)(x)
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / (1 - probability))]
    by_token, by_column = (dropped > 0).float().mean(1), (dropped > 0).float().mean(0)
    assert abs(float(by_token.mean()) - (1 - probability)) < 0.01
    deviation = (probability * (1 - probability)) ** 0.5  # of one draw; means of independent ones deviate by its root
    assert abs(float(by_token.std()) - deviation / 8) < 0.2 * deviation / 8
    assert abs(float(by_column.std()) - deviation / 20) < 0.4 * deviation / 20
    dropped.backward(torch.ones_like(x))
    assert torch.equal(x.grad, dropped.detach())


def test_dropout_follows_the_seed_and_never_repeats_itself() -> None:
    x, dropout = torch.ones(20, 64), Dropout(0.5)
    first, second = dropout(x), dropout(x)
    assert 0.4 < float((first == second).float().mean()) < 0.6
    torch.manual_seed(0)
    assert torch.equal(dropout(x), first)
    assert torch.equal(dropout.eval()(x), x)


def test_embeddings_are_scaled_placed_and_dropped_out() -> None:
    places = torch.tensor([1, 1, 0, 2, 2])
    agree(
        lambda table, positions: embed(table, ROWS, positions, places, Dropout(0.0)),
        lambda table, positions: table[ROWS] * 2 + positions[places],
        normal(6, 4),
        normal(3, 4),
    )

    def dropped(table: Tensor, positions: Tensor) -> Tensor:
        torch.manual_seed(5)
        return embed(table, ROWS, positions, places, Dropout(0.4))

    assert torch.autograd.gradcheck(dropped, (normal(6, 4), normal(3, 4)))


@pytest.mark.parametrize("row", [-1, 6])
def test_an_item_that_is_not_in_the_table_is_refused(row: int) -> None:
    places = torch.zeros(2, dtype=torch.long)
    with pytest.raises(IndexError, match="of a table of 6"):
        embed(normal(6, 4), torch.tensor([1, row]), normal(3, 4), places, Dropout(0.0))


def test_rows_that_are_picked_twice_get_both_gradients() -> None:
    agree(lambda table: pick(table, ROWS.view(1, 5)), lambda table: table[ROWS.view(1, 5)], normal(6, 4))


def test_distinct_rows_have_a_sparse_gradient_and_padding_none() -> None:
    table, rows = normal(6, 4), torch.tensor([0, 2, 5])
    picked = pick_distinct(table, rows)
    assert torch.equal(picked, table[rows])
    (gradient,) = torch.autograd.grad(picked.sum(), table)
    assert gradient.is_sparse and gradient.is_coalesced() and gradient.indices().tolist() == [[0, 2, 5]]
    assert gradient.values().sum(1).tolist() == [0.0, 4.0, 4.0]


@pytest.mark.parametrize("scores", [own_scores, own_scores_module.on_gpu], ids=["cpu", "gpu"])
def test_each_position_scores_its_own_items(
    scores: Callable[[Tensor, Tensor, Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_scores_module, "GATHERED", 3 * 3 * 8)  # three positions at once, then two
    items = torch.tensor([[1, 3, 0], [4, 4, 1], [5, 2, 2], [3, 0, 5], [1, 1, 1]])
    agree(
        lambda states, table: scores(states, items, table),
        lambda states, table: (table[items] * states[:, None]).sum(-1),
        normal(5, 8),
        normal(6, 8),
    )

"""Adam: ordinary for dense gradients, row by row for sparse ones."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional as F

from llmser_tasks.recommenders.loop.optimiser import Adam

START = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
WISHED = torch.ones(6, 3)


def trained(rows: list[list[int]], sparse: bool, optimiser: type[torch.optim.Optimizer] | None = None) -> Tensor:
    """The table after one step per list of distinct rows, each drawn towards ones."""
    table = torch.nn.Parameter(START.clone())
    steps = Adam([table], 0.1) if optimiser is None else optimiser([table], lr=0.1)
    for chosen in rows:
        table.grad = None
        index = torch.tensor(chosen)
        loss = ((F.embedding(index, table, sparse=sparse) - WISHED[index]) ** 2).sum()
        torch.autograd.backward(loss)
        steps.step()
    return table.detach()


def test_all_rows_in_every_batch_is_ordinary_adam() -> None:
    rows = [[0, 1, 2, 3, 4, 5]] * 4
    ordinary = trained(rows, False, torch.optim.Adam)
    torch.testing.assert_close(trained(rows, True), ordinary)
    torch.testing.assert_close(trained(rows, False), ordinary)


def test_only_gathered_rows_move() -> None:
    table = trained([[0, 2], [2, 5], [0, 5]], True)
    moved = (table != START).any(1)
    assert moved.tolist() == [True, False, True, False, False, True]
    torch.testing.assert_close(table, trained([[0, 2], [2, 5], [0, 5]], True, torch.optim.SparseAdam))


def test_its_state_goes_on_where_it_stopped() -> None:
    table = torch.nn.Parameter(START.clone())
    steps = Adam([table], 0.1)

    def step(steps: Adam, table: torch.nn.Parameter) -> None:
        torch.autograd.backward((F.embedding(torch.tensor([1, 3]), table, sparse=True) ** 2).sum())
        steps.step()

    step(steps, table)
    copy = torch.nn.Parameter(table.detach().clone())
    resumed = Adam([copy], 0.1)
    resumed.restore(deepcopy(steps.state))
    step(steps, table)
    step(resumed, copy)
    assert torch.equal(table, copy)


def test_rows_in_any_order_are_moved_once() -> None:
    """A row that stands twice in a gradient moves by the sum."""
    table = torch.nn.Parameter(START.clone())
    values = torch.tensor([[1.0, 2, 3], [4, 5, 6], [-2, 0, 1]])
    table.grad = torch.sparse_coo_tensor(torch.tensor([[4, 1, 4]]), values, table.shape, check_invariants=True)
    Adam([table], 0.1).step()
    assert table.grad is None
    expected = torch.nn.Parameter(START.clone())
    expected.grad = torch.zeros_like(START)
    expected.grad[4], expected.grad[1] = values[0] + values[2], values[1]
    torch.optim.Adam([expected], 0.1).step()
    torch.testing.assert_close(table, expected)

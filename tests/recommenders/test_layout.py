"""Rows laid flat in groups give the states that they give alone."""

from __future__ import annotations

import torch

from llmser_tasks.config import Recommender
from llmser_tasks.recommenders.backbones import make_model
from llmser_tasks.recommenders.layout import Layout

LENGTHS = torch.tensor([1] * 150 + [2] * 30 + [3, 3, 4, 7, 8, 30, 31])


def test_a_layout_holds_every_token_once() -> None:
    layout = Layout.of(LENGTHS)
    assert len(layout.groups) > 2 and layout.groups[0].longest == 1
    held = torch.stack([layout.owner, layout.column], 1)[layout.real]
    expected = [(row, column) for row, length in enumerate(LENGTHS.tolist()) for column in range(length)]
    assert held.tolist() == [list(pair) for pair in expected]
    assert [group.full for group in layout.groups] == [
        len(set(part.tolist())) == 1 for part in LENGTHS.split([group.rows for group in layout.groups])
    ]


def test_map_shows_each_group_as_a_matrix() -> None:
    layout = Layout.of(LENGTHS)
    seen = []

    def double(x: torch.Tensor, group: object, lengths: torch.Tensor) -> torch.Tensor:
        seen.append((tuple(x.shape), len(lengths)))
        return x * 2

    flat = torch.randn(len(layout.owner), 3)
    assert torch.equal(layout.map(double, flat), flat * 2)
    assert seen == [((group.rows, group.longest, 3), group.rows) for group in layout.groups]


def test_grouped_rows_have_the_states_they_have_alone(small: Recommender) -> None:
    torch.manual_seed(0)
    model = make_model(small.model_copy(update={"max_length": 40}), 50).eval()
    layout = Layout.of(LENGTHS)
    tokens = torch.randint(1, 51, (len(LENGTHS), 31))
    tokens[torch.arange(31) >= LENGTHS[:, None]] = 0
    states = model.contextual(model.item_embedding(tokens[layout.owner, layout.column]), layout)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model.states(tokens[row : row + 1, :length], LENGTHS[row : row + 1])[0]
        torch.testing.assert_close(states[(layout.owner == row) & layout.real], alone)

"""Rows laid flat give the states that they give alone, whatever lies beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders.layout import LINE, SHORT, Group, Layout, pack
from llmser_tasks.recommenders.load import make_model

LENGTHS = torch.tensor([40] + [1] * 150 + [31, 3] + [2] * 30 + [3, 4, 33, SHORT + 1, 7, 8, 30, LINE, 80, 40])
LONGEST = 80
LAYOUTS = {"back to back": Layout.back_to_back, "in lines": Layout.in_lines}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_layout_holds_every_token_once(kind: str) -> None:
    layout = LAYOUTS[kind](LENGTHS)
    assert len(layout.owner) == len(layout.column) == sum(group.lines * group.places for group in layout.groups)
    for row, (start, length) in enumerate(zip(layout.start.tolist(), LENGTHS.tolist(), strict=True)):
        assert (layout.owner == row).sum() == length
        assert torch.equal(layout.owner[start : start + length], torch.full((length,), row))
        assert torch.equal(layout.column[start : start + length], torch.arange(length))


@pytest.mark.parametrize("kind", LAYOUTS)
def test_no_row_reaches_over_the_end_of_a_line(kind: str) -> None:
    layout = LAYOUTS[kind](LENGTHS)
    for lines in layout.split(layout.owner):
        for line in lines.tolist():
            for row in set(line) - {-1}:
                assert line.count(row) == LENGTHS[row]


def test_rows_share_lines_only_where_they_may() -> None:
    shared, *own = Layout.in_lines(LENGTHS).groups
    assert shared.rows == "several" and shared.places == LINE and all(group.rows == "one" for group in own)
    assert sum(group.lines for group in own) == 5  # 33, 40, 40, 65 and 80
    assert shared.lines * LINE < 1.1 * int(LENGTHS[LENGTHS <= LINE].sum())


def test_short_rows_follow_one_another_without_a_gap() -> None:
    layout = Layout.back_to_back(LENGTHS)
    short = int(LENGTHS[LENGTHS <= SHORT].sum())
    together, *own = layout.groups
    assert together == Group(1, short, "all") and sum(group.lines for group in own) == 2  # 65 and 80
    assert (layout.owner[:short] >= 0).all() and (layout.owner[:short].diff() >= 0).all()
    assert Layout.back_to_back(torch.tensor([SHORT + 1])).groups == [Group(1, SHORT + 1)]


def test_lines_are_filled_and_never_overfilled() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        lengths = random.integers(1, 33, 200)
        start, lines = pack(lengths, 32)
        assert ((start % 32) + lengths <= 32).all() and (start + lengths).max() <= lines * 32
        taken = np.concatenate([np.arange(a, a + n) for a, n in zip(start, lengths, strict=True)])
        assert len(np.unique(taken)) == lengths.sum()
        assert lines * 32 < 1.15 * lengths.sum()
    assert pack(np.zeros(0, np.int64), 32)[1] == 0
    assert pack(np.array([32, 32]), 32)[0].tolist() == [0, 32]


def test_what_is_split_can_be_joined() -> None:
    for make in LAYOUTS.values():
        layout = make(LENGTHS)
        flat = torch.randn(len(layout.owner), 3)
        parts = layout.split(flat)
        assert [part.shape for part in parts] == [(group.lines, group.places, 3) for group in layout.groups]
        assert torch.equal(layout.join(parts), flat)


def test_steps_go_through_all_rows_at_once() -> None:
    layout = Layout.packed(LENGTHS)
    order, rows_left = layout.by_step()
    assert rows_left.tolist() == [int((step < LENGTHS).sum()) for step in range(LONGEST)]
    first, *_ = steps = order.split(rows_left.tolist())
    for step, places in enumerate(steps):
        assert (layout.column[places] == step).all()
        lengths = LENGTHS[layout.owner[places]]
        assert (lengths > step).all() and (lengths.diff() <= 0).all()
        assert len(layout.owner[places].unique()) == len(places)
        assert torch.equal(layout.owner[places], layout.owner[first[: len(places)]])


@pytest.mark.parametrize("kind", LAYOUTS)
def test_rows_have_the_states_they_have_alone(small: Recommender, kind: str) -> None:
    torch.manual_seed(0)
    model = make_model(small.model_copy(update={"max_length": LONGEST}), 50).eval()
    tokens = torch.randint(1, 51, (len(LENGTHS), LONGEST))
    tokens[torch.arange(LONGEST) >= LENGTHS[:, None]] = 0
    layout = LAYOUTS[kind](LENGTHS)
    states = model.states_of(model.item_table.everything(), layout.lay(tokens), layout)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, _ = model.states(tokens[row : row + 1, :length], LENGTHS[row : row + 1])
        torch.testing.assert_close(states[layout.owner == row], alone)

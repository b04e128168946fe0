"""What infers vectors: it reads contexts and nothing else, learns what they tell, and goes on after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmser_tasks.core.progress import silent
from llmser_tasks.methods.cities.contexts import Contexts
from llmser_tasks.methods.cities.inference import Inference, Teacher
from llmser_tasks.sequences.histories import Histories

ITEMS, WIDTH = 40, 8


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ring() -> Contexts:
    """Everybody walks along 1 … 40, so what an item is can be told by what stands beside it."""
    random = np.random.default_rng(0)
    starts, lengths = random.integers(0, ITEMS, 200), random.integers(3, 8, 200)
    walks = [(start + np.arange(length)) % ITEMS + 1 for start, length in zip(starts, lengths, strict=True)]
    return Contexts.of(Histories.of(range(200), walks), ITEMS)


def table() -> torch.Tensor:
    """Vectors on a circle, in units that have nothing to do with one."""
    angles = torch.arange(ITEMS + 1)[:, None] * (2 * np.pi / ITEMS) * torch.tensor([1.0, 1.0, 1.0, 1.0])
    vectors = 0.01 * torch.cat([angles.sin(), angles.cos()], dim=1)
    vectors[0] = 0
    return vectors


TAUGHT = np.array([item for item in range(1, ITEMS + 1) if item % 5])
RARE = np.array([item for item in range(1, ITEMS + 1) if item % 5 == 0])


def teacher(seed: int = 1) -> Teacher:
    return Teacher(table(), ring(), TAUGHT, 10, seed)


def learn(folder: Path, seed: int = 1, epochs: int = 4, progress: Any = silent) -> dict[str, torch.Tensor]:
    folder.mkdir(exist_ok=True)
    function, _ = teacher(seed).learn(folder, 3e-3, epochs, epochs, progress)
    assert not list(folder.iterdir()), "nothing of it is left"
    return function.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(values, other[name]) for name, values in one.items())


def by_hand(function: Inference, vectors: list[list[int]], places: list[list[int]]) -> torch.Tensor:
    """One item's vector, context by context, without padding."""
    rows = table()
    seen = []
    for items, at in zip(vectors, places, strict=True):
        tokens = rows[torch.tensor(items)] * function.weight[at][:, None]
        angle = torch.tensor(at)[:, None] / 10_000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
        tokens[:, 0::2] += angle.sin()
        tokens[:, 1::2] += angle.cos()
        seen.append(function.items(tokens[None])[0].mean(0))
    return function.out(function.contexts(torch.stack(seen)[None])[0].mean(0))


def test_an_items_vector_is_made_of_its_contexts_whatever_stands_beside_it() -> None:
    torch.manual_seed(1)
    function = Inference(WIDTH).eval()
    torch.nn.init.normal_(function.weight)
    own = [[[3, 4], [7], [9, 1, 2]], [[5, 6, 7, 8]]]
    places = [[[22, 24], [25], [0, 23, 47]], [[1, 2, 3, 40]]]
    longest = 4
    flat = [row for item in own for row in item]
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in flat])
    at = torch.tensor([row + [0] * (longest - len(row)) for item in places for row in item])
    of_item = torch.tensor([0, 0, 0, 1])
    made = function(table()[tokens], at, tokens > 0, of_item, 2)
    for row in range(2):
        torch.testing.assert_close(made[row], by_hand(function, own[row], places[row]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [4, 6, 7])
def test_any_width_has_heads_that_divide_it(width: int) -> None:
    function = Inference(width)
    made = function(torch.randn(2, 3, width), torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3) > 0,
                    torch.tensor([0, 1]), 2)  # fmt: skip
    assert made.shape == (2, width) and bool(torch.isfinite(made).all())
    made.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in function.parameters() if p.grad is not None)


def test_it_finds_the_vectors_of_items_that_it_has_not_learned_on(tmp_path: Path) -> None:
    taught_by = teacher()
    function, learned = taught_by.learn(tmp_path, 3e-3, 60, 60, silent)
    inferred, rows = taught_by.infer(function, RARE), table()[torch.from_numpy(RARE)]
    assert float((inferred - rows).square().mean()) < 0.3 * float(rows.square().mean())
    assert learned.best_epoch == 1 + int(np.argmin(learned.errors)) and min(learned.errors) < 0.3


def test_the_seed_decides_all_and_what_was_drawn_before_nothing(tmp_path: Path) -> None:
    one = learn(tmp_path / "one")
    torch.rand(7)
    before = torch.get_rng_state()
    assert same(one, learn(tmp_path / "again"))
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(one, learn(tmp_path / "other", seed=2))


def test_killed_it_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    def interrupt(done: int, *_: object, **__: object) -> None:
        if done == 2:
            raise KeyboardInterrupt

    (tmp_path / "killed").mkdir()
    with suppress(KeyboardInterrupt):
        teacher().learn(tmp_path / "killed", 3e-3, 4, 4, interrupt)
    gone_on: list[int] = []
    killed = learn(tmp_path / "killed", progress=lambda done, *_: gone_on.append(done))
    assert gone_on == [3, 4]
    assert same(killed, learn(tmp_path / "whole"))


def test_it_stops_when_what_was_held_out_gets_no_better(tmp_path: Path) -> None:
    _, learned = teacher().learn(tmp_path, 10.0, 200, 3, silent)
    assert len(learned.errors) == learned.best_epoch + 3 < 200
    assert len(teacher().held) == 2 and not set(teacher().held) & set(teacher().taught)


def test_a_single_item_can_teach(tmp_path: Path) -> None:
    function, _ = Teacher(table(), ring(), np.array([7]), 10, 1).learn(tmp_path, 1e-3, 2, 2, silent)
    assert bool(torch.isfinite(Teacher(table(), ring(), np.array([7]), 10, 1).infer(function, RARE)).all())

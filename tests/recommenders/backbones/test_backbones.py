"""What a state may depend on, and what the models are asked to predict."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import BACKBONES
from llmser_tasks.recommenders.backbones.bert4rec import BERT4Rec
from llmser_tasks.recommenders.backbones.gru4rec import GRU4Rec
from llmser_tasks.recommenders.backbones.transformer import positions_from_end
from llmser_tasks.recommenders.layout import SHORT, Layout
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.model import Model

ITEMS = 20


def ready(config: Recommender) -> Model:
    torch.manual_seed(1)
    model = make_model(config, ITEMS)
    with torch.no_grad():
        for parameter in model.parameters():  # away from the symmetric start, so that every path matters
            parameter.add_(torch.randn_like(parameter) * 0.3)
        model.table[0] = 0
    return model.eval()


def rows(*sequences: list[int]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, sequences))
    padded = [sequence + [0] * (longest - len(sequence)) for sequence in sequences]
    return torch.tensor(padded), torch.tensor([len(sequence) for sequence in sequences])


def states_of(model: Model, tokens: Tensor) -> Tensor:
    """(B, L, d) states of rows without padding."""
    lengths = torch.full((len(tokens),), tokens.shape[1])
    return model.states(tokens, lengths)[0].view(*tokens.shape, -1)


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "esasrec"])
def test_a_causal_state_does_not_see_later_items(backbone: str) -> None:
    model = ready(Recommender(backbone=backbone, dimension=16, max_length=8))
    tokens, _ = rows([3, 7, 2, 9, 4])
    before = states_of(model, tokens)
    for t in range(1, 5):
        changed = tokens.clone()
        changed[0, t] = 15
        after = states_of(model, changed)
        assert torch.equal(after[0, :t], before[0, :t])
        assert not torch.allclose(after[0, t], before[0, t])
        assert not torch.allclose(after[0, -1], before[0, -1])


def test_a_gpu_and_a_cpu_recur_alike() -> None:
    model = ready(Recommender(backbone="gru4rec", dimension=16))
    assert isinstance(model, GRU4Rec)
    layout = Layout.back_to_back(torch.tensor([3, SHORT + 6, 1, 9]))
    x = torch.randn(len(layout.owner), 16)
    torch.testing.assert_close(model.row_by_row(x, layout), model.step_by_step(x, layout))


def test_a_bidirectional_state_sees_both_sides() -> None:
    model = ready(Recommender(backbone="bert4rec", dimension=16, max_length=8))
    tokens, _ = rows([3, 7, 2, 9, 4])
    before = states_of(model, tokens)
    for t in (0, 4):
        changed = tokens.clone()
        changed[0, t] = 15
        assert not torch.allclose(states_of(model, changed)[0, 2], before[0, 2])


def test_attention_in_both_directions_begins_by_preferring_what_is_near() -> None:
    torch.manual_seed(1)
    model = make_model(Recommender(backbone="bert4rec", max_length=8), ITEMS).eval()  # as a training finds it
    tokens, _ = rows([3, 7, 2, ITEMS + 1, 9, 4, 6])

    def moved(place: int) -> float:
        """How far the state in the middle moves with the item at `place`, on average over items."""
        changed = tokens.repeat(8, 1)
        changed[:, place] = torch.arange(11, 19)
        states = [states_of(model, these)[:, 3].detach() for these in (changed, tokens)]
        return float((states[0] - states[1]).norm(dim=1).mean())

    assert moved(2) > 2 * moved(0) and moved(4) > 2 * moved(6)


def test_padding_changes_nothing(small: Recommender) -> None:
    model = ready(small)
    alone = model.encode(*rows([3, 7, 2]))
    beside = model.encode(*rows([3, 7, 2], [5, 6, 7, 8, 9, 10, 11, 12]))
    torch.testing.assert_close(beside[:1], alone)


def test_an_empty_context_is_a_state_of_zeros(small: Recommender) -> None:
    model = ready(small)
    states = model.encode(*rows([], [4, 5]))
    assert torch.equal(states[0], torch.zeros(16))
    assert states[1].abs().sum() > 0
    assert torch.isfinite(model.encode(torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, dtype=torch.long))).all()


def test_positions_count_from_the_end() -> None:
    layout = Layout.packed(torch.tensor([2, 4]))
    places = positions_from_end(layout, most=8)
    assert places[layout.owner == 0].tolist() == [6, 7]
    assert places[layout.owner == 1].tolist() == [4, 5, 6, 7]


def test_the_feed_forward_block_takes_part() -> None:
    for backbone in ("sasrec", "bert4rec"):
        model = ready(Recommender(backbone=backbone, dimension=16, max_length=8))
        before = model.encode(*rows([3, 7, 2]))
        with torch.no_grad():
            model.blocks[0].feed_forward[0].weight.mul_(2)
        assert not torch.allclose(model.encode(*rows([3, 7, 2])), before)


def test_causal_examples_pair_every_item_with_the_next() -> None:
    model = ready(Recommender(backbone="sasrec", dimension=16, max_length=8))
    examples = model.examples(*rows([3, 7, 2], [5], [6, 1]), torch.Generator())
    assert examples.tokens.tolist() == [[3, 7], [0, 0], [6, 0]]
    assert examples.lengths.tolist() == [2, 0, 1]
    assert examples.positives[examples.predict].tolist() == [7, 2, 1]


def test_bert4rec_trains_on_mask_tokens() -> None:
    model = ready(Recommender(backbone="bert4rec", dimension=16, max_length=8))
    assert isinstance(model, BERT4Rec)
    tokens, lengths = rows(*[[3, 7, 2, 9, 4]] * 400, [5], [6, 1])
    examples = model.examples(tokens, lengths, torch.Generator().manual_seed(0))
    masked = examples.tokens == model.mask_token
    shown = torch.arange(5) < examples.lengths[:, None]
    assert torch.equal(masked, examples.predict)
    assert torch.equal(examples.positives[shown], tokens[shown])
    assert torch.equal(examples.tokens[shown & ~masked], tokens[shown & ~masked])
    assert not examples.tokens[~shown].any()
    counts = masked.sum(1)
    assert (counts[:400] >= 1).all() and (counts[:400] <= 4).all()  # something to predict, something to see
    assert counts[400] == 0  # a single item has no context
    assert counts[401] == 1
    ends = examples.lengths[:400]
    assert set(ends.tolist()) == {2, 3, 4, 5}  # prefixes of every length that leaves a context
    cut = ends < 5
    assert 0.25 < cut.float().mean() < 0.5  # half the rows, a quarter of them cut to the whole row
    assert (counts[:400][cut] == 1).all() and masked[:400][cut, ends[cut] - 1].all()  # what inference asks
    assert masked[:400][~cut].any(0).all()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_context_items_are_shown_but_never_targets(backbone: str) -> None:
    model = ready(Recommender(backbone=backbone, dimension=16, max_length=8))
    tokens, lengths = rows(*[[11, 12, 13, 1, 2]] * 200, [11, 12, 3], [4, 5, 6])
    context = torch.tensor([3] * 200 + [2, 0])
    examples = model.examples(tokens, lengths, torch.Generator().manual_seed(0), context)
    targets = [set(examples.positives[row][examples.predict[row]].tolist()) for row in range(202)]
    assert set().union(*targets[:200]) == {1, 2}
    assert targets[200] == {3}
    assert targets[201]
    assert (examples.tokens[:200, :3] == tokens[:200, :3]).all()


def test_bert4rec_asks_with_a_mask_behind_the_context() -> None:
    model = ready(Recommender(backbone="bert4rec", dimension=16, max_length=8))
    context = [3, 7, 2, 9, 4, 1, 2, 6]
    expected = states_of(model, torch.tensor([[*context, ITEMS + 1]]))[:, -1]
    torch.testing.assert_close(model.encode(*rows(context)), expected)


def test_output_embeddings_are_the_input_embeddings(small: Recommender) -> None:
    model = ready(small)
    assert model.table.shape == (ITEMS + 1, 16)
    (own,) = model.item_table.parameters()
    assert model.table.data_ptr() == own.data_ptr()
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    assert sum(shape[0] in (ITEMS + 1, ITEMS + 2) for shape in shapes) == 1

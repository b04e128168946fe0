"""Two views of an item, as LLM-ESR has them (Liu et al., NeurIPS 2024): ids that begin as the principal components of
the items' vectors, and what an adapter makes of these vectors, which stay as they are. A sequence is seen in both, each
of them looks at the other, and one encoder reads the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import ItemTable
from llmser_tasks.recommenders import marks
from llmser_tasks.recommenders.items.projection import Projection
from llmser_tasks.recommenders.items.table import Encoder, Gathered, PerItem, Table
from llmser_tasks.recommenders.kernels.attention import Attention
from llmser_tasks.recommenders.kernels.gather import pick
from llmser_tasks.recommenders.layout import Layout

DECLARED = ItemTable(title="dual view", place=9, needs=("item-vectors",), features=("item_vectors",))

HEADS = 2  # of the attention between views
CO_VIEW, SE_VIEW, SHARING, CROSS_ATTENTION = "co-view", "se-view", "sharing", "cross-attention"
SECOND_LAYER, PCA_START, FREEZING = "second-layer", "pca-start", "freezing"
BARENESS = "bare-attention"  # the paper's: nothing around the attention between views; without it there are residuals
ADAPTER = "adapter"  # the vectors have been adapted before: what a model is exported with
NEED_BOTH_VIEWS = (SHARING, CROSS_ATTENTION, BARENESS)
OF_CO_VIEW, OF_SE_VIEW = (PCA_START,), (SECOND_LAYER, FREEZING, ADAPTER)


class DualView(Table):
    """An item is [C ; A(S)], both of the backbone's dimension d; a state is what the encoder makes of one view beside
    what it makes of the other, so a score is the sum of both views' dot products.

    The views look at each other between what a backbone begins with (vectors times √d, positions, dropout: `embed`) and
    its encoder, for every backbone: the released GRU4Rec takes the bare vectors there, ours scales and drops them out
    first. A token looks at what the backbone lets it look at: causal models at what came before, BERT4Rec at the
    whole row, nearer tokens first. (The released code lets all look at everything, the next item included.)

    Attributes:
        vectors: the name of S: frozen features, unless `without` freezing.
    """

    parts: ClassVar[tuple[str, ...]] = (
        CO_VIEW,
        SE_VIEW,
        SHARING,
        CROSS_ATTENTION,
        SECOND_LAYER,
        PCA_START,
        FREEZING,
        BARENESS,
        ADAPTER,
    )

    def __init__(
        self,
        config: Recommender,
        items: int,
        extra_tokens: int = 0,
        features: Mapping[str, Tensor] | None = None,
        without: Sequence[str] = (),
    ) -> None:
        super().__init__(config, items, extra_tokens, features, without)
        _refuse_nothing_to_leave_out(self.without)
        self.config = config
        self.view_width = config.dimension
        given = self.feature("item_vectors").shape[1]
        self.ids = None if CO_VIEW in without else PerItem(self, self.view_width)
        self.start = None if {CO_VIEW, PCA_START} & set(without) else Projection(given, self.view_width)
        self.adapter: Adapter | None = None
        self.trained: PerItem | None = None
        if SE_VIEW not in without:
            layers = 0 if ADAPTER in without else 1 if SECOND_LAYER in without else 2
            self.adapter = Adapter(given, self.view_width, extra_tokens, layers)
            self.trained = PerItem(self, given) if FREEZING in without else None
        both = self.ids is not None and self.adapter is not None
        self.width = 2 * self.view_width if both else self.view_width
        crosses = both and CROSS_ATTENTION not in without
        self.crossing = CrossAttention(self.view_width, BARENESS not in without) if crosses else None
        self.more_encoders = 1 if SHARING in without else 0

    def initialise(self, deviation: float) -> None:
        """C begins as principal components. What stands between vectors and encoder keeps their size (Glorot and
        Bengio, 2010): of a backbone's small weights, one behind the other, next to nothing would come through.
        """
        super().initialise(deviation)
        for module in (self.adapter, self.crossing):
            for part in module.modules() if module else ():
                if isinstance(part, nn.Linear):
                    nn.init.xavier_normal_(part.weight)
        if self.crossing is not None and not self.crossing.bare:
            for out in self.crossing.outs:
                nn.init.zeros_(cast(nn.Linear, out).weight)
        if self.ids is not None and self.start is None:
            nn.init.xavier_normal_(self.ids.weight[1:])
        with torch.no_grad():
            if self.start is not None:
                self.start.fit(self.feature("item_vectors"), None)
            for name, rows in self.beginnings().items():
                self.get_parameter(name).copy_(rows)

    @torch.no_grad()
    def beginnings(self) -> dict[str, Tensor]:
        """(size, …) what items begin with in each of `per_item`: their text, where they have one."""
        vectors = self.feature("item_vectors")
        rows = {name: weight.detach().clone() for name, weight in self.per_item().items()}
        if self.start is not None:
            rows["ids.weight"] = torch.where(vectors.any(1)[:, None], self.start(vectors), rows["ids.weight"])
        if self.trained is not None:
            rows["trained.weight"] = vectors.clone()
        return rows

    def rows(self, ids: Tensor) -> Tensor:
        views: list[Tensor] = []
        if self.ids is not None:
            views.append(self.ids.rows(ids))
        if self.adapter is not None:
            vectors = (
                self.feature("item_vectors").index_select(0, ids) if self.trained is None else self.trained.rows(ids)
            )
            views.append(self.adapter(vectors, ids, self.items))
        return torch.cat(views, dim=1) if len(views) > 1 else views[0]

    def states(self, encoder: Encoder, gathered: Gathered, laid: Tensor, layout: Layout) -> Tensor:
        if self.read_plainly:
            return super().states(encoder, gathered, laid, layout)
        views = torch.split(gathered.vectors, self.view_width, dim=1)
        if self.more_encoders:
            return self._states_apart(
                [encoder, *cast("Iterable[Encoder]", self.encoders)], gathered, views, laid, layout
            )
        twice = layout.twice()
        both = Gathered(torch.cat([gathered.ids, gathered.ids]), torch.cat(views))
        embedded = encoder.embed(both, twice.stack(laid, laid + len(gathered.ids)), twice.layout)
        if self.crossing is not None:
            embedded = twice.stack(*self.crossing(*twice.split(embedded), encoder.attention(layout)))
        return torch.cat(twice.split(encoder.contextual(embedded, twice.layout)), dim=1)

    @property
    def read_plainly(self) -> bool:
        return self.width == self.view_width

    @torch.no_grad()
    def finished(self) -> DualView:
        """The same with A(S) in the place of S and A, so that nothing of the texts is left in it."""
        if self.adapter is None:
            return self
        features = {"item_vectors": self.all()[: self.items + 1, -self.view_width :].clone()}
        kept = set(self.without) - {FREEZING, SECOND_LAYER} | {ADAPTER, PCA_START}
        table = DualView(self.config, self.items, self.size - self.items - 1, features, sorted(kept)).to(self.device)
        table.name, table.encoders = self.name, self.encoders
        own = table.state_dict()
        table.load_state_dict({name: values for name, values in self.state_dict().items() if name in own})
        return table

    @torch.no_grad()
    def put(self, ids: Tensor, vectors: Tensor) -> None:
        assert self.ids is not None and ADAPTER in self.without, "both views, finished; one alone is finished as ids"
        self.ids.weight[ids], self.feature("item_vectors")[ids] = torch.split(vectors, self.view_width, dim=1)

    def _states_apart(
        self, encoders: Sequence[Encoder], gathered: Gathered, views: Sequence[Tensor], laid: Tensor, layout: Layout
    ) -> Tensor:
        """The same, with an encoder for each view; the first alone knows marks."""
        plain = marks.unmarked(laid)
        seen = [
            one.embed(replace(gathered, vectors=view), laid if one is encoders[0] else plain, layout)
            for one, view in zip(encoders, views, strict=True)
        ]
        if self.crossing is not None:
            seen = self.crossing(*seen, encoders[0].attention(layout))
        return torch.cat([one.contextual(x, layout) for one, x in zip(encoders, seen, strict=True)], dim=1)


class Adapter(nn.Module):
    """A: vectors of D numbers → d, by two layers with nothing between them; 0 for padding, and vectors of their own for
    the backbone's tokens.

    Two such layers are one matrix in function and two in optimisation. Multiplied with each other first they cost
    what one costs.
    """

    def __init__(self, given: int, width: int, extra_tokens: int, layers: int) -> None:
        """
        Args:
            layers: 2, the paper's 1, or 0, where vectors are of width d and taken as they are.
        """
        super().__init__()
        sizes = [[given], [given, width], [given, max(1, given // 2), width]][layers]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.tokens = nn.Embedding(extra_tokens, width)

    def forward(self, vectors: Tensor, ids: Tensor, items: int) -> Tensor:
        """(R, D) vectors of ids (R,) → (R, d)."""
        layers = [cast(nn.Linear, layer) for layer in self.layers]
        if layers:
            weight, bias = layers[0].weight, layers[0].bias
            for layer in layers[1:]:
                weight, bias = layer.weight @ weight, layer(bias)
            vectors = F.linear(vectors, weight, bias)
        adapted = vectors.masked_fill((ids == 0)[:, None], 0.0)
        if self.tokens.num_embeddings:
            own = pick(self.tokens.weight, (ids - items - 1).clamp(min=0))
            adapted = torch.where((ids > items)[:, None], own, adapted)
        return adapted


class CrossAttention(nn.Module):
    """X̂_c = attention(queries of X_s, keys and values of X_c), and X̂_s the other way round: two attentions, without
    norms, with biases behind them alone.

    Bare, as in the paper, they put means of what came before in the place of items. With residuals, X̂ = X + attention,
    and what comes out of the attention begins as 0: a training starts from two views that do not look at each other.
    """

    def __init__(self, width: int, bare: bool = True) -> None:
        super().__init__()
        self.bare = bare
        if width % HEADS:
            raise InputError(
                f"Two views look at each other with {HEADS} heads, so the dimension must be even, not {width}; "
                "set another dimension."
            )
        # of each view: its queries to the other, then its own keys and values
        self.projections = nn.ModuleList(nn.Linear(width, 3 * width, bias=False) for _ in range(2))
        self.outs = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, first: Tensor, second: Tensor, attention: Attention) -> tuple[Tensor, Tensor]:
        """(T, d) and (T, d) → the same shapes."""
        width = first.shape[1]
        to_second, first_key, first_value = torch.split(self.projections[0](first), width, dim=1)
        to_first, second_key, second_value = torch.split(self.projections[1](second), width, dim=1)
        projected = torch.cat([to_first, to_second, first_key, second_key, first_value, second_value], dim=1)
        attended = torch.split(attention(projected, 2 * HEADS), width, dim=1)
        seen = self.outs[0](attended[0]), self.outs[1](attended[1])
        return seen if self.bare else (first + seen[0], second + seen[1])


def _refuse_nothing_to_leave_out(without: Sequence[str]) -> None:
    """
    Raises:
        InputError: one part is left out together with another that it is a part of, or both views are.
    """
    of = {
        CO_VIEW: {SE_VIEW, *OF_CO_VIEW, *NEED_BOTH_VIEWS},
        SE_VIEW: {*OF_SE_VIEW, *NEED_BOTH_VIEWS},
        CROSS_ATTENTION: {BARENESS},
    }
    for one, other in combinations(without, 2):
        if other in of.get(one, ()) or one in of.get(other, ()):
            raise InputError(
                f"The item table dual-view cannot be without {one} and {other} at once, because nothing would be "
                "left that the other is a part of; leave out one of the two (--without)."
            )


ITEM_TABLE = DualView

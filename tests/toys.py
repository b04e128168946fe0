"""Item tables and a term that only tests have, and a package that has them beside its own."""

from __future__ import annotations

import re
from pathlib import Path

from llmser_tasks.core import reachable

PACKAGE = Path(reachable.__file__).parents[1]
(IDS_AND_TITLES,) = re.findall(
    r"```python\n([^`]*ITEM_TABLE[^`]*)```", (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
)
TWO_VIEWS = '''
"""Ids and titles side by side: twice as wide as the backbone, which reads one after the other."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from llmser_tasks.core.kinds import ItemTable
from llmser_tasks.recommenders.items.table import PerItem, Table

DECLARED = ItemTable(title="two views", place=91, features=("titles",))


class TwoViews(Table):
    def __init__(self, *given) -> None:
        super().__init__(*given)
        self.half = self.width
        self.width = 2 * self.half
        self.ids = PerItem(self, self.half)
        self.scale = PerItem(self, 1)
        self.fixed = PerItem(self, 1).requires_grad_(False)
        self.adapter = nn.Linear(self.feature("titles").shape[1], self.half)

    def initialise(self, deviation: float) -> None:
        super().initialise(deviation)
        nn.init.zeros_(self.scale.weight)

    def rows(self, ids: Tensor) -> Tensor:
        seen = self.adapter(self.feature("titles")[ids])
        return torch.cat([self.ids.rows(ids), seen * (1 + self.scale.rows(ids) + self.fixed.rows(ids))], dim=1)

    def states(self, encoder, gathered, laid, layout) -> Tensor:
        views = gathered.vectors.split(self.half, dim=1)
        seen = [encoder.embed(replace(gathered, vectors=view), laid, layout) for view in views]
        return torch.cat([encoder.contextual(one, layout) for one in seen], dim=1)


ITEM_TABLE = TwoViews
'''
PREFERENCE = '''
"""-log σ(score of the better item - score of the worse one), after a user's last item."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.core.kinds import Term
from llmser_tasks.recommenders.loop.minibatches import Sequences
from llmser_tasks.recommenders.terms.term import Encoded, TermBatch, TermInputs, UserTerm

DECLARED = Term(title="preference", place=90, features=("better", "worse"))


@dataclass(frozen=True)
class Pairs(TermBatch):
    better: Tensor
    worse: Tensor

    @property
    def wanted_items(self):
        return self.better, self.worse

    def losses(self, encoded: Encoded, users: int) -> Tensor:
        better, worse = (encoded.gathered.vectors[rows] for rows in encoded.rows)
        states = encoded.at(torch.arange(len(self.owner)), self.lengths - 1)
        each = F.softplus(-(states * (better - worse)).sum(1))
        return torch.zeros(users).index_add(0, self.owner, each)


class Preference(UserTerm):
    def __init__(self, inputs: TermInputs) -> None:
        self.sequences = Sequences.of(inputs.sequences, inputs.device)
        self.better, self.worse = inputs.features["better"], inputs.features["worse"]

    def teaches(self):
        return (self.better > 0).numpy()

    def batch(self, model, rows: Tensor, wanted: Tensor, seed: int) -> Pairs:
        rows_here = torch.nonzero(wanted & (self.better[rows] > 0))[:, 0]
        users = rows[rows_here]
        shown = model.open_ended(*self.sequences.gather(users, model.max_length))
        return Pairs(rows_here, *shown, self.better[users], self.worse[users])


make_term = Preference
'''
FILES = {
    "recommenders/items/ids_and_titles.py": IDS_AND_TITLES,
    "recommenders/items/two_views.py": TWO_VIEWS,
    "recommenders/terms/preference.py": PREFERENCE,
}
TABLES = ("ids-and-titles", "two-views")


def house(folder: Path) -> Path:
    """A folder with a package of links to ours and these files, so that nothing is compiled anew."""
    own = {Path(), *(parent for name in FILES for parent in Path(name).parents)}
    for part in sorted(own):
        (folder / PACKAGE.name / part).mkdir(parents=True)
        for path in (PACKAGE / part).iterdir():
            if part / path.name not in own and path.name != "__pycache__":
                (folder / PACKAGE.name / part / path.name).symlink_to(path)
    for name, text in FILES.items():
        (folder / PACKAGE.name / name).write_text(text, encoding="utf-8")
    return folder

"""Self-distillation among users, as LLM-ESR has it (Liu et al., NeurIPS 2024): a user's state is drawn towards the
mean of what the model makes of the users nearest to this one.

The teachers' states are worked out once an epoch, from the weights as they are judged and without dropout. (The
released code encodes every neighbour in every step, with dropout.) The student is shown its whole sequence, as where it
is recommended to. (There the last item is missing: a user with one item then has an empty sequence, whose state has no
gradient, and teaches others nothing.)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from llmser_tasks.core.kinds import Term
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.terms.students import Students, Taught, for_all
from llmser_tasks.recommenders.terms.term import Encoded, TermInputs

DECLARED = Term(title="self-distillation", place=3, features=("user_neighbours",))


@dataclass(frozen=True)
class Drawn(Students):
    """R users, a sequence each.

    Attributes:
        taught: (R, w) what their states are drawn to.
    """

    taught: Tensor

    def losses(self, encoded: Encoded, users: int) -> Tensor:
        return for_all((self.last(encoded) - self.taught).square().mean(1), self.owner, users)


class Distillation(Taught):
    """The mean over the dimensions of (u - ū)², where u is a user's state behind the last item and ū the mean state of
    the user's neighbours, which has no gradient; its expectation, that is.
    """

    def __init__(self, inputs: TermInputs) -> None:
        super().__init__(inputs, "Self-distillation")

    def batch(self, model: Model, rows: Tensor, wanted: Tensor, seed: int) -> Drawn:
        owner, tokens, lengths = self.students(model, rows, wanted, seed)
        return Drawn(owner, tokens, lengths, self.teachers.mean(rows[owner]))


make_term = Distillation

"""Pseudo-prior items of ASReP: the reverse model extends short histories at their front, one item after the other.

Each item is the likeliest one to have come before all that is there, and then counts as there itself. The released code
differs where it is wrong: it generates after validation and test items too, ranks padding among the items, and keeps
those generated items that are furthest from v_1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmser_tasks import recommenders
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.asrep.settings import Asrep
from llmser_tasks.methods.llmser import parts
from llmser_tasks.recommenders import Model
from llmser_tasks.recommenders.load import modules_in
from llmser_tasks.sequences.histories import Histories, Ints

DECLARED = Step(title="Extend short histories (ASReP)", place=2, needs=("reverse",), ranks=True)

STEP = "prior-items"
FILE = "prior_items.parquet"


def check(run: Run, refs: Refs) -> None:
    """
    Raises:
        InputError: the run does not train the reverse model.
    """
    del refs
    if part := parts.left_out(parts.REVERSE, run.config):
        raise InputError(
            f"ASReP extends histories with the model that is trained backwards, which a run without {part} does not "
            f"have; take {part} back in (--without, --pool-from), or asrep out of the methods."
        )


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Extend every training history of fewer than `asrep_length` items to that length, by at most `asrep_items`.

    `prior_items.parquet`: user, items in sequence order (the first generated one last, before v_1).
    """
    settings = run.config.of(Asrep)
    most, length = settings.asrep_items, settings.asrep_length
    reverse = artefact(refs, parts.REVERSE)

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.of_run(run, refs)
        wanted = np.clip(length - histories.lengths, 0, most)
        model = recommenders.load(run.workspace.folder(reverse))
        made = extend(model, histories.reverse(), wanted, progress).reverse()
        made.write(folder / FILE)
        return {
            "users": len(made),
            "extended": int((made.lengths > 0).sum()),
            "items": len(made.items),
            "mean_per_user": round(float(made.lengths.mean()), 3) if len(made) else 0.0,
        }

    return run.workspace.produce(
        STEP,
        run.dataset,
        write,
        inputs={"training": artefact(refs, "training"), parts.REVERSE: reverse},
        config={"items": most, "length": length},
        chosen=modules_in(run.workspace.folder(reverse)),
    )


def extend(model: Model, sequences: Histories, wanted: NDArray[np.int64], progress: Progress = silent) -> Histories:
    """What follows each sequence: the model's likeliest item that is not there yet, again and again.

    Args:
        wanted: (U,) how many; fewer where the catalogue has no more.

    Returns:
        (U) the new items alone, in the order in which they were generated.
    """
    rounds = int(wanted.max(initial=0))
    generated = np.zeros((len(sequences), rounds), np.int32)
    going = wanted.copy()  # the round at which each ends
    for done in range(rounds):
        open_ = np.flatnonzero(going > done)
        so_far = sequences.select(open_).then(_rows(sequences.users[open_], generated[open_, :done]))
        best, _ = recommenders.top_k(model, so_far, 1, so_far)
        generated[open_, done] = best[:, 0]
        going[open_[best[:, 0] == 0]] = done
        progress(done + 1, rounds, "items")
    return _rows(sequences.users, generated)


def _rows(users: Ints, items: Ints) -> Histories:
    """Sequences from rows of items that are padded with 0 on the right."""
    offsets = np.concatenate([[0], np.cumsum((items > 0).sum(axis=1))]).astype(np.int64)
    return Histories(users, offsets, items[items > 0])

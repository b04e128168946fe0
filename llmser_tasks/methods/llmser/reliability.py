"""Scoring (§3.3, Eq. 6) and weight decay (§3.4, Eq. 8): how far each user's pseudo items are trusted.

ω_u is the BERT cosine of the titles of the named and the masked item, α_u = ω_u for tail users (n_u ≤ T) and β·ω_u for
the others. A user without pseudo items, usable answer or comparable titles keeps ω_u = α_u = 0, with the reason, and
stays in training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmser_tasks.asking.picks import Picks
from llmser_tasks.core.files import EMBEDDINGS, PSEUDO, RELIABILITY
from llmser_tasks.core.kinds import Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact
from llmser_tasks.methods.llmser import parts
from llmser_tasks.methods.llmser.bert import cosines
from llmser_tasks.methods.llmser.reasons import MASKED_UNTITLED, NO_CANDIDATE, NO_PSEUDO_ITEMS
from llmser_tasks.methods.llmser.record import record
from llmser_tasks.sequences.artefacts import threshold_of
from llmser_tasks.sequences.catalogue import Catalogue, Ints
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.sequences.pools import POOLS
from llmser_tasks.texts.encoder import Embedder, Encoder, locate

DECLARED = Step(
    title="Compare titles, weigh users (ARV)",
    place=8,
    needs=("pseudo", "rcs", "reason"),
    tables=("pseudo_items", "reliability"),
)

STEP = parts.RELIABILITY
SCHEMA = pa.schema(
    [
        ("user", pa.int32()),
        ("n", pa.int32()),
        ("masked", pa.int32()),
        ("named", pa.int32()),
        ("source", pa.string()),
        ("omega", pa.float64()),
        ("alpha", pa.float64()),
        ("reason", pa.string()),
    ]
)


def prepare(run: Run) -> None:
    """
    Raises:
        InputError: the encoder is not there; better said now than after everything was paid for.
    """
    if not run.config.without("arv"):
        locate(run.config.reliability.encoder)


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """ω and α of every training user, into the artefact store and, unless the run stands aside, Postgres.

    Raises:
        InputError: users have not been asked yet.
    """
    made = score(run, refs, progress)
    if not run.aside:
        record(run, refs, made)
    return made


def score(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Write ω and α of every training user.

    Columns of `reliability.parquet`: user, n (n_u), masked, named (null: none), source (of the named item), omega,
    alpha, reason (why ω is 0 without a comparison).

    The named items are the run's Reason picks; without Reason, the first titled item of each RCS pool; without ARV
    nothing, and every user's pseudo items are trusted fully. Without weight decay β is 1.

    Raises:
        InputError: users have not been asked yet.
    """
    config, tail_threshold = run.config, threshold_of(run, refs)
    beta = 1.0 if config.without("wd") else config.reliability.beta
    picks = None if parts.left_out(parts.REASON, config) else Picks.of_run(run, refs, parts.REASON)
    compares = not config.without("arv")
    encoder = Encoder.open(config.reliability.encoder) if compares else None

    def write(folder: Path) -> dict[str, Any]:
        histories = Histories.of_run(run, refs)
        enhancements = Histories.read(run.folder(refs, "pseudo") / PSEUDO)
        assert np.array_equal(histories.users, enhancements.users), "pseudo items belong to other users"
        known = Catalogue.of_run(run, refs)
        lengths, masked, trusted = histories.lengths, histories.last(), enhancements.lengths > 0
        if encoder is None:
            named = np.zeros(len(histories), np.int32)
            source, reason = _where(trusted, "none"), _where(~trusted, NO_PSEUDO_ITEMS)
            omega = alpha = trusted.astype(np.float64)
        else:
            if picks is not None:
                named, source, reason = picks.likeliest(histories.users)
            else:
                named, source, reason = _from_pools(Histories.read(run.folder(refs, "rcs") / POOLS), known)
            titled = known.titled[masked]
            reason[~titled], reason[~trusted] = MASKED_UNTITLED, NO_PSEUDO_ITEMS
            named[~(trusted & titled)], source[~(trusted & titled)] = 0, None
            omega = _omega(named, masked, known, encoder, run.workspace.root / EMBEDDINGS, progress)
            alpha = np.where(lengths > tail_threshold, beta, 1.0) * omega
        columns = [
            pa.array(histories.users, pa.int32()),
            pa.array(lengths, pa.int32()),
            pa.array(masked, pa.int32()),
            pa.array(named, pa.int32(), mask=named == 0),
            pa.array(source, pa.string()),
            pa.array(omega),
            pa.array(alpha),
            pa.array(reason, pa.string()),
        ]
        pq.write_table(pa.table(columns, schema=SCHEMA), folder / RELIABILITY)
        return {
            "users": len(histories),
            "scored": sum(why is None for why in reason),
            "named_is_masked": int((named == masked).sum()),
            "tail_users": int((lengths <= tail_threshold).sum()),
            "tail_threshold": tail_threshold,
            "mean_omega": round(float(omega.mean()), 4) if len(omega) else 0.0,
            "mean_alpha": round(float(alpha.mean()), 4) if len(alpha) else 0.0,
            "encoder_hash": encoder_hash(encoder),
        }

    inputs: dict[str, Artefact | str] = {name: artefact(refs, name) for name in ("training", "pseudo")}
    settings: dict[str, Any] = {}
    if compares:
        inputs |= {"picks": picks.content()} if picks is not None else {"rcs": artefact(refs, "rcs")}
        inputs |= {"catalogue": artefact(refs, "catalogue")}
        settings = {"tail_threshold": tail_threshold, "beta": beta, "encoder": encoder_hash(encoder)}
    return run.workspace.produce(STEP, run.dataset, write, inputs=inputs, config=settings)


def encoder_hash(encoder: Embedder | None) -> str:
    """Kept beside every score: sha256 of the BERT weights, "none" where nothing was compared."""
    return "none" if encoder is None else encoder.hash


def _from_pools(pools: Histories, known: Catalogue) -> tuple[Ints, NDArray[np.object_], NDArray[np.object_]]:
    """The first titled item of each pool (an LLM would not be shown another), as `Picks.likeliest` gives it."""
    named = np.zeros(len(pools), np.int32)
    for row, pool in enumerate(pools):
        titled = pool[known.titled[pool]]
        named[row] = titled[0] if len(titled) else 0
    return named, _where(named > 0, "rcs"), _where(named == 0, NO_CANDIDATE)


def _where(mask: NDArray[np.bool_], word: str) -> NDArray[np.object_]:
    """(U,) the word where the mask is set, else None."""
    return np.array([word if one else None for one in mask], object)


def _omega(
    named: Ints, masked: Ints, known: Catalogue, encoder: Embedder, cache: Path, progress: Progress
) -> NDArray[np.float64]:
    """(U,) clamped cosines; 0 where nothing was named."""
    omega = np.zeros(len(named))
    compared = np.flatnonzero(named)
    if len(compared):
        left, right = known.titles_of(masked[compared]), known.titles_of(named[compared])
        omega[compared] = cosines(encoder, left, right, cache, progress)
    return omega

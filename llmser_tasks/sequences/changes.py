"""What new interactions have changed since an earlier run, and what of that run may be kept.

A user whose training history S_u is the same, item by item, keeps everything up to the weights: the candidate
pools and the answers. (Users who got no answer then, for a passing reason, are asked now as if they had changed.) This
is no approximation of asking anew with the same models, but it is one of asking anew with retrained ones: a reverse
model that has seen more would propose other candidates, and each would be another question. A refresh that recomputed
the pools would therefore ask about everybody. So pools are kept for users who have not changed, and made by the present
models for those who have. α is no question: it is computed anew for all, since T may have moved.

What held-out items could leak through the earlier run is excluded by one condition: each user's earlier training
interactions are among the present ones (`contained`). Then whatever the earlier models, pools and answers came from is
training data now, too, and no present validation or test item. If interactions are only ever added, it holds, whenever
they are added: with leave-one-out every earlier training interaction still has two later ones behind it. It fails where
interactions were taken away, or the temporal cuts moved back; then nothing is kept. Nothing is kept either where users
or items are gone: they were taken away on purpose, and what was learned from them goes with them.

The condition is judged by training histories alone, so that nothing up to α depends on a held-out item here either.
Where models are chosen by validation items (base, weighted), it is asked of training and validation together.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from llmser_tasks.core.config import digest
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.sequences.histories import Histories, Ints
from llmser_tasks.sequences.targets import read_targets

FORMER = "former/"  # prefix to the names of artefacts of the run that this one refreshes
TAKEN_AWAY = "users, items or interactions of the earlier run are gone"


@dataclass(frozen=True)
class Changes:
    """The present training users and catalogue, as the earlier run numbered them.

    Attributes:
        users: (U,) present user numbers of the training histories, ascending.
        former: (U,) each one's earlier number; -1: there was none, or it had no training history.
        kept: (U,) users whose training history is the same, and who are therefore not asked again.
        items: (I' + 1,) the present number of each earlier item; 0 is padding.
        former_items: (I + 1,) the earlier number of each present item; 0 is padding and what is new.
    """

    users: Ints
    former: Ints
    kept: NDArray[np.bool_]
    items: Ints
    former_items: NDArray[np.int64]

    @classmethod
    def read(cls, folder: Path) -> Changes:
        users = pq.read_table(folder / "users.parquet")
        items = pq.read_table(folder / "items.parquet")
        former_items = np.concatenate([[0], items["former"].to_numpy()]).astype(np.int64)
        present = np.zeros(int(former_items.max()) + 1, np.int32)
        present[former_items] = np.arange(len(former_items))
        present[0] = 0
        return cls(
            users["user"].to_numpy(),
            users["former"].to_numpy(),
            users["kept"].to_numpy(zero_copy_only=False),
            present,
            former_items,
        )


@dataclass(frozen=True)
class EarlierRun:
    """What a refresh starts from.

    Attributes:
        changes: the artefact that `compare` wrote; it has been checked that nothing forbids keeping.
        made: the earlier run's artefacts, by name.
        warm_epochs: most epochs of a training that goes on from one of its models.
    """

    changes: Artefact
    made: Mapping[str, Artefact]
    warm_epochs: int


def earlier_run(run: Run, refs: Refs) -> EarlierRun | None:
    """The run that this one refreshes, where something of it is kept."""
    if "changes" not in refs:
        return None
    made = {name.removeprefix(FORMER): artefact(refs, name) for name in refs if name.startswith(FORMER)}
    return EarlierRun(artefact(refs, "changes"), made, run.config.refresh.warm_epochs)


def open_rows(run: Run, refs: Refs) -> NDArray[np.int64] | None:
    """Rows of the training users who are asked; None: all of them."""
    if "changes" not in refs:
        return None
    return np.flatnonzero(~Changes.read(run.folder(refs, "changes")).kept)


def compare(
    workspace: Workspace,
    dataset: str,
    *,
    training: Artefact,
    catalogue: Artefact,
    former_training: Artefact,
    former_catalogue: Artefact,
    settled: Set[str] | None = None,
    progress: Progress = silent,
) -> Artefact:
    """Write who and what changed since an earlier run.

    Args:
        settled: ids of the users whose questions the earlier run settled; None: it had none to ask.

    Columns of `users.parquet`: user (of the training histories), former, kept; of `items.parquet`: item, former.
    The summary counts `kept`, `changed` and `new` users and `new_items`; its `obstacle` says why nothing may be kept,
    and is None if something may.
    """

    def write(folder: Path) -> dict[str, Any]:
        now = Histories.read(workspace.folder(training) / "histories.parquet")
        then = Histories.read(workspace.folder(former_training) / "histories.parquet")
        known, before = workspace.folder(catalogue), workspace.folder(former_catalogue)
        user_of, former_user_of = _matched(before, known, "user")
        item_of, former_item_of = _matched(before, known, "item")
        progress(1, 2, "comparisons", "histories")
        former = former_user_of[now.users]
        former = np.where(then.rows_of(former) >= 0, former, -1).astype(np.int32)
        kept = _same(now, then, former, item_of)
        if settled is not None:
            ids = pq.read_table(known / "users.parquet", columns=["user_id"])["user_id"].take(now.users).to_pylist()
            kept &= np.fromiter((user in settled for user in ids), bool, len(ids))
        gone = bool((user_of < 0).any() or (item_of[1:] < 1).any())
        obstacle = None if not gone and contained(then, now, user_of, item_of) else TAKEN_AWAY
        table = {"user": now.users, "former": former, "kept": kept}
        pq.write_table(pa.table(table), folder / "users.parquet")
        items = np.arange(1, len(former_item_of), dtype=np.int32)
        pq.write_table(pa.table({"item": items, "former": former_item_of[1:]}), folder / "items.parquet")
        return {
            "kept": int(kept.sum()),
            "changed": int(((former >= 0) & ~kept).sum()),
            "new": int((former < 0).sum()),
            "new_items": int((former_item_of[1:] == 0).sum()),
            "obstacle": obstacle,
        }

    return workspace.produce(
        "changes",
        dataset,
        write,
        inputs={
            "training": training,
            "catalogue": catalogue,
            "former_training": former_training,
            "former_catalogue": former_catalogue,
        },
        config={} if settled is None else {"settled": digest(sorted(settled))},
    )


def may_go_on(
    workspace: Workspace,
    earlier: EarlierRun,
    *,
    catalogue: Artefact,
    training: Artefact,
    validation: Artefact,
) -> bool:
    """Whether a model that was chosen by the earlier run's validation items may be trained on: these and its training
    items are training and validation items now, none is a test item.
    """
    known, before = workspace.folder(catalogue), workspace.folder(earlier.made["catalogue"])
    user_of, _ = _matched(before, known, "user")
    item_of, _ = _matched(before, known, "item")
    then = _learned(workspace, earlier.made["training"], earlier.made["validation"])
    return contained(then, _learned(workspace, training, validation), user_of, item_of)


def contained(then: Histories, now: Histories, user_of: Ints, item_of: Ints) -> bool:
    """Whether each user's earlier items are among the present ones, as often as they were.

    Args:
        then: in earlier numbers; users who are gone do not count.
        user_of, item_of: present numbers of earlier users (-1: gone) and items (0: gone).
    """
    lengths = then.lengths
    owners = np.repeat(user_of[then.users], lengths).astype(np.int64)
    items = item_of[then.items].astype(np.int64)
    here = (owners >= 0) & (items > 0)
    most = max(int(now.items.max(initial=0)), int(items.max(initial=0))) + 1
    earlier, times = np.unique(owners[here] * most + items[here], return_counts=True)
    present, present_times = np.unique(
        np.repeat(now.users, now.lengths).astype(np.int64) * most + now.items, return_counts=True
    )
    places = np.searchsorted(present, earlier)
    found = places < len(present)
    if not found.all():
        return False
    return bool((present[places] == earlier).all() and (present_times[places] >= times).all())


def _same(now: Histories, then: Histories, former: Ints, item_of: Ints) -> NDArray[np.bool_]:
    """(U,) whose history is what it was, item by item."""
    rows = then.rows_of(former)
    same = (former >= 0) & (rows >= 0)
    same[same] = now.lengths[same] == then.lengths[rows[same]]
    ours, theirs = now.select(same), then.select(rows[same])
    differ = np.concatenate([[0], np.cumsum(ours.items != item_of[theirs.items])])
    same[same] = differ[ours.offsets[1:]] == differ[ours.offsets[:-1]]
    return same


def _learned(workspace: Workspace, training: Artefact, validation: Artefact) -> Histories:
    """Per training user everything up to and with the validation item."""
    histories = Histories.read(workspace.folder(training) / "histories.parquet")
    targets = read_targets(workspace.folder(validation) / "targets.parquet")
    ends = Histories(targets.users, np.arange(len(targets) + 1, dtype=np.int64), targets.items)
    return histories.then(targets.contexts).then(ends)


def _matched(before: Path, now: Path, what: str) -> tuple[Ints, Ints]:
    """Present numbers of a catalogue's earlier users (-1: gone) or items (0: gone, and the padding), and back.

    Users count from 0, items from 1; both are matched by the ids that their source gave them.
    """
    first = 1 if what == "item" else 0
    old, new = (
        pq.read_table(path / f"{what}s.parquet", columns=[f"{what}_id"])[f"{what}_id"].cast(pa.string())
        for path in (before, now)
    )

    def numbers(ids: pa.ChunkedArray, among: pa.ChunkedArray) -> Ints:
        places = pc.index_in(ids, value_set=among).fill_null(-1).to_numpy().astype(np.int32) + first
        return np.concatenate([np.zeros(first, np.int32), places]).astype(np.int32)

    return numbers(old, new), numbers(new, old)

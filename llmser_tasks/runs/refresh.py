"""A refresh: a run that starts from the published one and does again only what new interactions change.

It takes over what was answered about users who have not changed, asks about the others, and goes on training the
models.
`sequences.changes` says why that is right, and when it is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.parquet as pq

from llmser_tasks.asking.questions import asked_steps
from llmser_tasks.core import config
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import LlmserError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import METHODS, STEPS
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact, left_out
from llmser_tasks.core.workspace import Artefact, Workspace
from llmser_tasks.methods.held_out import HELD
from llmser_tasks.sequences import changes
from llmser_tasks.sequences.catalogue import Catalogue
from llmser_tasks.sequences.changes import Changes
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.tables import answered, artefacts, runs

# Settings that may differ from the earlier run's: where the dumps are, what is computed anew for everybody, how answers
# are got, and what only measures; a method's own say so themselves (`Section.may_differ`). With any other changed, what
# it would take over is another method's.
MAY_DIFFER = {
    "dataset": {"name", "reviews", "items", "tail_threshold"},
    "reliability": {"beta", "encoder"},
    "llm": {"mode", "users_per_batch", "budget", "least_usable", "tolerated_failures"},
    "evaluation": {"methods", "publish", "seeds", "recommendations", "sampled_negatives"},
    "refresh": {"incremental", "warm_epochs", "gate"},
}


class NothingKept(LlmserError):
    """Nothing can be taken over of an earlier run; the run is a full one."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Nothing is kept of an earlier run: {why}; everything is made anew.")


@dataclass(frozen=True)
class Refreshable:
    """A run that may be refreshed, and its artefacts."""

    run_id: str
    made: Mapping[str, Artefact]


def refreshable(warehouse: Warehouse, workspace: Workspace, run_id: str | None, now: RunConfig) -> Refreshable:
    """The run that is refreshed.

    Raises:
        NothingKept: there is none, it was made with other settings, or its artefacts are gone.
    """
    if run_id is None:
        raise NothingKept("no run of the dataset is published")
    differing = _differing(config.from_flat(runs.load(warehouse, run_id).settings), now)
    if differing:
        raise NothingKept(f"run {run_id} was made with other settings ({', '.join(differing)})")
    noted = artefacts.of_run(warehouse, run_id)
    pools = {name for name, step in now.chain.items() if step.kept and not left_out(STEPS.load(name), now)}
    needed = {"training", "validation", "catalogue"} | pools
    models = {name for name in noted if (method := name.split("/")[0]) in METHODS and not METHODS[method].addition}
    steps = {
        name for name in STEPS if not STEPS[name].trains or (name in noted and _tells_apart(workspace, noted[name]))
    }
    made = {name: noted[name] for name in noted if name in needed | models | steps}
    try:
        for one in made.values():
            workspace.folder(one)
    except StorageError:
        raise NothingKept(f"artefacts of run {run_id} are gone") from None
    if needed - set(made):
        raise NothingKept(f"run {run_id} has no artefact {', '.join(sorted(needed - set(made)))}")
    return Refreshable(run_id, made)


def compare(run: Run, refs: Refs, earlier: Refreshable, progress: Progress = silent) -> Artefact:
    """What changed since (`changes.compare`).

    Raises:
        NothingKept: what the earlier run learned is not all training data now.
    """
    steps = asked_steps(run.config)
    settled = None
    if steps:
        with transaction(run.warehouse) as connection:
            settled = answered.settled(connection, earlier.run_id, steps)
        settled &= _users(run.workspace, earlier)
    compared = changes.compare(
        run.workspace,
        run.dataset,
        training=artefact(refs, "training"),
        catalogue=artefact(refs, "catalogue"),
        former_training=earlier.made["training"],
        former_catalogue=earlier.made["catalogue"],
        settled=settled,
        progress=progress,
    )
    if obstacle := run.workspace.summary(compared)["obstacle"]:
        raise NothingKept(obstacle)
    return compared


def take_over(warehouse: Warehouse, run_id: str, earlier: str, changed: Changes, catalogue: Catalogue) -> None:
    """Give the run what answers said in the earlier one of the users who have not changed."""
    kept = catalogue.user_ids_of(changed.users[changed.kept])
    with transaction(warehouse) as connection:
        answered.take_over(connection, run_id, earlier, kept)


def _tells_apart(workspace: Workspace, model: Artefact) -> bool:
    """Whether a model says what was kept out of its training; those from before refreshes do not."""
    return (workspace.root / model.path / HELD).is_file()


def _users(workspace: Workspace, earlier: Refreshable) -> set[str]:
    """Ids of the earlier run's training users."""
    users = Histories.read(workspace.folder(earlier.made["training"]) / "histories.parquet").users
    ids = pq.read_table(workspace.folder(earlier.made["catalogue"]) / "users.parquet", columns=["user_id"])["user_id"]
    return set(ids.take(users).to_pylist())


def _differing(before: RunConfig, now: RunConfig) -> list[str]:
    """Names of the settings in which an earlier run must not differ and does."""
    found = []
    for section, theirs in before.model_dump().items():
        ours = now.model_dump()[section]
        may = MAY_DIFFER.get(section, set()) | getattr(now, section).may_differ
        found += [name for name in theirs if name not in may and theirs[name] != ours[name]]
    return found + (["seeds"] if before.seed != now.seed else [])

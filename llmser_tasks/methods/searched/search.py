"""The search: which of the run's methods, with which settings and item table, is best on validation items?

By NDCG@10 over all users, with the run's first seed; of equals the first in the list. No test item is read. The
reference is trained first, to its end: as many epochs as that took are a full training, in which the budget counts.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from llmser_tasks.asking.picks import Picks
from llmser_tasks.asking.questions import asked_steps
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import DeclarationError, InputError, StorageError
from llmser_tasks.core.kinds import METHODS, STEPS, Step
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.run import Refs, Run, artefact
from llmser_tasks.core.workspace import Artefact, file_digest
from llmser_tasks.methods.searched.halving import Plan
from llmser_tasks.methods.searched.outcome import FILE, Outcome
from llmser_tasks.methods.searched.settings import Search
from llmser_tasks.methods.searched.space import Candidate, families, listed, with_settings
from llmser_tasks.methods.searched.trial import Trial
from llmser_tasks.methods.trained import Recipe, TrainedModule
from llmser_tasks.sequences.artefacts import threshold_of
from llmser_tasks.sequences.changes import earlier_run, may_go_on

log = logging.getLogger(__name__)

DECLARED = Step(title="Search on validation items", place=99, ranks=True, tries=True)

STEP = "search"
TRIALS = ".trials"  # hidden: nobody's result


@dataclass
class Purse:
    """What a search may spend: epochs, or seconds of training.

    Attributes:
        trials: the reference's first.
        total: infinite until it is known.
        planned: how many are to be tried, the reference included; 0 until it is known.
    """

    trials: Sequence[Trial]
    in_seconds: bool
    total: float
    planned: int = 0

    def of(self, trial: Trial) -> float:
        return trial.seconds if self.in_seconds else trial.epochs

    def spent(self) -> float:
        return sum(map(self.of, self.trials))


def make(run: Run, refs: Refs, progress: Progress = silent) -> Artefact:
    """Try, and write what was tried and what was best; in a refresh, take over what the earlier run found.

    `search.json` is an `Outcome`. What a killed search has trained is gone on with.
    """
    budget = run.config.of(Search).search
    if budget is None:
        raise InputError("A search needs a budget; add one with --search 12 (trainings) or --search 30m (minutes).")
    known = {name: artefact(refs, name) for name in ("training", "validation", "catalogue")}
    if (former := _former(run, refs)) is not None:
        return _taken_over(run, *former)
    made_of = {name: artefact(refs, name) for name in run.config.chain if name in refs and name != STEP}
    answers = {f"picks/{step}": Picks.of_run(run, refs, step).content() for step in asked_steps(run.config)}
    every, seed, tail = families(run.config), run.config.seed, threshold_of(run, refs)

    def write(folder: Path) -> dict[str, Any]:
        outcome = search(run, refs, budget, folder / TRIALS, tail, progress)
        outcome.write(folder)
        shutil.rmtree(folder / TRIALS)
        return outcome.summary()

    return run.workspace.produce(
        STEP,
        run.dataset,
        write,
        inputs={**known, **made_of, **answers},
        config={
            "recommender": run.config.recommender,
            "budget": budget,
            "tail_threshold": tail,
            "families": {
                name: {"settings": _settings(name, run.config), "tried": [asdict(one) for one in of_family]}
                for name, of_family in every.items()
            },
        },
        chosen=_modules(run, refs, chain.from_iterable(every.values())),
        seed=seed,
        resumable=True,
    )


def search(run: Run, refs: Refs, budget: str, folder: Path, tail: int, progress: Progress = silent) -> Outcome:
    """
    Args:
        budget: as the settings say it.
        folder: of the trials.
        tail: T.

    Raises:
        InputError: even the reference cannot be trained.
    """
    candidates = listed(run.config, run.config.seed)
    trials = [
        Trial(place, folder / str(place), one.title(run.config), run.config.seed, partial(one.recipe, run, refs))
        for place, one in enumerate(candidates)
    ]
    minutes = budget.endswith("m")
    purse = Purse(trials, minutes, 60.0 * int(budget.removesuffix("m")) if minutes else math.inf)
    reference, others = trials[0], trials[1:]
    _go_on(reference, None, purse, purse.total, progress)
    if (why := reference.refused) is not None:
        shutil.rmtree(reference.folder)
        raise InputError(why)
    full, before = reference.epochs, purse.of(reference)
    if not minutes:
        purse.total = int(budget) * full
    an_epoch = max(before / full, 1e-3) if minutes else 1.0
    left = (purse.total - before) / an_epoch  # in epochs of the reference
    defaults = len({METHODS.without_parts(one.method) for one in candidates}) - 1
    plan = Plan.within(left, full, min(max(1, defaults), len(others)), len(others))
    purse.planned = 1 + sum(plan.sizes[:1])
    rungs = _climb(others, plan, purse, tail, progress)
    rows: list[dict[str, Any]] = []
    for one, trial in zip(candidates, trials, strict=True):
        if trial.epochs or trial.refused or trial.place <= defaults:
            said = trial.end("trained to its end" if trial.ended else "stopped as the budget was spent", tail)
            about = {"place": trial.place, "title": trial.title, "method": one.method}
            rows.append(about | {"settings": dict(one.settings), "remade": list(one.remade)} | said)
    rows.sort(key=lambda row: -1.0 if row["ndcg"] is None else row["ndcg"], reverse=True)  # of equals the first
    return Outcome(budget, full, len(candidates), rows, rungs, rows[0]["place"])


def _climb(trials: Sequence[Trial], plan: Plan, purse: Purse, tail: int, progress: Progress) -> list[dict[str, int]]:
    """Take trials from rung to rung, the best of each on to the next.

    Returns:
        Of each rung the epoch that it goes up to, and how many were trained in it.
    """
    rungs = []
    before = purse.of(purse.trials[0])
    alive = list(trials[: plan.sizes[0]]) if plan.sizes else []
    for size, epoch, share in zip(plan.sizes, plan.rungs, plan.shares, strict=True):
        for dropped in alive[size:]:
            if dropped.epochs and not dropped.ended:
                dropped.end(f"stopped after {_epochs(dropped.epochs)}, as others were better", tail)
        alive = alive[:size]
        until = None if epoch == plan.rungs[-1] else epoch
        for trial in alive:
            _go_on(trial, until, purse, before + share * (purse.total - before), progress)
        rungs.append({"epochs": epoch, "trials": sum(trial.epochs > 0 for trial in alive)})
        alive.sort(key=lambda trial: trial.best(until), reverse=True)
    return rungs


def _go_on(trial: Trial, until: int | None, purse: Purse, allowed: float, progress: Progress) -> None:
    """Train one trial on until the end of an epoch, unless what may be spent by then is spent."""
    others = purse.spent() - purse.of(trial)

    def spent(epoch: int) -> bool:
        now = others + purse.of(trial)
        which = f"trial {trial.place + 1} of {purse.planned}" if purse.planned else f"trial {trial.place + 1}"
        note = f"{which}, {trial.title}: {trial.best():.4f} after {_epochs(epoch)}".replace(": 0.", ": .")
        total = None if math.isinf(purse.total) else round(purse.total)
        progress(round(now), total, "seconds" if purse.in_seconds else "epochs", note)
        return now >= allowed

    if others + purse.of(trial) < allowed:
        trial.go_on(until, spent)


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _former(run: Run, refs: Refs) -> tuple[Artefact, Outcome] | None:
    """What the run found that this one refreshes; None where there is no such run, or its choice cannot be kept: it was
    made by what are test items now, or of what there is to try no more.
    """
    earlier = earlier_run(run, refs)
    if earlier is None or STEP not in earlier.made:
        return None
    given = {part: artefact(refs, part) for part in ("catalogue", "training", "validation")}
    made = earlier.made[STEP]
    try:
        found = Outcome.read(run.workspace.folder(made))
        with_settings(run.config, found.candidate.settings)
    except (StorageError, DeclarationError) as error:
        log.info("The search of the earlier run is not taken over: %s", error)
        return None
    known = found.candidate.method in METHODS.tried(run.config.methods)
    return (made, found) if known and may_go_on(run.workspace, earlier, **given) else None


def _taken_over(run: Run, made: Artefact, found: Outcome) -> Artefact:
    def write(folder: Path) -> dict[str, Any]:
        outcome = replace(found, taken_over=True)
        outcome.write(folder)
        return outcome.summary()

    former = file_digest(run.workspace.folder(made) / FILE)
    return run.workspace.produce(STEP, run.dataset, write, inputs={"former": former}, config={"taken_over": True})


def _settings(family: str, own: RunConfig) -> dict[str, Any]:
    """What the trainings of a method depend on as the run has it."""
    module: TrainedModule = METHODS.load(family)
    return module.settings(own)


def _modules(run: Run, refs: Refs, candidates: Iterable[Candidate]) -> list[str]:
    """Everything that trials choose by name."""
    chosen: dict[str, None] = {}
    for one in candidates:
        other = replace(run, config=with_settings(run.config, one.settings))
        chosen |= dict.fromkeys(Recipe(other, refs, one.method).modules())
        chosen |= dict.fromkeys(STEPS.module_of(step) for step in one.remade)
    return list(chosen)

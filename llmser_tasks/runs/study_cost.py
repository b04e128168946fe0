"""What a study will cost, cell by cell, before any of it has begun: nothing is asked or trained.

Questions are the house's own estimate (`estimate`): from a run's candidates where one has come so far, else with
popular items in their place, which is rough. Hours are those of trainings, from how long they took in this warehouse;
where nothing like them has run yet, from an epoch's cost as measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median

from llmser_tasks.core import config as settings
from llmser_tasks.core.cells import Cell
from llmser_tasks.core.config import RunConfig, digest
from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import METHODS, REFERENCE, STEPS
from llmser_tasks.core.run import Made, Run, artefact
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.estimate import Estimate
from llmser_tasks.runs import same_work
from llmser_tasks.runs.checks import check
from llmser_tasks.runs.estimate import estimate, prepared
from llmser_tasks.runs.study import DONE
from llmser_tasks.warehouse.tables import artefacts, durations
from llmser_tasks.warehouse.tables.durations import Took
from llmser_tasks.warehouse.tables.studies import OPEN

# docs/measurements.md, "Size" and "Seconds to a quality": a training of the base takes some 18 µs of one core an
# interaction and epoch, and on Beauty 34 epochs; others' epochs cost up to three of the base's ("The second channel").
SECONDS_AN_INTERACTION = 18e-6 * 34
TIMES_THE_BASE = 3

THERE, SHARED, ESTIMATED = "its answers are there", "an earlier cell asks the same", "estimated from its candidates"
ROUGH = "rough: popular items stand in for candidates"
ASKS_NOBODY = "asks nobody"
UNKNOWN_SIZE = "nobody has said where its dumps are"


@dataclass(frozen=True)
class Cost:
    """Of one cell, beside what cells before it make.

    Attributes:
        state: of its run, as `studies.Standing`.
        questions: users about whom there is something to ask; None: not known.
        calls, prompt_tokens, completion_tokens: that are left to pay for.
        cost, most: expected, and if every answer is as long as it may be; None where no price is known.
        trainings, hours: that are left to do, and how long they take; None: not known.
        known: how this is known, or what keeps the cell from running.
    """

    state: str
    questions: int | None = None
    calls: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    most: float | None = None
    trainings: int | None = None
    hours: float | None = None
    known: str = ""


def costs(
    cells: Sequence[Cell],
    states: Mapping[str, str],
    *,
    workspace: Workspace,
    warehouse: Warehouse,
    endpoint_of: Callable[[str], Endpoint],
    embedding_of: Callable[[str], Endpoint],
) -> Iterator[tuple[Cell, Cost]]:
    """Each cell with its cost, in order. Dumps that have not been read yet are read.

    Args:
        states: of the cells' runs by their ids; open, where one is not among them.
        endpoint_of, embedding_of: where connections are looked up, of questions and of texts to embed.
    """
    plan = _Plan(workspace, warehouse, endpoint_of, embedding_of)
    for cell in cells:
        state = states.get(cell.run_id, OPEN)
        yield cell, plan.done(cell.config) if state == DONE else plan.cost(cell.config, state)


@dataclass
class _Plan:
    """What runs so far have made, and cells before will have."""

    workspace: Workspace
    warehouse: Warehouse
    endpoint_of: Callable[[str], Endpoint]
    embedding_of: Callable[[str], Endpoint]
    answered: set[str] = field(default_factory=set)
    to_be_asked: set[str] = field(default_factory=set)
    trained: set[str] = field(default_factory=set)
    candidates: dict[str, str] = field(default_factory=dict)  # what questions have in common → a run that has them
    rough: dict[str, list[Estimate]] = field(default_factory=dict)
    split: dict[str, tuple[Run, Made]] = field(default_factory=dict)
    checked: dict[tuple[str, ...], InputError | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for run_id, steps in self._took.items():
            try:
                config = settings.from_flat(next(iter(steps)).config)
            except InputError:  # of a release with other settings
                continue
            trained, asked = same_work.trainings(config), same_work.questions(config)
            self.trained |= {trained[each.step, each.part] for each in steps if (each.step, each.part) in trained}
            if any(each.finished for each in steps):
                self.answered |= set(asked.values())
            else:
                self.candidates |= dict.fromkeys(asked.values(), run_id)

    @cached_property
    def _took(self) -> dict[str, list[Took]]:
        steps = [*(name for name, step in STEPS.items() if step.trains), *METHODS.every()]
        found: dict[str, list[Took]] = {}
        for each in durations.of_steps(self.warehouse, steps):
            found.setdefault(each.run_id, []).append(each)
        return found

    @cached_property
    def _trained(self) -> dict[tuple[str, str], list[Took]]:
        """By step and backbone, what was really trained."""
        found: dict[tuple[str, str], list[Took]] = {}
        for each in (each for steps in self._took.values() for each in steps if not each.unchanged):
            found.setdefault((each.step, each.config["backbone"]), []).append(each)
        return found

    def done(self, config: RunConfig) -> Cost:
        self.answered |= set(same_work.questions(config).values())
        self.trained |= set(same_work.trainings(config).values())
        return Cost(DONE, calls=0, prompt_tokens=0, completion_tokens=0, trainings=0, hours=0.0, known="done")

    def cost(self, config: RunConfig, state: str) -> Cost:
        if not config.dataset.reviews:
            return Cost(state, known=UNKNOWN_SIZE)
        try:
            run, refs = self._checked(config)
            asked, known = self._asked(run, refs)
        except InputError as error:
            return Cost(state, known=str(error))
        trainings = {step: key for step, key in same_work.trainings(config).items() if key not in self.trained}
        self.trained |= set(trainings.values())
        interactions = int(run.workspace.summary(artefact(refs, "training"))["interactions"])
        hours = sum(self._seconds(config, step, interactions) for step, _ in trainings) / 3600
        return Cost(
            state,
            questions=sum(each.questions for each in asked),
            calls=sum(each.calls for each in asked),
            prompt_tokens=sum(each.prompt_tokens for each in asked),
            completion_tokens=sum(each.completion_tokens for each in asked),
            cost=_all_of(each.cost for each in asked),
            most=_all_of(each.most for each in asked),
            trainings=len(trainings),
            hours=hours,
            known=known,
        )

    def _checked(self, config: RunConfig) -> tuple[Run, Made]:
        """The cell's run with its dumps read and split, once for all cells that have the same.

        Raises:
            InputError: they cannot be, or the run could not come to anything.
        """
        dataset = digest(config.dataset.model_dump(mode="json"))
        if dataset not in self.split:
            self.split[dataset] = prepared(
                self.workspace, config, warehouse=self.warehouse, endpoint_of=self.embedding_of
            )
        first, refs = self.split[dataset]
        run = replace(first, config=config)
        key = dataset, *config.methods
        if key not in self.checked:
            self.checked[key] = None
            try:
                check(run, refs)
            except InputError as error:
                self.checked[key] = error
        if (refusal := self.checked[key]) is not None:
            raise refusal
        return run, refs

    def _asked(self, run: Run, refs: Made) -> tuple[list[Estimate], str]:
        """What is left to ask, and how it is known."""
        keys = same_work.questions(run.config)
        if not keys:
            return [], ASKS_NOBODY
        new = {key for key in keys.values() if key not in self.answered | self.to_be_asked}
        there = self._candidates(run, keys) if new else {}
        if there:
            estimates = estimate(run, {**refs, **there}, self.endpoint_of(run.config.llm.endpoint))
        else:
            whatever = digest(same_work.questions(run.config, whatever_model=True))
            if whatever not in self.rough:
                self.rough[whatever] = estimate(run, refs, self.endpoint_of(run.config.llm.endpoint))
            estimates = self.rough[whatever]
        known = ESTIMATED if there else ROUGH
        if not new:
            known = THERE if set(keys.values()) <= self.answered else SHARED
        self.to_be_asked |= new
        return [each if keys.get(each.step) in new else _paid(each) for each in estimates], known

    def _candidates(self, run: Run, keys: Mapping[str, str]) -> Made:
        """What an earlier run that did not come to its end has made to ask the same; nothing where it is gone."""
        run_id = next((self.candidates[key] for key in keys.values() if key in self.candidates), None)
        if run_id is None:
            return {}
        found = {
            name: made for name, made in artefacts.of_run(self.warehouse, run_id).items() if name in run.config.chain
        }
        try:
            for made in found.values():
                run.workspace.folder(made)
        except StorageError:
            return {}
        return {name: made.reference() for name, made in found.items()}

    def _seconds(self, config: RunConfig, step: str, interactions: int) -> float:
        """Of one training: as the same took on this dataset with this backbone, else on another one by its size, else
        as an epoch costs.
        """
        alike = self._trained.get((step, config.recommender.backbone), [])
        here = [each.seconds for each in alike if each.config["dataset"] == config.dataset.name]
        if here:
            return median(here)
        if by_size := [each.seconds / each.interactions for each in alike if each.interactions]:
            return median(by_size) * interactions
        return SECONDS_AN_INTERACTION * interactions * (1 if step == REFERENCE else TIMES_THE_BASE)


def _paid(estimate: Estimate) -> Estimate:
    """The same questions, with nothing left to ask."""
    free = None if estimate.cost is None else 0.0
    return replace(estimate, answered=estimate.questions, calls=0, prompt_tokens=0, completion_tokens=0,
                   cost=free, most=free, hours=None)  # fmt: skip


def _all_of(prices: Iterable[float | None]) -> float | None:
    """Their sum; None where one is not known."""
    known = list(prices)
    return None if None in known else sum(price for price in known if price is not None)


def summary(costs: Sequence[Cost]) -> str:
    """All cells in one sentence."""
    unknown = sum(each.hours is None for each in costs)
    done = sum(each.state == DONE for each in costs)
    money = _all_of(each.cost for each in costs if each.state != DONE and each.calls is not None)
    calls, tokens = (
        sum(getattr(each, name) or 0 for each in costs for name in names)
        for names in (("calls",), ("prompt_tokens", "completion_tokens"))
    )
    parts = [f"{len(costs)} cells, {done} done: {calls:,} calls, {tokens:,} tokens"]
    parts.append("at an unknown price" if money is None else f"about {money:.4g}")
    parts.append(f"{sum(each.hours or 0.0 for each in costs):.1f} hours of training")
    left_out = f" ({unknown} cells are not in this; their column `known` says why)" if unknown else ""
    return f"{', '.join(parts)}{left_out}. Nothing was asked or trained."

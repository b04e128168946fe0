"""The cells of a study: each is an ordinary run of one method on one dataset, with one backbone and one more seed.

The cell of the k-th seed is a run with the first k seeds: all of them share what comes before the trainings (CCG, RCS,
shuffles and so the questions go by a run's first seed), the earlier seeds' models are there already, and the last
cell's run has the mean and the spread over all seeds. The reference is in every run, so it has a cell of its own only
where the study has no other method.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from llmser_tasks.core import config, environment
from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import BACKBONES, METHODS, REFERENCE
from llmser_tasks.core.study import MAIN, SEEDS, Settings, Study, in_order

PLAIN = re.compile(r"[A-Za-z0-9_.+-]{0,40}")  # what of a changed setting may stand in a run's id as it is
LONGEST = 60


@dataclass(frozen=True)
class Cell:
    """
    Attributes:
        run_id: made from the study's name and what the cell is, the same each time.
        part: of the study: main, or the name of what is varied.
        seed: the run's last.
        changed: settings that differ from the base.
        values: what the run is started with, flat names.
    """

    run_id: str
    part: str
    dataset: str
    backbone: str
    method: str
    seed: int
    changed: Mapping[str, Any]
    values: Mapping[str, Any]

    @property
    def config(self) -> RunConfig:
        """
        Raises:
            InputError: the dataset's file has changed, and the values no longer do.
        """
        return environment.configuration(self.values)

    @property
    def title(self) -> str:
        """What people read: `beauty, SASRec, LLMSeR, seed 42, β 0.5`."""
        changed = [f"{name} {_told(value)}" for name, value in self.changed.items()]
        named = [BACKBONES[self.backbone].title, METHODS[self.method].title, f"seed {self.seed}"]
        return ", ".join([self.dataset, *named, *changed])


def cells_of(study: Study) -> list[Cell]:
    """All cells, what tells most first. A variation that comes to the same settings as an earlier cell has none of its
    own: that cell's run stands for it.

    Raises:
        InputError: a cell's settings cannot be used; which, and why.
    """
    found: dict[str, Cell] = {}
    for group in in_order(study):
        of_group = [cell for part in group for cell in _of_part(study, part)]
        seeds = study.asked.seeds
        for cell in sorted(of_group, key=lambda cell: seeds.index(cell.seed)):  # stable: else as the file lists them
            try:
                settings = config.to_flat(cell.config)
            except InputError as error:
                raise study.refused(f"{cell.part}, {cell.title}", str(error)) from None
            found.setdefault(orjson.dumps(settings, option=orjson.OPT_SORT_KEYS).decode(), cell)
    return list(found.values())


def _of_part(study: Study, part: str) -> Iterator[Cell]:
    asked = study.asked
    if part in {MAIN, SEEDS}:
        seeds = asked.seeds[:1] if part == MAIN else asked.seeds[1:]
        for seed in seeds:
            for dataset in asked.datasets:
                yield from _of_dataset(study, MAIN, dataset, seed, {}, asked.backbones, asked.methods)
        return
    vary = asked.vary[part]
    for seed in asked.seeds[: vary.seeds]:
        for dataset in study.varied(part):
            for changed in vary.settings:
                backbones, methods = vary.backbones or asked.backbones, vary.methods or asked.methods
                yield from _of_dataset(study, part, dataset, seed, changed, backbones, methods)


def _of_dataset(
    study: Study, part: str, dataset: str, seed: int, changed: Settings, backbones: list[str], methods: list[str]
) -> Iterator[Cell]:
    seeds = study.asked.seeds[: study.asked.seeds.index(seed) + 1]
    for backbone in backbones:
        for method in [name for name in methods if name != REFERENCE] or [REFERENCE]:
            own = {"backbone": backbone, "methods": list(dict.fromkeys([REFERENCE, method])), "seeds": seeds}
            run_id = ".".join([study.name, dataset, backbone, method, *_slug(changed), f"seed{seed}"])
            values = study.settings(dataset, changed) | own
            yield Cell(run_id, part, dataset, backbone, method, seed, changed, values)


def _slug(changed: Mapping[str, Any]) -> list[str]:
    """What is changed, as it may stand in a run's id: `pseudo_items:4`; where that says too little, with a digest."""
    if not changed:
        return []
    told = {name: _told(value) for name, value in changed.items()}
    plain = all(PLAIN.fullmatch(value) for value in told.values())
    slug = "~".join(f"{name}:{re.sub(r'[^A-Za-z0-9_.+-]', '-', value)[:40]}" for name, value in told.items())
    if plain and len(slug) <= LONGEST:
        return [slug]
    whole = hashlib.sha256(orjson.dumps(dict(changed), option=orjson.OPT_SORT_KEYS)).hexdigest()
    return [f"{slug[:LONGEST]}-{whole[:8]}"]


def _told(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(map(str, value)) or "none"
    return "none" if value is None else str(value)

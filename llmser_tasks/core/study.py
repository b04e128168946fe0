"""A study as its file says it: datasets × backbones × methods × seeds, and what is varied from there.

A file is one JSON object, `NAME.json`, which is checked whole before anything starts:

    {"title": "How many pseudo items?",
     "datasets": {"beauty": {"reviews": "reviews_Beauty_5.json.gz", "items": "meta_Beauty.json.gz"}},
     "backbones": ["sasrec"], "methods": ["base", "llmser"], "seeds": [42, 43],
     "preset": "released", "settings": {"asked_items": 12},
     "vary": {"M": {"settings": [{"pseudo_items": 2}, {"pseudo_items": 4}], "methods": ["llmser"]}}}

The preset, then `settings`, then what a dataset says for itself are the base, each over the one before; what `vary`
lists is changed from the base, each entry alone, where `{"preset": "released"}` stands for all that preset's settings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from llmser_tasks.core import config, environment
from llmser_tasks.core.choices import MethodName, OneOf
from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import BACKBONES
from llmser_tasks.core.places import path_of
from llmser_tasks.core.printable import printable
from llmser_tasks.core.sections.dataset import LONGEST_NAME, Name

PRESET = "preset"
READY = Path(__file__).parents[1] / "studies"
MAIN, SEEDS = "main", "seeds"  # parts of every study: the base with the first seed, and with each further one
OWN = {  # settings that a study sets by itself, or that make no sense in one, and what to do instead
    "dataset": "list it in datasets",
    "backbone": "list it in backbones",
    "methods": "list them in methods",
    "seeds": "list them in seeds",
    "publish": "leave it out, readers are never given a study's runs by themselves",
    "incremental": "leave it out, a study's runs begin anew",
}
SHOWN = 80  # characters of a refused value that the message repeats

Backbone = Annotated[str, OneOf(BACKBONES)]
Method = Annotated[str, MethodName()]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Settings = dict[str, Any]
Title = Annotated[str, Field(min_length=1, max_length=200)]
Part = Annotated[str, Field(min_length=1, max_length=60)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Vary(_Part):
    """Settings that are changed from the base, each entry of the list alone; with whom, where that is not everybody."""

    settings: list[Settings] = Field(min_length=1)
    datasets: list[Name] | None = None
    backbones: list[Backbone] | None = Field(None, min_length=1)
    methods: list[Method] | None = Field(None, min_length=1)
    seeds: int | None = Field(None, ge=1)  # the first so many of the study's

    @field_validator("settings")
    @classmethod
    def _change_something(cls, settings: list[Settings]) -> list[Settings]:
        if {} in settings:
            raise ValueError("an entry changes nothing; the base is in the study anyway")
        for entry in settings:
            if PRESET in entry:
                _check_preset(entry[PRESET])
            _settable({name: value for name, value in entry.items() if name != PRESET})
        return settings


class StudyFile(_Part):
    """What a study's file holds."""

    title: Title
    datasets: dict[Name, Settings] = Field(min_length=1)
    backbones: list[Backbone] = Field(min_length=1)
    methods: list[Method] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)
    preset: str | None = None
    settings: Settings = {}
    vary: dict[Part, Vary] = {}
    order: list[Part] = []

    @field_validator("datasets", mode="before")
    @classmethod
    def _names_alone(cls, datasets: Any) -> Any:
        """A list of names: everything else is said by the datasets' files."""
        return {name: {} for name in datasets} if isinstance(datasets, list) else datasets

    @field_validator("settings")
    @classmethod
    def _base(cls, settings: Settings) -> Settings:
        return _settable(settings)

    @field_validator("datasets")
    @classmethod
    def _of_datasets(cls, datasets: dict[str, Settings]) -> dict[str, Settings]:
        return {name: _settable(settings) for name, settings in datasets.items()}

    @field_validator("preset")
    @classmethod
    def _is_one(cls, preset: str | None) -> str | None:
        if preset is not None:
            _check_preset(preset)
        return preset

    @field_validator("backbones", "methods", "seeds")
    @classmethod
    def _once(cls, names: list[Any]) -> list[Any]:
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"it names {twice} twice")
        return names

    @field_validator("vary")
    @classmethod
    def _named_otherwise(cls, vary: dict[str, Vary]) -> dict[str, Vary]:
        if taken := sorted({MAIN, SEEDS} & set(vary)):
            raise ValueError(f"{taken[0]} is a part of every study; call it something else")
        return vary


@dataclass(frozen=True)
class Study:
    """
    Attributes:
        name: the file's, by which its rows in the warehouse are known.
        file: where it was read, for sentences.
    """

    name: str
    file: str
    asked: StudyFile

    def settings(self, dataset: str, changed: Settings | None = None) -> Settings:
        """The base, for one dataset, with what is changed in it: flat names."""
        base = _written_out({PRESET: self.asked.preset} if self.asked.preset else {})
        own = self.asked.datasets[dataset]
        return base | self.asked.settings | own | _written_out(changed or {}) | {"dataset": dataset}

    def refused(self, where: str, why: str) -> InputError:
        return InputError(f"Study {self.file}, {where}: {why}")

    def varied(self, part: str) -> list[str]:
        """The datasets of one entry of `vary`: of those that it names, the study's; where it has none of them, as
        after `--dataset`, its first.
        """
        named = self.asked.vary[part].datasets
        here = list(self.asked.datasets)
        return here if named is None else [name for name in here if name in named] or here[:1]


def ready_names() -> list[str]:
    """The studies that ship."""
    return sorted(path.stem for path in READY.glob("*.json"))


def path_of_study(name: str) -> Path:
    """The file of a study that ships, by its name, or of any other, by its path.

    Raises:
        InputError: there is no such file.
    """
    if name in ready_names():
        return READY / f"{name}.json"
    path = path_of("study", name)
    if not path.is_file():
        raise InputError(
            f"There is no study {name!r}: give a file's path, or the name of one that ships "
            f"({', '.join(ready_names())})."
        )
    return path


def read_study(path: Path, datasets: Mapping[str, Mapping[str, Any]] | None = None) -> Study:
    """A study's file, checked as far as it can be without its cells (`cells.cells_of` checks those).

    Args:
        datasets: these take the place of the file's; what the file says of one of them stays, under what is said here.

    Raises:
        InputError: where something is wrong, what it is, and what to do.
    """
    values = config.json_object(path, "Study", "title, datasets, backbones, methods and seeds")
    file = f"{path.stem} ({path})"
    try:
        config.check_dataset_name(path.stem)
    except InputError:
        raise InputError(
            f"A study is called as its file, and {path.stem!r} cannot be a name: use up to "
            f"{LONGEST_NAME} of a–z, 0–9, - and _, beginning with a letter or digit."
        ) from None
    if datasets:
        given = values.get("datasets")
        known = given if isinstance(given, dict) else {}
        values["datasets"] = {
            name: {**_object(known.get(name)), **more} if isinstance(more, Mapping) else more
            for name, more in datasets.items()
        }
    try:
        asked = StudyFile.model_validate(values)
    except ValidationError as error:
        raise InputError(f"Study {file}, {_refusal(error)}") from None
    study = Study(path.stem, file, asked)
    _check_order(study)
    return study


def _check_order(study: Study) -> None:
    known = [MAIN, SEEDS, *study.asked.vary]
    for name in study.asked.order:
        if name not in known:
            raise study.refused("order", f"{name!r} is no part of it; its parts are: {', '.join(known)}.")
    for part, vary in study.asked.vary.items():
        if vary.seeds is not None and vary.seeds > len(study.asked.seeds):
            raise study.refused(f"vary → {part} → seeds", f"the study has {len(study.asked.seeds)} seeds, no more.")


def _written_out(settings: Settings) -> Settings:
    """Settings with a preset's in its name's place; of these without what a study says by itself."""
    preset = environment.preset(settings[PRESET]) if PRESET in settings else {}
    rest = {name: value for name, value in settings.items() if name != PRESET}
    return {name: value for name, value in preset.items() if name not in OWN} | rest


def _check_preset(name: Any) -> None:
    """
    Raises:
        ValueError: there is no such preset.
    """
    if name not in (names := environment.preset_names()):
        raise ValueError(f"there is no preset {name!r}; there are: {', '.join(names)}")


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _settable(settings: Settings) -> Settings:
    """Settings as a file may say them.

    Raises:
        ValueError: one is said elsewhere in the file, or there is none of this name.
    """
    known: Collection[str] = [parameter.name for parameter in config.parameters()]
    for name in settings:
        if name in OWN:
            raise ValueError(f"{name} cannot be set here; {OWN[name]}")
        if name not in known:
            raise ValueError(f"there is no setting {name!r}; docs/settings.md lists them")
    return settings


def _refusal(error: ValidationError) -> str:
    """The first thing that is wrong, and where in the file."""
    first = error.errors()[0]
    place = " → ".join(_place(part) for part in first["loc"] if part != "[key]") or "the whole of it"
    why = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{place}: it is missing; add it."
    if first["type"] == "extra_forbidden":
        return f"{place}: there is nothing of this name; check its spelling, or take it out."
    if first["type"] == "string_pattern_mismatch":
        why = f"it may be {config.PATTERNS['dataset']}"
    given = repr(first.get("input"))
    given = given if len(given) <= SHOWN else f"{given[:SHOWN]}…"
    return f"{place}: it cannot be {given}: {why}."


def _place(part: str | int) -> str:
    return f"number {part + 1}" if isinstance(part, int) else printable(part)[:SHOWN]


def in_order(study: Study) -> Sequence[Sequence[str]]:
    """Parts as their cells come, those that come together in one group: what `order` names first, then what tells
    most: the base with its first seed, its further seeds, then what is varied.
    """
    named = [[part] for part in dict.fromkeys(study.asked.order)]
    rest = [[MAIN], [SEEDS], list(study.asked.vary)]
    left = [[part for part in group if [part] not in named] for group in rest]
    return [*named, *(group for group in left if group)]

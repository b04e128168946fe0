"""Every knob: its type, bounds, default and where the default comes from.

The DAG's trigger form, the command line's options, the run's record in Postgres and the reference table in the docs
are all made from these models (`parameters`), so a knob is described once, here.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import (
    ValidationError,
    create_model,
    model_validator,
)

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.kinds import (
    COUNTERS,
    HOUSE,
    METHODS,
    REFERENCE,
    Step,
    chain,
)
from llmser_tasks.core.reachable import PACKAGE
from llmser_tasks.core.section import Section
from llmser_tasks.core.sections.augmentation import Ablation, Augmentation, Reliability
from llmser_tasks.core.sections.dataset import LONGEST_NAME, NAMES, Dataset, Ties
from llmser_tasks.core.sections.evaluation import BEST, Evaluation, Refresh
from llmser_tasks.core.sections.llm import CONNECTIONS, Llm
from llmser_tasks.core.sections.recommender import NegativesFrom, Recommender
from llmser_tasks.core.sections.texts import ENDPOINT, Texts

__all__ = [
    "BEFORE_THERE_WAS",
    "BEST",
    "ENDPOINT",
    "Ablation",
    "Augmentation",
    "Dataset",
    "Evaluation",
    "Llm",
    "NegativesFrom",
    "Parameter",
    "Recommender",
    "Refresh",
    "Reliability",
    "RunConfig",
    "Section",
    "Texts",
    "Ties",
    "check_dataset_name",
    "digest",
    "from_flat",
    "json_object",
    "load_dataset_defaults",
    "parameters",
    "to_flat",
]

S = TypeVar("S", bound=Section)

PATTERNS = {"dataset": NAMES, "endpoint": CONNECTIONS}  # in words, what each pattern allows
SHOWN = 80  # characters of a refused value that the message repeats


BEFORE_THERE_WAS: Mapping[str, Any] = {
    "ties": "file",
    "item_text": ["title"],
}  # what runs did before the setting existed


class Common(Section):
    """What every run has, whatever methods there are."""

    dataset: Dataset = Dataset()
    recommender: Recommender = Recommender()
    augmentation: Augmentation = Augmentation()
    reliability: Reliability = Reliability()
    texts: Texts = Texts()
    llm: Llm = Llm()
    evaluation: Evaluation = Evaluation()
    refresh: Refresh = Refresh()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.augmentation.pseudo_items > self.augmentation.pool:
            raise ValueError("pseudo_items (M) must not exceed pool (N)")
        if not self.augmentation.pseudo_items <= self.augmentation.picks_asked <= self.augmentation.pool:
            raise ValueError("asked_items must lie between pseudo_items (M) and pool (N)")
        if self.recommender.dimension % self.recommender.heads:
            raise ValueError("dimension must be divisible by heads")
        for _, section in self:
            named = self.evaluation.methods
            if (methods := tuple(section.with_methods(named))) != named:
                self.__dict__["evaluation"] = self.evaluation.model_copy(update={"methods": methods})
        methods = self.evaluation.methods
        if REFERENCE not in methods:
            raise ValueError(f"methods must hold {REFERENCE}, which the others are compared with")
        if self.evaluation.publish not in {BEST, *methods}:
            raise ValueError(f"publish names {self.evaluation.publish}, which is not among the methods")
        return self

    @property
    def methods(self) -> list[str]:
        """Those that are trained, each once, in the order in which tables list them."""
        return METHODS.sorted(self.evaluation.methods)

    @property
    def models(self) -> list[str]:
        """The methods whose models are trained for these; what is added to scores needs no model of its own."""
        return list(dict.fromkeys(METHODS.model_of(name) for name in self.methods))

    @property
    def chain(self) -> dict[str, Step]:
        """Steps and question steps that the run's methods need with these settings, in order."""
        values = {name: value for _, section in self for name, value in section}
        return chain([*self.methods, *COUNTERS], values)

    @property
    def seed(self) -> int:
        """The seed of everything that is done once per run."""
        return self.evaluation.seeds[0]

    def without(self, part: Ablation) -> bool:
        return part in self.augmentation.without

    def of(self, section: type[S]) -> S:
        """The settings of one method, which its folder declares."""
        return next(value for _, value in self if type(value) is section)


def of_methods() -> dict[str, Any]:
    """The settings that methods have to themselves, by the name of the section.

    A folder of a method, or a file's neighbour, has them in a file of its own: `methods/asrep/settings.py` makes the
    section asrep of the one `Section` in it, `methods/x_settings.py` the section x.
    """
    found = {}
    for path in sorted((HOUSE / "methods").rglob("*settings.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        name = parts[-1].removesuffix("settings").rstrip("_") or parts[-2]
        module = importlib.import_module(".".join([PACKAGE, *parts]))
        (section,) = (
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Section) and value is not Section
        )
        found[name] = (section, section())
    return found


if TYPE_CHECKING:

    class RunConfig(Common):
        """One run: a dataset through the whole pipeline."""
else:
    RunConfig = create_model(
        "RunConfig", __base__=Common, __doc__="One run: a dataset through the whole pipeline.", **of_methods()
    )


@dataclass(frozen=True)
class Parameter:
    """One knob as forms, options and docs see it."""

    section: str
    heading: str  # of the section, as people read it
    name: str
    schema: Mapping[str, Any]  # JSON schema of the value
    default: Any
    description: str


def parameters() -> Iterator[Parameter]:
    """Every knob, in order. Leaf names are unique over all sections, so a form or command line can be flat."""
    for section, field in RunConfig.model_fields.items():
        model = field.annotation
        assert isinstance(model, type) and issubclass(model, Section)
        properties = _schema(model)
        for name, leaf in model.model_fields.items():
            yield Parameter(
                section=section,
                heading=model.heading,
                name="dataset" if (section, name) == ("dataset", "name") else name,
                schema={k: v for k, v in properties[name].items() if k not in {"default", "description", "title"}},
                default=leaf.default,
                description=leaf.description or "",
            )


@cache
def _schema(model: type[Section]) -> Mapping[str, Any]:
    """JSON schemas of a section's knobs; kept, because a study asks for them thousands of times."""
    properties: Mapping[str, Any] = model.model_json_schema()["properties"]
    return properties


def from_flat(values: Mapping[str, Any]) -> RunConfig:
    """Build a RunConfig from flat names (`dataset` is the dataset's name); absent names keep their defaults.

    A dataset that ships as a preset, or has a file beside the presets, brings its own defaults for its section.

    Raises:
        InputError: a name is unknown or a value is out of bounds; the sentence names it.
    """
    sections: dict[str, dict[str, Any]] = {}
    known = {p.name: p for p in parameters()}
    for name, value in values.items():
        if name not in known:
            raise InputError(f"Unknown setting {name!r}; the settings are: {', '.join(known)}.")
        parameter = known[name]
        sections.setdefault(parameter.section, {})["name" if name == "dataset" else name] = value
    try:
        return RunConfig.model_validate(sections)
    except ValidationError as error:
        raise InputError(_refusal(error)) from None


def check_dataset_name(name: str) -> None:
    """Check a name before it becomes part of a path.

    Raises:
        InputError: no dataset may be called that; the sentence says what is allowed, and suggests a name.
    """
    try:
        Dataset(name=name)
    except ValidationError as error:
        raise InputError(_refusal(error, "dataset")) from None


def _refusal(error: ValidationError, section: str = "") -> str:
    """The first thing that is wrong, under the name by which people know the setting."""
    first = error.errors()[0]
    section, *names = [*([section] if section else []), *map(str, first["loc"])] or [""]
    leaf = names[0] if names else section
    name = "dataset" if (section, leaf) == ("dataset", "name") else leaf
    if not names:
        return f"The settings do not fit together: {first['msg'].removeprefix('Value error, ')}."
    place = f" (number {int(names[1]) + 1})" if len(names) > 1 and names[1].isdigit() else ""
    given = repr(first.get("input"))
    given = given if len(given) <= SHOWN else f"{given[:SHOWN]}…"
    why = first["msg"].removeprefix("Value error, ")
    if first["type"] == "too_short":
        why = "name at least one"
    if first["type"] == "string_pattern_mismatch" and name in PATTERNS:
        why = f"it may be {PATTERNS[name]}"
        if name == "dataset" and (usable := _usable_name(str(first["input"]))):
            why += f"; try {usable}"
    return f"Setting {name}{place} (--{name.replace('_', '-')}) cannot be {given}: {why}."


def _usable_name(wanted: str) -> str:
    """The nearest name that a dataset may have; empty if nothing of the wish can be kept."""
    plain = unicodedata.normalize("NFKD", wanted).casefold().encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:LONGEST_NAME].rstrip("-_")


def to_flat(config: RunConfig) -> dict[str, Any]:
    """The inverse of `from_flat`, JSON-ready."""
    dump = config.model_dump(mode="json")
    return {p.name: dump[p.section]["name" if p.name == "dataset" else p.name] for p in parameters()}


def digest(value: Any) -> str:
    """sha256 of a JSON-ready value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def load_dataset_defaults(name: str, folders: list[Path]) -> dict[str, Any]:
    """Defaults of a dataset file `NAME.json` (flat names), from the first folder that has one; else empty.

    Raises:
        InputError: the name is none, which is checked before it becomes a path; or the file cannot be read.
    """
    check_dataset_name(name)
    for folder in folders:
        path = folder / f"{name}.json"
        if path.is_file():
            return json_object(path, "Dataset file", "settings")
    return {}


def json_object(path: Path, what: str, holds: str) -> dict[str, Any]:
    """What a file holds; `what` it is and what it `holds` are for the sentences.

    Raises:
        InputError: it cannot be read, or is not one JSON object, in which every name stands once.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"{what} {path} says {twice!r} twice; take one of them out.")
        return dict(pairs)

    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except UnicodeDecodeError:
        raise InputError(f"{what} {path} is not UTF-8; save it as that.") from None
    except (json.JSONDecodeError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{what} {path} is not JSON: {why}.") from None
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror or error}.") from None
    if not isinstance(values, dict):
        raise InputError(f"{what} {path} must hold one JSON object of {holds}.")
    return values

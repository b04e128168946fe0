"""What there are several of, and a setting chooses by name: each is one file, which declares itself.

    DECLARED = Backbone(title="SASRec", place=1)

stands at the top level of its file. It is read without running the file, so that a form or a page can list backbones
without loading torch; its values are therefore literals. The file's name, with - for _, is the name in settings.
Choices, defaults and titles come from here, and nothing else in the house has to be told of one more.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from llmser_tasks.core.reachable import DECLARED, PACKAGE, chosen

HOUSE = Path(__file__).parents[1]
MAIN = "method"  # of a folder with many files: the one that declares it, under the folder's name


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What every kind says.

    Attributes:
        title: what people read.
        place: where it stands in lists; the first is the default.
    """

    title: str
    place: int


@dataclass(frozen=True, kw_only=True)
class Backbone(Declared):
    """A sequence encoder; its file's `BACKBONE` makes the model.

    Attributes:
        dropout, averaging: of a training that does not set them.
    """

    dropout: float = 0.5
    averaging: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Loss(Declared):
    """What a position costs; its file's `make_loss` makes the function.

    Attributes:
        negatives: how many are drawn, unless a setting says otherwise.
        shared: a batch's positions share them; else each has its own.
    """

    negatives: int
    shared: bool


@dataclass(frozen=True, kw_only=True)
class ItemTable(Declared):
    """What an item is to a model; its file's `ITEM_TABLE` makes the table (`recommenders.items.table`).

    Attributes:
        features: names of the arrays that it is made from, each with a row for padding and for every item.
    """

    features: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Term(Declared):
    """Something that a training minimises, per user; its file's `make_term` makes it (`recommenders.terms.term`).

    Attributes:
        features: names of the arrays that it needs.
    """

    features: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DumpFormat(Declared):
    """A format of dumps; its file's `SOURCE` says how to read it.

    Attributes:
        noun: what one item is called in prompts.
    """

    noun: str = "product"


@dataclass(frozen=True, kw_only=True)
class Method(Declared):
    """What recommends. A counter's file has `rank` (`methods.counting`).

    Attributes:
        trained: what its trained models are called among a run's artefacts; empty: a counter, which trains none.
        charted: shown in charts by group, beside the tables.
        colour: its name among the page's colours.
    """

    trained: str = ""
    charted: bool = True
    colour: str

    @property
    def heading(self) -> str:
        """The title where it begins a line."""
        return self.title[0].upper() + self.title[1:]


@dataclass(frozen=True, kw_only=True)
class QuestionStep(Declared):
    """What an LLM is asked per user.

    Attributes:
        short: the title where room is small.
        asks: what is asked, in a few words.
    """

    short: str
    asks: str


D = TypeVar("D", bound=Declared)


class Kind(Mapping[str, D]):
    """All of one kind by name, in the order of their places."""

    def __init__(self, declares: type[D], *folders: str) -> None:
        """
        Args:
            folders: where their files are, below the package.
        """
        self._declares = declares
        self._folders = folders

    def __getitem__(self, name: str) -> D:
        return self._all[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def default(self) -> str:
        return next(iter(self))

    def module_of(self, name: str) -> str:
        """The module of one of them, which a step that uses it has to name (`reachable.chosen`)."""
        return self._all[name][1]

    def load(self, name: str) -> ModuleType:
        """Run its file."""
        return chosen(self.module_of(name))

    @cached_property
    def _all(self) -> dict[str, tuple[D, str]]:
        """Each with its module."""
        found = {}
        for folder in self._folders:
            for path in (HOUSE / folder).rglob("*.py"):
                if (values := _declaration(path, self._declares.__name__)) is not None:
                    parts = path.relative_to(HOUSE).with_suffix("").parts
                    name = parts[-2] if parts[-1] == MAIN else parts[-1]
                    found[name.replace("_", "-")] = (self._declares(**values), ".".join([PACKAGE, *parts]))
        return dict(sorted(found.items(), key=lambda item: (item[1][0].place, item[0])))


def _declaration(path: Path, of: str) -> dict[str, Any] | None:
    """What a file declares itself to be; None: it is none of this kind."""
    text = path.read_text(encoding="utf-8")
    if f"\n{DECLARED} = {of}(" not in text:
        return None
    for statement in ast.parse(text, str(path)).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(keywords=keywords)) if name == DECLARED:
                return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
    return None


@dataclass(frozen=True)
class OneOf:
    """A setting's type: the name of one of a kind, in pydantic's models and the JSON schemas that they give."""

    kind: Kind[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, core_schema.str_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.kind)}

    def _check(self, name: str) -> str:
        if name not in self.kind:
            *others, last = map(repr, self.kind)
            expected = f"{', '.join(others)} or {last}" if others else last
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
        return name


BACKBONES = Kind(Backbone, "recommenders/backbones")
LOSSES = Kind(Loss, "recommenders/losses")
ITEM_TABLES: Kind[ItemTable] = Kind(ItemTable, "recommenders/items")
TERMS: Kind[Term] = Kind(Term, "recommenders/terms")
DUMP_FORMATS = Kind(DumpFormat, "ingest/formats")
METHODS = Kind(Method, "methods")
QUESTION_STEPS = Kind(QuestionStep, "methods")


def reported() -> dict[str, Method]:
    """Methods as tables list them: the trained ones, then the counters from the strongest on."""
    trained = {name: method for name, method in METHODS.items() if method.trained}
    return trained | {name: METHODS[name] for name in reversed(list(METHODS)) if name not in trained}

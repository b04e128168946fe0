"""Whatever there are several of, for a setting to choose by name: each is one file, which declares itself.

    DECLARED = Backbone(title="SASRec", place=1)

stands at the top level of its file. It is read without running the file, so that a form or a page can list backbones
without loading torch; its values are therefore literals. The file's name, with - for _, is the name in settings.
Choices, defaults and titles come from here, and nothing else in the house needs to hear of a new one.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, product
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from llmser_tasks.core.errors import DeclarationError
from llmser_tasks.core.reachable import DECLARED, PACKAGE, chosen

TITLE = "title"  # the field that every format has
HOUSE = Path(__file__).parents[1]
MAIN = "method"  # in a folder of many files, the one that declares them, under the folder's name
WITH = "+"  # between a method, its item table and what is added to its scores


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What every declaration says.

    Attributes:
        title: what people read.
        place: its place in lists; the first is the default.
    """

    title: str
    place: int


@dataclass(frozen=True, kw_only=True)
class Backbone(Declared):
    """A sequence encoder; its file's `BACKBONE` makes the model.

    Attributes:
        dropout, averaging: what a training uses that does not set them.
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
        needs: steps whose files give these (`methods.making.StepModule`).
    """

    features: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Term(Declared):
    """Something that a training minimises, per user; its file's `make_term` makes it (`recommenders.terms.term`).

    Attributes:
        features: names of the arrays that it needs.
    """

    features: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Addition(Declared):
    """Something added to a finished model's scores; its file has what `methods.adding.AdditionModule` names.

    Attributes:
        needs: steps whose artefacts it is made of, beside histories and catalogue.
    """

    needs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DumpFormat(Declared):
    """A format of dumps; its file's `SOURCE` says how to read it.

    Attributes:
        noun: what one item is called in prompts.
        fields: what its item dumps tell of an item beside the title; `SOURCE.details` says how they are read.
        text: which of these, and the title, make an item's text unless a setting says otherwise, in this order.
    """

    noun: str = "product"
    fields: tuple[str, ...] = ()
    text: tuple[str, ...] = (TITLE,)


@dataclass(frozen=True, kw_only=True)
class Method(Declared):
    """A way to recommend: its file has what `methods.trained.TrainedModule` names, or, a counter's, `rank`
    (`methods.counting`).

    Attributes:
        trained: it trains a model for every seed; else it only counts, and is always measured.
        reference: the others are compared with it; there is exactly one.
        usual: a run trains it unless `methods` says otherwise.
        needs: steps whose artefacts it is made of, beside histories and catalogue.
        item_table: what items are to its models; empty: the usual one.
        addition: what is added to its scores; empty: nothing.
        terms: what its trainings minimise beside next items.
        ablations: parts of it that a run may leave out (`without`).
        charted: shown in charts by group, beside the tables.
        colour: its name among the page's colours.
    """

    trained: bool = False
    reference: bool = False
    usual: bool = False
    needs: tuple[str, ...] = ()
    item_table: str = ""
    addition: str = ""
    terms: tuple[str, ...] = ()
    ablations: tuple[str, ...] = ()
    charted: bool = True
    colour: str

    @property
    def heading(self) -> str:
        """The title where it begins a line."""
        return self.title[0].upper() + self.title[1:]


@dataclass(frozen=True, kw_only=True)
class Step(Declared):
    """Makes an artefact that methods need, under the step's name; its file has what
    `methods.making.StepModule` names.

    Attributes:
        needs: other steps that come before it, beside histories and catalogue.
        trains: it trains a model, from which a refresh goes on.
        ranks: it ranks with a model, so a GPU is of use here too.
        kept: in a refresh, users who have not changed keep what the earlier run made of them.
        tables: the warehouse's, that it writes.
    """

    needs: tuple[str, ...] = ()
    trains: bool = False
    ranks: bool = False
    kept: bool = False
    tables: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class QuestionStep(Step):
    """What an LLM is asked per user; its file has what `asking.ask.QuestionModule` names.

    Attributes:
        short: the title where room is small.
        asks: what is asked, in a few words.
    """

    short: str
    asks: str


@dataclass(frozen=True, kw_only=True)
class PoolSource(Declared):
    """Finds what somebody may have chosen before their first item; its file has what
    `methods.llmser.candidate_pools.Source` names.

    Attributes:
        found: what its candidates are, as a prompt says it.
        by: how they were found.
    """

    found: str
    by: str


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

    def about(self, name: str) -> str:
        """The docstring of its file."""
        path = HOUSE.joinpath(*self.module_of(name).split(".")[1:]).with_suffix(".py")
        return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""

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


class Methods(Kind[Method]):
    """The methods, each also with another item table and with something added to its scores, where a name says so:
    `base+text-start+content`. Those that files declare are listed.
    """

    def __getitem__(self, name: str) -> Method:
        """
        Raises:
            KeyError: there is no such method, or it does not go together with these parts.
        """
        own, *parts = name.split(WITH)
        declared = super().__getitem__(own)
        if not parts:
            return declared
        tables, additions = _kinds_of(parts)
        fixed = bool(declared.item_table) or ITEM_TABLES.default in tables
        if [*tables, *additions] != parts or not declared.trained or len(additions) > 1 or len(tables) > (not fixed):
            raise KeyError(name)
        of_tables, added = [ITEM_TABLES[table] for table in tables], [ADDITIONS[addition] for addition in additions]
        needs = [declared.needs, *(table.needs for table in of_tables), *(addition.needs for addition in added)]
        return replace(
            declared,
            title=f" {WITH} ".join([declared.title, *(part.title for part in (*of_tables, *added))]),
            reference=False,
            usual=False,
            needs=tuple(dict.fromkeys(need for of_part in needs for need in of_part)),
            item_table="".join(tables) or declared.item_table,
            addition="".join(additions),
        )

    def module_of(self, name: str) -> str:
        return super().module_of(name.split(WITH)[0])

    def model_of(self, name: str) -> str:
        """The method that trains this one's models: the same without what is added to its scores."""
        own, *parts = name.split(WITH)
        return WITH.join([own, *_kinds_of(parts)[0]])

    def needed_at_most(self, own: str) -> list[str]:
        """Steps that a declared method needs, with whatever parts."""
        names = (name for name in self.every() if name.split(WITH)[0] == own)
        return list(dict.fromkeys(need for name in names for need in self[name].needs))

    def sorted(self, names: Iterable[str]) -> list[str]:
        """Each once, as tables list them: a method, then the same with parts."""
        order = [*self, *ITEM_TABLES, *ADDITIONS]
        return sorted(set(names), key=lambda name: [order.index(part) for part in name.split(WITH)])

    def every(self) -> list[str]:
        """All names that there are."""
        parts = (("", *(WITH + name for name in kind)) for kind in (ITEM_TABLES, ADDITIONS))
        names = ("".join(name) for name in product(self, *parts))
        return [name for name in names if name in self]


def _kinds_of(parts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The item tables and the additions among the parts of a method's name."""
    return [part for part in parts if part in ITEM_TABLES], [part for part in parts if part in ADDITIONS]


def _declaration(path: Path, of: str) -> dict[str, Any] | None:
    """What a file declares itself to be; None: nothing of this kind."""
    text = path.read_text(encoding="utf-8")
    if f"\n{DECLARED} = {of}(" not in text:
        return None
    for statement in ast.parse(text, str(path)).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(keywords=keywords)) if name == DECLARED:
                return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in keywords}
    return None


@dataclass(frozen=True)
class MethodName:
    """A setting's type: the name of a method that is trained, or one of a few other words; with its parts in order.

    Attributes:
        words: those others.
    """

    words: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, core_schema.str_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        trained = [name for name in METHODS.every() if METHODS[name].trained]
        return {"type": "string", "format": "method", "examples": [*self.words, *trained]}

    def _check(self, name: str) -> str:
        if name in self.words:
            return name
        own, *parts = name.split(WITH)
        tables, additions = _kinds_of(parts)
        ordered = WITH.join([own, *tables, *additions])
        if len(tables) + len(additions) == len(parts) and ordered in METHODS and METHODS[ordered].trained:
            return ordered
        expected = f"name {', '.join([*self.words, *TRAINED][:-1])} or {TRAINED[-1]}"
        if more := behind():
            expected += f", or one of them with an item table or an addition behind it ({', '.join(more)})"
        raise PydanticCustomError("method_name", "{expected}", {"expected": expected})


@dataclass(frozen=True)
class OneOf:
    """A setting's type: the name of one of a kind, in pydantic's models and the JSON schemas that they give."""

    kind: Collection[str]

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
METHODS = Methods(Method, "methods")
ADDITIONS: Kind[Addition] = Kind(Addition, "methods/additions")
STEPS = Kind(Step, "methods", "texts")
QUESTION_STEPS = Kind(QuestionStep, "methods")
POOL_SOURCES: Kind[PoolSource] = Kind(PoolSource, "methods")

TRAINED = tuple(name for name, method in METHODS.items() if method.trained)
COUNTERS = tuple(name for name, method in METHODS.items() if not method.trained)
USUAL = tuple(name for name, method in METHODS.items() if method.usual)
REFERENCE = next(name for name, method in METHODS.items() if method.reference)
ABLATIONS = tuple(part for method in METHODS.values() for part in method.ablations)


def behind() -> list[str]:
    """What may stand behind a method's name."""
    return [WITH + name for name in (*ITEM_TABLES, *ADDITIONS) if name != ITEM_TABLES.default]


def reported(methods: Iterable[str] = METHODS) -> dict[str, Method]:
    """Methods as tables list them: the trained ones, then the counters from the strongest on; no name that is none."""
    wanted = {name for name in methods if name in METHODS}
    trained = METHODS.sorted(wanted.difference(COUNTERS))
    return {name: METHODS[name] for name in [*trained, *(name for name in reversed(COUNTERS) if name in wanted)]}


def chain(methods: Iterable[str] = METHODS) -> dict[str, Step]:
    """The steps and question steps that these methods need, each after all that it needs.

    Raises:
        DeclarationError: something needs a step that there is not, or steps need each other in a circle.
    """
    every: dict[str, Step] = {**STEPS, **QUESTION_STEPS}
    open_: set[str] = set()
    asking: dict[str, tuple[str, ...]] = {method: METHODS[method].needs for method in methods}
    while asking:
        for name, needs in asking.items():
            if unknown := [need for need in needs if need not in every]:
                raise DeclarationError(
                    f"{name} needs {unknown[0]}, which is no step; correct `needs` in its declaration, or declare the "
                    "step in a file of that name."
                )
        more = {need for needs in asking.values() for need in needs} - open_
        open_ |= more
        asking = {name: every[name].needs for name in more}
    ordered: dict[str, Step] = {}
    while open_:
        ready = [name for name in open_ if set(every[name].needs) <= set(ordered)]
        if not ready:
            raise DeclarationError(f"{_circle(open_, every)}; take one of these out of `needs` in its declaration.")
        first = min(ready, key=lambda name: (every[name].place, name))
        ordered[first] = every[first]
        open_.remove(first)
    return ordered


def _circle(among: Collection[str], every: Mapping[str, Step]) -> str:
    """Who needs whom, of steps each of which needs another of them: "a needs b, b needs a"."""
    path = [min(among)]
    while (need := next(need for need in every[path[-1]].needs if need in among)) not in path:
        path.append(need)
    round_ = [*path[path.index(need) :], need]
    return ", ".join(f"{name} needs {need}" for name, need in pairwise(round_))

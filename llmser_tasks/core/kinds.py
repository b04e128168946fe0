"""Whatever there are several of, for a setting to choose by name: each is one file, which declares itself.

    DECLARED = Backbone(title="SASRec", place=1)

stands at the top level of its file. It is read without running the file, so that a form or a page can list backbones
without loading torch; its values are therefore literals. The file's name, with - for _, is the name in settings.
Choices, defaults and titles come from here, and nothing else in the house needs to hear of a new one.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise, product
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from llmser_tasks.core.declared import (
    TITLE,
    Addition,
    Backbone,
    Declared,
    DumpFormat,
    ItemTable,
    Loss,
    Method,
    PoolSource,
    QuestionStep,
    Step,
    Term,
)
from llmser_tasks.core.errors import DeclarationError
from llmser_tasks.core.reachable import DECLARED, PACKAGE, chosen

__all__ = [
    "ABLATIONS",
    "ADDITIONS",
    "BACKBONES",
    "COUNTERS",
    "DUMP_FORMATS",
    "HOUSE",
    "ITEM_TABLES",
    "LOSSES",
    "MAIN",
    "METHODS",
    "POOL_SOURCES",
    "QUESTION_STEPS",
    "REFERENCE",
    "STEPS",
    "TERMS",
    "TITLE",
    "TRAINED",
    "USUAL",
    "WITH",
    "Addition",
    "Backbone",
    "Declared",
    "DumpFormat",
    "ItemTable",
    "Kind",
    "Loss",
    "Method",
    "Methods",
    "PoolSource",
    "QuestionStep",
    "Step",
    "Term",
    "behind",
    "chain",
    "kinds_of",
    "reported",
]

HOUSE = Path(__file__).parents[1]
MAIN = "method"  # in a folder of many files, the one that declares them, under the folder's name
WITH = "+"  # between a method, its item table and what is added to its scores


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
        tables, additions = kinds_of(parts)
        fixed = bool(declared.item_table) or ITEM_TABLES.default in tables or self.found(own)
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
        return super().module_of(self.without_parts(name))

    def without_parts(self, name: str) -> str:
        """The method that a file declares, of one with an item table or an addition behind its name."""
        return name.split(WITH)[0]

    def model_of(self, name: str) -> str:
        """The method that trains this one's models: the same without what is added to its scores."""
        own, *parts = name.split(WITH)
        return WITH.join([own, *kinds_of(parts)[0]])

    def reference_of(self, name: str) -> str:
        """The reference, with the item table of this one's models."""
        return WITH.join([REFERENCE, *kinds_of(name.split(WITH)[1:])[0]])

    def needed_at_most(self, own: str) -> list[str]:
        """Steps that a declared method needs, with whatever parts; all that there are, where it may be any other."""
        if self.found(own):
            return [name for name in chain(self.every()) if name in STEPS]
        names = (name for name in self.every() if self.without_parts(name) == own)
        return list(dict.fromkeys(need for name in names for need in self[name].needs))

    def found(self, own: str) -> bool:
        """Whether a step that tries others finds out what a declared method is, its item table included."""
        return any(need in STEPS and STEPS[need].tries for need in super().__getitem__(own).needs)

    def tried(self, methods: Iterable[str]) -> list[str]:
        """What there is to try in a run with these methods: each of them without its parts, and with every item table
        that it takes. What comes after the reference is not: it begins with a finished training.
        """
        families = dict.fromkeys(self.without_parts(name) for name in self.sorted(methods))
        able = (name for name in families if self[name].trained and not self[name].after_reference)
        own = [name for name in able if not self.found(name)]
        tables = ("", *(WITH + name for name in ITEM_TABLES))
        return [name for family in own for table in tables if (name := family + table) in self]

    def sorted(self, names: Iterable[str]) -> list[str]:
        """Each once, as tables list them: a method, then the same with parts."""
        order = [*self, *ITEM_TABLES, *ADDITIONS]
        return sorted(set(names), key=lambda name: [order.index(part) for part in name.split(WITH)])

    def usual(self, reference: str) -> list[str]:
        """What a run trains unless its settings say otherwise: usual methods, and the reference with usual parts."""
        parts = [name for kind in (ITEM_TABLES, ADDITIONS) for name, part in kind.items() if part.usual]
        return self.sorted([*(name for name, method in self.items() if method.usual), WITH.join([reference, *parts])])

    def every(self) -> list[str]:
        """All names that there are."""
        parts = (("", *(WITH + name for name in kind)) for kind in (ITEM_TABLES, ADDITIONS))
        names = ("".join(name) for name in product(self, *parts))
        return [name for name in names if name in self]


def kinds_of(parts: Sequence[str]) -> tuple[list[str], list[str]]:
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
REFERENCE = next(name for name, method in METHODS.items() if method.reference)
USUAL = tuple(METHODS.usual(REFERENCE))
ABLATIONS = tuple(part for method in METHODS.values() for part in method.ablations)


def behind() -> list[str]:
    """What may stand behind a method's name."""
    return [WITH + name for name in (*ITEM_TABLES, *ADDITIONS) if name != ITEM_TABLES.default]


def reported(methods: Iterable[str] = METHODS) -> dict[str, Method]:
    """Methods as tables list them: the trained ones, then the counters from the strongest on; no name that is none."""
    wanted = {name for name in methods if name in METHODS}
    trained = METHODS.sorted(wanted.difference(COUNTERS))
    return {name: METHODS[name] for name in [*trained, *(name for name in reversed(COUNTERS) if name in wanted)]}


def chain(methods: Iterable[str] = METHODS, settings: Mapping[str, Any] | None = None) -> dict[str, Step]:
    """The steps and question steps that these methods need, each after all that it needs. Where one of them tries the
    other methods, what these need is among them, and it comes last.

    Args:
        settings: flat names; steps that nobody needs with these are left out. None: none is.

    Raises:
        DeclarationError: something needs a step that there is not, or steps need each other in a circle.
    """
    every: dict[str, Step] = {**STEPS, **QUESTION_STEPS}
    unneeded = {name for name, step in every.items() if settings is not None and not _needed(step, settings)}
    needs_of = {name: tuple(need for need in step.needs if need not in unneeded) for name, step in every.items()}
    open_: set[str] = set()
    names = list(methods)
    if any(METHODS.found(METHODS.without_parts(name)) for name in names):
        names += METHODS.tried(names)
    asking: dict[str, tuple[str, ...]] = {method: METHODS[method].needs for method in names}
    while asking:
        for name, needs in asking.items():
            if unknown := [need for need in needs if need not in every]:
                raise DeclarationError(
                    f"{name} needs {unknown[0]}, which is no step; correct `needs` in its declaration, or declare the "
                    "step in a file of that name."
                )
        more = {need for needs in asking.values() for need in needs} - open_
        open_ |= more
        asking = {name: needs_of[name] for name in more}
    ordered: dict[str, Step] = {}
    while open_:
        trying = {name for name in open_ if every[name].tries}
        ready = [name for name in open_ - trying or open_ if set(needs_of[name]) <= set(ordered)]
        if not ready:
            raise DeclarationError(f"{_circle(open_, every)}; take one of these out of `needs` in its declaration.")
        first = min(ready, key=lambda name: (every[name].place, name))
        ordered[first] = every[first]
        open_.remove(first)
    return ordered


def _needed(step: Step, settings: Mapping[str, Any]) -> bool:
    """Whether these settings are such that somebody may need the step."""
    return not step.when or settings.get(step.when[0]) == step.when[1]


def _circle(among: Collection[str], every: Mapping[str, Step]) -> str:
    """Who needs whom, of steps each of which needs another of them: "a needs b, b needs a"."""
    path = [min(among)]
    while (need := next(need for need in every[path[-1]].needs if need in among)) not in path:
        path.append(need)
    round_ = [*path[path.index(need) :], need]
    return ", ".join(f"{name} needs {need}" for name, need in pairwise(round_))

"""The rooms of the house: who may import whom, and where SQL is spoken. Read from the source, nothing is run.

A room is a folder of `llmser_tasks`; `dags` and `plugins` are rooms, too. A guard says in a sentence what is wrong and
what to do; each is shown here on a small house in which it finds something.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from llmser_tasks.core.kinds import (
    BACKBONES,
    DUMP_FORMATS,
    ITEM_TABLES,
    LOSSES,
    METHODS,
    POOL_SOURCES,
    QUESTION_STEPS,
    STEPS,
    TERMS,
)

ROOT = Path(__file__).parents[1]
PACKAGE = "llmser_tasks"

FLOORS = (  # from the ground up: a room imports rooms of its own floor and of those below
    {"core"},
    {"postgres"},
    {"warehouse"},
    {"ingest", "llm", "page", "sample", "sequences"},
    {"asking", "recommenders", "texts"},
    {"evaluation", "methods", "ranker"},
    {"runs"},
    {"services", "serving"},
    {"cli", "commands", "dags", "plugins"},
)
NOTHING_ELSE = {  # than these, of all that its floor allows
    "ingest": {"core"},
    "llm": {"core", "warehouse"},  # knows nothing of recommendation
    "page": {"core"},
    "recommenders": {"core", "sequences"},  # know nothing of LLMs or methods
    "sample": {"core"},
    "sequences": {"core"},
}

DATABASES = {"alembic", "duckdb", "psycopg2", "sqlalchemy", "sqlite3"}  # packages that are spoken to in SQL
SQL = re.compile(
    r"\s*(select\b.*\bfrom\b|select\s+\w+\(|insert\s+(or\s+\w+\s+)?into\b|update\s+\S+\s.*\bset\b|delete\s+from\b"
    r"|with\s+\w+(\s*\([^)]*\))?\s+as\s+(materialized\s*)?\(|(create|alter|drop)\s+(table|view|schema|index|role|database)\b"
    r"|(copy|listen|notify|show|comment\s+on)\s+[\w{]+\s*$)",
    re.IGNORECASE | re.DOTALL,
)
SPEAKS_SQL = {  # rooms and modules, and why
    "llmser_tasks.warehouse": "the warehouse",
    "llmser_tasks.postgres": "the two databases and their owners are made before there is a warehouse",
    "llmser_tasks.ingest": "DuckDB runs over the lines of a dump and is gone after it",
    "llmser_tasks.texts.encoder": "the vectors of titles are cached in a file of SQLite's",
}
KINDS = (BACKBONES, LOSSES, ITEM_TABLES, TERMS, DUMP_FORMATS, METHODS, STEPS, QUESTION_STEPS, POOL_SOURCES)
DECLARED = {name for kind in KINDS for name in kind}
OWN_NAMES = {  # rooms that hold what is declared, and the sample, which writes dumps in these formats
    f"{PACKAGE}.{room}"
    for room in (
        "ingest.formats", "methods", "recommenders.backbones", "recommenders.items", "recommenders.losses",
        "recommenders.terms", "sample", "texts.item_neighbours", "texts.item_vectors", "texts.user_neighbours",
        "texts.user_vectors",
    )
}  # fmt: skip
MEANS_MORE = {  # words that are something else, too
    "llmser": "the product, its schema and its connections",
    "popularity": "a way to draw negatives",
    "pseudo": "items that a report tells of where a run has any",
    "reason": "a column: why something is not there",
    "reliability": "a table, and a section of the settings",
    "search": "what people do in a page",
    "titles": "what items are called",
}
ADDRESSES = {"llmser_tasks.services": {"sqlalchemy.make_url"}}  # what takes an address apart and connects to nothing


@dataclass(frozen=True)
class Import:
    """`name` is the imported module in full, or a name in it."""

    name: str
    line: int
    only_for_types: bool


@dataclass(frozen=True)
class Module:
    name: str
    tree: ast.Module

    @property
    def room(self) -> str:
        first, _, rest = self.name.partition(".")
        return rest.partition(".")[0] if first == PACKAGE else first

    @cached_property
    def imports(self) -> list[Import]:
        found = []
        for node, only_for_types in _walk(self.tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                assert not isinstance(node, ast.ImportFrom), f"{self.name} imports relatively"
                continue
            found += [Import(name, node.lineno, only_for_types) for name in names]
        return found

    @cached_property
    def strings(self) -> list[tuple[int, str]]:
        """Line and text of every literal that is no docstring, those that stand side by side joined. What an f-string
        puts in is `{}`."""
        found, parts = [], set()
        for node, _ in _walk(self.tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                parts.add(id(node.value))  # a docstring
            elif isinstance(node, ast.JoinedStr):
                parts |= {id(value) for value in node.values}
                texts = (str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
                found.append((node.lineno, "".join(texts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
                found.append((node.lineno, node.value))
        return found


def house(root: Path = ROOT) -> dict[str, Module]:
    """All modules by name."""
    found = {}
    for top in (PACKAGE, "dags", "plugins"):
        for path in sorted((root / top).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            found[name] = Module(name, ast.parse(path.read_text(encoding="utf-8")))
    return found


def wrong_ways(modules: Mapping[str, Module]) -> Iterator[str]:
    """Imports that go up, or further than a room may know."""
    floor = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
    for module in modules.values():
        if module.name == PACKAGE:
            continue
        if module.room not in floor:
            yield f"The room of {module.name} has no floor; give {module.room} one in FLOORS."
            continue
        for each in module.imports:
            there = _room(each.name)
            if there is None or there == module.room or not (known := floor.get(there)):
                if there == "core" or there is None or there == module.room:
                    continue
                yield f"{module.name}:{each.line} imports {each.name}, whose room {there} has no floor in FLOORS."
            elif known > floor[module.room]:
                yield (
                    f"{module.name}:{each.line} imports {each.name}: {there} is above {module.room}, and imports point "
                    "downwards only. Move what both need down, or hand it in from above."
                )
            elif there not in NOTHING_ELSE.get(module.room, floor):
                yield (
                    f"{module.name}:{each.line} imports {each.name}: {module.room} knows nothing of {there}, only of "
                    f"{', '.join(sorted(NOTHING_ELSE[module.room]))}."
                )


def circles(modules: Mapping[str, Module]) -> Iterator[str]:
    """Modules, and rooms, that import each other in a circle. What is imported for types alone counts between rooms."""
    between_modules = {
        module.name: {
            name for each in module.imports if not each.only_for_types and (name := _module(each.name, modules))
        }
        - {module.name}
        for module in modules.values()
    }
    between_rooms: dict[str, set[str]] = {}
    for module in modules.values():
        there = {room for each in module.imports if (room := _room(each.name))}
        between_rooms.setdefault(module.room, set()).update(there - {module.room})
    for what, graph in (("Modules", between_modules), ("Rooms", between_rooms)):
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            yield f"{what} import each other in a circle: {' ← '.join(error.args[1])}. Move what both need below both."


def airflow_within(modules: Mapping[str, Module]) -> Iterator[str]:
    """Only dags and plugins know Airflow."""
    for module in modules.values():
        if module.name.startswith(PACKAGE):
            for each in module.imports:
                if each.name.partition(".")[0] == "airflow":
                    yield f"{module.name}:{each.line} imports {each.name}; Airflow calls {PACKAGE}, never the reverse."


def sql_outside(modules: Mapping[str, Module]) -> Iterator[str]:
    """What speaks SQL and is not where it may."""
    for module in modules.values():
        if _within(module.name, SPEAKS_SQL):
            continue
        yield from _spoken(module)


def named_elsewhere(modules: Mapping[str, Module]) -> Iterator[str]:
    """What is one of a kind, named where it is none of the module's business: one more would have to be told there."""
    for module in modules.values():
        if _within(module.name, OWN_NAMES):
            continue
        for line, text in module.strings:
            if text in DECLARED and text not in MEANS_MORE:
                yield f"{module.name}, line {line}, names {text}; ask its kind (core/kinds.py), or let its file say it."


def _spoken(module: Module) -> Iterator[str]:
    remedy = "Put it into a function of warehouse/tables, with a typed result, and call that."
    allowed = {name for part, names in ADDRESSES.items() if _within(module.name, [part]) for name in names}
    for each in module.imports:
        if each.name.partition(".")[0] in DATABASES and each.name not in allowed:
            yield f"{module.name}:{each.line} imports {each.name}; only the warehouse speaks SQL. {remedy}"
    for line, text in module.strings:
        if _is_sql(text):
            yield f"{module.name}:{line} holds SQL ({' '.join(text.split())[:50]} …). {remedy}"


def _is_sql(text: str) -> bool:
    """Whether it begins as a statement does, in which a keyword is small or large throughout."""
    return SQL.match(text) is not None and not text.split()[0].istitle()


def _within(name: str, places: Iterable[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def _room(name: str) -> str | None:
    """The room of a module of ours by its full name; None: it is not ours, or the package itself (its version)."""
    first, *rest = name.split(".")
    if first == PACKAGE:
        return rest[0] if rest and not rest[0].startswith("__") else None
    return "dags" if first.startswith("llmser") else None  # they import each other by their bare names


def _module(name: str, modules: Mapping[str, Module]) -> str | None:
    """The module that an import reads: the name itself, or what holds it."""
    return name if name in modules else holder if (holder := name.rpartition(".")[0]) in modules else None


def _walk(node: ast.AST, only_for_types: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, each after those around it, and whether it stands under `if TYPE_CHECKING`."""
    yield node, only_for_types
    for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, only_for_types or for_types)


GUARDS = (wrong_ways, circles, airflow_within, sql_outside, named_elsewhere)


@pytest.fixture(scope="module")
def ours() -> dict[str, Module]:
    return house()


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.__name__)
def test_the_house_is_in_order(ours: dict[str, Module], guard: object) -> None:
    assert callable(guard)
    wrong = list(guard(ours))
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("guard", "files", "said"),
    [
        (wrong_ways, {"core/a": "from llmser_tasks.warehouse import engine"}, "warehouse is above core"),
        (wrong_ways, {"llm/a": "def f():\n    import llmser_tasks.recommenders.model"}, "recommenders is above llm"),
        (wrong_ways, {"llm/a": "from llmser_tasks.sequences.pools import P"}, "llm knows nothing of sequences"),
        (wrong_ways, {"recommenders/a": "from llmser_tasks import texts"}, "recommenders knows nothing of texts"),
        (wrong_ways, {"runs/a": "import llmser_lineage"}, "dags is above runs"),
        (wrong_ways, {"attic/a": ""}, "The room of llmser_tasks.attic.a has no floor"),
        (wrong_ways, {"runs/a": "from llmser_tasks.attic import a"}, "whose room attic has no floor"),
        (
            circles,
            {"llm/a": "from llmser_tasks.llm import b", "llm/b": "def f():\n    from llmser_tasks.llm.a import x"},
            "Modules import each other in a circle: llmser_tasks.llm",
        ),
        (
            circles,
            {
                "methods/a": "from llmser_tasks.evaluation import b",
                "evaluation/b": "",
                "evaluation/c": "if TYPE_CHECKING:\n    from llmser_tasks.methods.a import d",
            },
            "Rooms import each other in a circle",
        ),
        (airflow_within, {"runs/a": "def f():\n    from airflow.models import DagRun"}, "airflow.models.DagRun"),
        (sql_outside, {"asking/a": "from sqlalchemy import text"}, "imports sqlalchemy.text"),
        (sql_outside, {"services/a": "from sqlalchemy import make_url, Connection"}, "imports sqlalchemy.Connection"),
        (sql_outside, {"services/a": "import psycopg2.extensions"}, "imports psycopg2.extensions"),
        (sql_outside, {"llm/a": "x = '''\n  delete from claims where owner = :owner'''"}, "holds SQL (delete from"),
        (sql_outside, {"llm/a": "x = f'update {t} set a = 1'"}, "holds SQL (update {} set a = 1"),
        (sql_outside, {"runs/a": "x = 'select max(x)' ' from y'"}, "holds SQL (select max(x) from y"),
        (named_elsewhere, {"evaluation/a": "x = 'sasrec'"}, "llmser_tasks.evaluation.a, line 1, names sasrec"),
    ],
)  # fmt: skip
def test_a_guard_finds(guard: object, files: Mapping[str, str], said: str, tmp_path: Path) -> None:
    for name, code in files.items():
        path = tmp_path / PACKAGE / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    assert callable(guard)
    assert said in "\n".join(guard(house(tmp_path)))


@pytest.mark.parametrize(
    "text", ["update the table", "Select a run from the list.", "with names as people say", "deletes from below"]
)
def test_what_only_reads_like_sql_is_none(text: str) -> None:
    assert not _is_sql(text)

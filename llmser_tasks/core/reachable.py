"""The code that a step can reach: what its module imports, and what these import, as far as it is ours.

What counts is the program, not its text: comments, docstrings, formatting and the wording of errors and logs may
change without a step being made again. A module that a setting chooses by name (a backbone, a format of dumps) is
reached through `chosen` alone, so that one more of its kind changes nothing for the others; a step has to name the one
it uses, and cannot forget to.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

PACKAGE = "llmser_tasks"
ERRORS = f"{PACKAGE}.core.errors"
DECLARED = "DECLARED"  # what a module says of itself to people and to settings, see `kinds`
LEVELS = {"debug", "info", "warning", "error", "exception"}

LEFT_OUT = {  # modules, with all below them, that cannot change a result, and why
    "core.choices": "types of settings, as core.config",
    "core.config": "settings count by the values that come of them; a step's manifest has those that it reads",
    "core.declared": "as core.kinds: words for people, and defaults that count by what comes of them",
    "core.errors": "what people are told when there is no result",
    "core.kinds": "what is chosen counts: by its module, and by what comes of the defaults that it declares",
    "core.progress": "what people are told while they wait",
    "core.sections": "groups of settings, as core.config",
    "core.section": "a group of settings, as core.config",
    "core.reachable": "it says what is reached",
    "llm": "what was answered counts by content, and what is embedded by a version of its own (`ledger.VECTOR`)",
    "warehouse": "what a step is given of its rows counts by content",
    "core.workspace": "it keeps what steps write, and does not write it",
}

_declared: ContextVar[frozenset[str] | None] = ContextVar("declared", default=None)  # of the step that runs here


@dataclass(frozen=True)
class Code:
    """One module.

    Attributes:
        digest: of the program that it is.
        imports: our modules that it imports, anywhere in it, or names in full.
        reads: names of the attributes that it reads, and so of the settings that it may depend on.
    """

    digest: str
    imports: frozenset[str]
    reads: frozenset[str]


@dataclass(frozen=True)
class Reach:
    """What a step can reach.

    Attributes:
        digests: of the modules, by name.
        reads: names of the attributes that these read.
    """

    digests: dict[str, str]
    reads: frozenset[str]


class Sources:
    """The modules below a folder that is the package; each is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Code] = {}

    def reach(self, roots: Iterable[str]) -> Reach:
        """Everything that these modules import, themselves and the packages that they lie in included; names of
        modules that are not ours are passed over.
        """
        found: dict[str, Code] = {}
        open_ = [part for root in roots for part in self._executed(root)]
        while open_:
            name = open_.pop()
            if name in found or left_out(name):
                continue
            found[name] = self.code(name)
            open_ += [part for imported in found[name].imports for part in self._executed(imported)]
        reads = frozenset[str]().union(*(code.reads for code in found.values()))
        return Reach({name: found[name].digest for name in sorted(found)}, reads)

    def code(self, name: str) -> Code:
        if name not in self._known:
            path = self._path(name)
            assert path is not None, f"{name} is no module of ours"
            self._known[name] = self._read(path, name)
        return self._known[name]

    def text(self, path: Path) -> bytes:
        return path.read_bytes()

    def _read(self, path: Path, name: str) -> Code:
        program = _Essence().visit(ast.parse(self.text(path), str(path)))
        imports: set[str] = set()
        reads: set[str] = set()
        for node in ast.walk(program):
            match node:
                case ast.Import(names=names):
                    imports.update(alias.name for alias in names)
                case ast.ImportFrom(module=module, names=names, level=level):
                    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
                    for _ in range(level - 1):
                        package = package.rpartition(".")[0]
                    origin = ".".join(filter(None, [package, module])) if level else module or ""
                    imports.add(origin)
                    imports.update(f"{origin}.{alias.name}" for alias in names)
                case ast.Attribute(attr=attribute):
                    reads.add(attribute)
                case ast.Constant(value=str(text)):  # a process of its own, or an attribute that is read by its name
                    imports.add(text)
                    reads.update([text] if text.isidentifier() else [])
        digest = hashlib.sha256(ast.dump(program).encode()).hexdigest()[:16]
        return Code(digest, frozenset(i for i in imports if self._path(i)), frozenset(reads))

    def _executed(self, name: str) -> list[str]:
        """The module and the packages that it lies in, whose own code an import runs too; none if it is not ours."""
        if self._path(name) is None:
            return []
        parts = name.split(".")
        return [".".join(parts[: i + 1]) for i in range(len(parts))]

    def _path(self, name: str) -> Path | None:
        package, *parts = name.split(".")
        if package != PACKAGE or not all(part.isidentifier() for part in parts):
            return None
        base = self._folder.joinpath(*parts)
        candidates = (base / "__init__.py", base.with_name(f"{base.name}.py")) if parts else (base / "__init__.py",)
        return next((path for path in candidates if path.is_file()), None)


@cache
def sources() -> Sources:
    """The package that runs: read once per process, when it has been loaded, so what is described is what computes."""
    return Sources(Path(__file__).parents[1])


def left_out(name: str) -> bool:
    """Whether a module cannot change a result. (The package's own file holds the version, which is no reason to train
    anew.)"""
    path = name.removeprefix(f"{PACKAGE}.")
    if path.startswith("methods.") and path.endswith("settings"):  # as core.config
        return True
    return name == PACKAGE or any(path == part or path.startswith(f"{part}.") for part in LEFT_OUT)


def chosen(name: str) -> ModuleType:
    """Import a module that a setting names.

    Raises:
        AssertionError: the step at work has not named it, so its result would outlive a change of that module.
    """
    declared = _declared.get()
    assert declared is None or name in declared, f"the step does not name {name} among what it has `chosen`"
    return importlib.import_module(name)


@contextmanager
def within(reach: Reach) -> Iterator[None]:
    """Run a step that said it would reach this much."""
    token = _declared.set(frozenset(reach.digests))
    try:
        yield
    finally:
        _declared.reset(token)


class _Essence(ast.NodeTransformer):
    """Strips a program of what it does not compute with: docstrings, types' imports, words for people."""

    def __init__(self) -> None:
        self._errors: set[str] = set()

    def visit_Module(self, node: ast.Module) -> ast.AST:
        for statement in ast.walk(node):
            if isinstance(statement, ast.ImportFrom) and statement.module == ERRORS:
                self._errors.update(alias.asname or alias.name for alias in statement.names)
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        declares = len(node.targets) == 1 and isinstance(node.targets[0], ast.Name) and node.targets[0].id == DECLARED
        return None if declares else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        test = node.test
        name = test.id if isinstance(test, ast.Name) else test.attr if isinstance(test, ast.Attribute) else ""
        return node.orelse if name == "TYPE_CHECKING" else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node.func:
            case ast.Name(id=name) if name in self._errors:
                told = True
            case ast.Attribute(value=ast.Name(id="log"), attr=level):
                told = level in LEVELS
            case _:
                told = False
        if told:
            for argument in node.args:
                for part in ast.walk(argument):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        part.value = ""
        return node

    def _without_docstring(self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)

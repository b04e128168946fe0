"""Text is UTF-8 by name wherever we read or write it: what the locale says is right on one machine alone.

Ruff's PLW1514 knows a path when it sees `Path(…)`; this looks at every call.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path for folder in ("llmser_tasks", "dags", "plugins", "benchmarks", "docs", "sql")
    for path in (ROOT / folder).rglob("*.py")
)  # fmt: skip
MODE = re.compile(r"[rwxabt+]{1,3}")
NO_TEXT = {"os.open", "tarfile.open", "Encoder.open", "gzip.open"}  # the last one unless its mode says so
PROCESSES = {"run", "Popen", "check_output", "create_subprocess_exec"}


def by_locale(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every call that reads or writes text in whatever encoding the locale has."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call) or any(word.arg == "encoding" for word in call.keywords):
            continue
        function = call.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = getattr(function.value, "id", "") if isinstance(function, ast.Attribute) else ""
        given = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
        modes = [v.value for v in given if isinstance(v, ast.Constant) and MODE.fullmatch(str(v.value))]
        words = {word.arg for word in call.keywords}
        if (
            (name == "read_text" and not call.args)
            or (name == "write_text" and len(call.args) < 2)
            or name == "TextIOWrapper"
            or (name in PROCESSES and words & {"text", "universal_newlines"})
            or (name in {"open", "fdopen"} and _is_text(f"{owner}.{name}", modes))
        ):
            yield call.lineno, name


def _is_text(opens: str, modes: list[str]) -> bool:
    if opens in NO_TEXT:
        return any("t" in mode for mode in modes)
    return not any("b" in mode for mode in modes)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_text_is_utf_8_by_name(path: Path) -> None:
    assert list(by_locale(path.read_text(encoding="utf-8"))) == []


def test_the_look_itself_sees_them() -> None:
    source = """
path.read_text(); path.write_text(x); open(p); path.open("w"); os.fdopen(d, "w"); subprocess.run(c, text=True)
gzip.open(p, "rt"); io.TextIOWrapper(f); (a / b).open()
open(p, "rb"); path.open("wb"); os.open(p, os.O_RDONLY); gzip.open(p); subprocess.run(c); path.read_bytes()
path.read_text(encoding="utf-8"); path.write_text(x, "ascii"); open(p, encoding="utf-8"); tarfile.open(p)
"""
    assert [line for line, _ in by_locale(source)].count(2) == 6
    assert {line for line, _ in by_locale(source)} == {2, 3}
    assert len(list(by_locale(source))) == 9

"""What the browser gets of the page in Airflow: a shell, our script and style, and Chart.js as it was released.

Nothing is built at run time and nothing is loaded from elsewhere; figures arrive as JSON, texts become text nodes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from llmser_tasks.core.errors import InputError

FOLDER = Path(__file__).parent / "static"
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@cache
def files() -> dict[str, tuple[bytes, str]]:
    """Name below static/ → contents and media type."""
    return {
        path.relative_to(FOLDER).as_posix(): (path.read_bytes(), KINDS[path.suffix])
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in KINDS
    }


def file(name: str) -> tuple[bytes, str]:
    """
    Raises:
        InputError: the page has no such file.
    """
    if name not in files():
        raise InputError("The page has no such file.")
    return files()[name]

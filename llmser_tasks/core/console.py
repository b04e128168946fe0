"""Where the command line speaks: stdout and stderr, whatever the terminal can show and whatever the text holds."""

from __future__ import annotations

import io
import sys
from typing import Any, BinaryIO

import click
from typing_extensions import override

from llmser_tasks.core.printable import printable_lines


def speak() -> None:
    """A character that the terminal's encoding lacks becomes a question mark instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def echo(text: Any, *, err: bool = False) -> None:
    """A line for people on stderr, or a result on stdout: the latter is exact when a program reads it, as with `ls`."""
    stream = sys.stderr if err else sys.stdout
    click.echo(printable_lines(str(text)) if err or stream.isatty() else text, err=err, color=True)  # takes nothing out


def rows_out() -> BinaryIO:
    """stdout for rows: exact bytes, or on a terminal what it can show of them."""
    return _Shown(sys.stdout.buffer, sys.stdout.encoding) if sys.stdout.isatty() else sys.stdout.buffer


class _Shown(io.RawIOBase, BinaryIO):
    """Whole UTF-8 texts in, what the terminal can show out."""

    def __init__(self, terminal: BinaryIO, encoding: str) -> None:
        self.terminal, self.encoding = terminal, encoding

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, data: Any) -> int:
        text = bytes(data).decode("utf-8", "replace")
        self.terminal.write(printable_lines(text).encode(self.encoding, "replace"))
        return len(data)

    @override
    def flush(self) -> None:
        self.terminal.flush()

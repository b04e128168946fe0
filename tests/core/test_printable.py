"""Nothing that strangers wrote steers a terminal, on whichever way it comes there."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.live import Live
from rich.table import Table
from rich.text import Text
from small_dumps import encode, full, titles, write

from llmser_tasks.core.errors import InputError, StorageError, Waiting
from llmser_tasks.core.printable import printable, printable_lines
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.ingest import ingest
from llmser_tasks.llm.errors import Retriable
from llmser_tasks.services.terminal import Terminal, log_to

EVIL = "a\x1b]0;owned\x07\x1b[31mb\x9bc\u202ed\ufeff\udc80\r\ne"
CLEAN = "a�]0;owned��[31mb�c�d��  e"


def test_a_line_stays_one_and_as_long_as_it_was() -> None:
    assert printable(EVIL) == CLEAN and len(CLEAN) == len(EVIL)
    assert printable("Straße 漢字 👩‍👧 نیم‌فاصله, nbsp\u00a0end") == "Straße 漢字 👩‍👧 نیم‌فاصله, nbsp end"
    assert printable_lines("a\x1b\nb\r") == "a�\nb "


@pytest.mark.parametrize("kind", [InputError, StorageError, Retriable])
def test_every_sentence_is_clean_wherever_it_is_shown(kind: type[Exception]) -> None:
    assert str(kind(EVIL)) == CLEAN[:-2] + "\ne"
    assert str(Waiting(EVIL, ["id"], 1)) == CLEAN[:-2] + "\ne"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_console_writes_no_escapes_but_its_own(terminal: bool) -> None:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=terminal, width=200, color_system="truecolor" if terminal else None)
    table = Table.grid()
    table.add_row(Text(EVIL, style="dim"), EVIL)
    console.print(EVIL, markup=False)
    console.print(table)
    with console.status(Text(EVIL)), Live(Text(EVIL), console=console):
        pass
    for evil in ("\x1b]0;", "\x1b[31mb", "\x9b", "\u202e", "\x07"):
        assert evil not in out.getvalue()
    assert ("\x1b[" in out.getvalue()) is terminal, "colours and movements are its own"


def test_log_lines_are_clean_and_lines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    ours = logging.getLogger("llmser_tasks")
    monkeypatch.setattr(ours, "propagate", False)  # what pytest kept of it no process could hand to another
    log_to(Terminal(file=out, force_terminal=False))
    try:
        logging.getLogger("llmser_tasks.test").warning("read %s", EVIL.replace("\n", ""))
    finally:
        ours.handlers = []
    assert out.getvalue().endswith(f"read {CLEAN[:-3]} e\n")


def test_names_of_members_and_files_are_told_cleanly(workspace: Workspace, tmp_path: Path) -> None:
    bad = tmp_path / "\x1b[2Jyelp.tar"
    with tarfile.open(bad, "w") as archive:
        archive.addfile(tarfile.TarInfo("x\x1b[31mreview.txt"))
    dataset = write(tmp_path / "d", full(), source="yelp", reviews=str(bad), items="")
    with pytest.raises(InputError) as error:
        ingest(workspace, dataset)
    assert str(error.value).isprintable() and "x�[31mreview.txt" in str(error.value)


def test_a_file_whose_name_is_no_utf_8_is_read(workspace: Workspace, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\x1b.json")
    Path(name).write_bytes(encode(full()))
    artefact = ingest(workspace, write(tmp_path / "d", full(), titles(), reviews=name))
    report = json.loads((workspace.folder(artefact) / "report.json").read_text(encoding="utf-8"))
    assert report["files"]["reviews"]["name"] in {"caf��.json", "café�.json"}  # the latter in a locale of Latin-1


SHOW = """
import sys
from llmser_tasks.core import console
from llmser_tasks.commands.formats import comma_separated, json_array, table
from llmser_tasks.warehouse.queries import Rows
console.speak()
for write in (comma_separated, json_array, table):
    out = console.rows_out()
    write(Rows(["name\\x1b[1m"], [25], iter([["\\u2714 a\\x1b[31mb\\x9bc"]])), out)
    out.flush()
console.echo("said \\u2714 \\x1b[31m")
"""


def shown(command: Sequence[str], **environment: str) -> bytes:
    """What a program writes to a terminal."""
    leader, follower = pty.openpty()
    with subprocess.Popen(command, stdout=follower, stderr=follower, env=os.environ | environment) as process:
        os.close(follower)
        parts = []
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the other end was closed
                break
            if not part:
                break
            parts.append(part)
    os.close(leader)
    assert process.returncode == 0, b"".join(parts).decode(errors="replace")
    return b"".join(parts)


def test_on_a_terminal_all_formats_are_clean_and_in_a_file_exact() -> None:
    command = [sys.executable, "-c", SHOW]
    seen = shown(command, PYTHONUTF8="1")
    assert b"\x1b" not in seen and b"\xc2\x9b" not in seen
    assert seen.decode().count("✔ a�[31mb�c") == 2 and "said ✔ �[31m" in seen.decode()  # JSON escapes it itself
    exact = subprocess.run(command, env=os.environ | {"PYTHONUTF8": "1"}, capture_output=True, check=True).stdout
    assert "✔ a\x1b[31mb\x9bc".encode() in exact and "said ✔ \x1b[31m".encode() in exact


def test_a_terminal_that_lacks_a_character_ends_nothing() -> None:
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}
    assert b"? a?[31mb?c" in shown([sys.executable, "-c", SHOW], **poor)
    assert b"said ? ?[31m" in shown([sys.executable, "-c", SHOW], **poor)

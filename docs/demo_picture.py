"""The README's picture of `make demo`, from a terminal that ran it.

    python docs/demo_picture.py

What `make demo` runs once the environment is there runs on a home of its own, which is thrown away. What the terminal
shows in the end becomes a picture, with the folder called ~/llmser and without the password. Needs Chromium on the
PATH.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import browsing

PICTURE = Path(__file__).parent / "images" / "demo.png"
ROWS, COLUMNS = 60, 118
# What moves the cursor in a live table, which writes each line anew from its start.
MOVES = re.compile(r"(\r|\n|\x1b\[\d*A|\x1b\[2K|\x1b\[\?25[lh])")


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        written = in_a_terminal([sys.executable, "-m", "llmser_tasks.services", "--no-wait"], {"LLMSER_HOME": home})
        lines = "\n".join(["$ make demo", *left(written)]).replace(home, "~/llmser/.llmser")
    console = Console(record=True, file=io.StringIO(), width=COLUMNS)
    console.print(Text.from_ansi(re.sub(r"(password: )\S+", r"\1…", lines).rstrip()))
    with browsing.chromium() as browser:
        tab = browser.new_context(offline=True, viewport={"width": 1100, "height": 700}).new_page()
        tab.set_content(console.export_svg(title="make demo"))
        tab.locator("svg.rich-terminal").screenshot(path=PICTURE)


def in_a_terminal(command: list[str], more: dict[str, str]) -> str:
    """All that a command writes to a terminal of its own.

    Raises:
        SystemExit: it failed; with what it wrote.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", **more}
    written = b""
    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        while True:
            try:
                written += os.read(ours, 1 << 16)
            except OSError:  # the last one that had it open has closed it
                break
    os.close(ours)
    found = written.decode(errors="replace")
    if process.returncode:
        raise SystemExit(found)
    return found


def left(written: str) -> list[str]:
    """The lines that a terminal shows in the end, with their colours."""
    lines, row = [""], 0
    for part in MOVES.split(written):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row = max(0, row - int(part[2:-1] or 1))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part != "\r" and not part.startswith("\x1b[?"):
            lines[row] += part
    return lines


if __name__ == "__main__":
    main()

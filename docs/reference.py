"""docs/settings.md, made from the configuration: python docs/reference.py"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmser_tasks.core import config

TARGET = Path(__file__).with_name("settings.md")
HEAD = """# Settings

Made by `docs/reference.py` from `llmser_tasks/core/sections/` and from the settings of methods. Each is an option of
`llmser run` and `llmser trigger` (`_` written as `-`), a field of the DAG's trigger form, and a name in a dataset's
file. Brackets say where the default comes from.
"""


def reference() -> str:
    """The page's text."""
    lines = [HEAD]
    section = ""
    for parameter in config.parameters():
        if parameter.section != section:
            section = parameter.section
            lines.append(f"\n## {section.capitalize()}\n\n| name | default | what it is |\n| --- | --- | --- |")
        text = str(parameter.description).replace("|", "\\|")
        lines.append(f"| `{parameter.name}` | {_shown(parameter.default)} | {text} |")
    return "\n".join(lines) + "\n"


def _shown(default: Any) -> str:
    if default is None or default == "":
        return "empty"
    if isinstance(default, list | tuple):
        return ", ".join(map(str, default)) or "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")

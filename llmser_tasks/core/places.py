"""Where runs on Airflow may read: whoever may trigger one must not read all that the service's user can.

`llmser run` and the other commands run as the person who calls them, and read what that person may read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmser_tasks.core.config import RunConfig
from llmser_tasks.core.errors import InputError

VARIABLE = "LLMSER_DUMPS"


def readable(home: Path) -> list[Path]:
    """LLMSER_DUMPS, folders separated as in PATH, by default `dumps` below the home; and what we write ourselves."""
    named = [Path(part).expanduser() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part.strip()]
    return [*(named or [home / "dumps"]), home / "sample", home / "inbox"]


def here(home: Path) -> str:
    """The folder for services started by hand on this machine: the current one, unless that is the root."""
    folder = Path.cwd()
    return str(home / "dumps" if folder == Path(folder.anchor) else folder)


def check(config: RunConfig, folders: Sequence[Path], home: Path) -> None:
    """Refuse files outside the folders, before looking at any: not even their existence is given away.

    Links are followed first. The home, with its keys and passwords, is closed even if it lies in one of the folders,
    except for what is named below it.

    Raises:
        InputError: one lies elsewhere.
    """
    dataset = config.dataset
    given = {"reviews": dataset.reviews, "items": dataset.items}
    for name, model in (("encoder", config.reliability.encoder), ("vectors", config.texts.vectors)):
        if model and (Path(model).is_absolute() or ".." in Path(model).parts or is_folder(model)):
            given[name] = model
    check_files({f"Setting {name}": text for name, text in given.items()}, folders, home)


def check_files(given: Mapping[str, str], folders: Sequence[Path], home: Path) -> None:
    """The same for paths by what they are, as the sentence begins: `Setting reviews`.

    Raises:
        InputError: one lies elsewhere.
    """
    open_ = [folder.absolute().resolve() for folder in folders]
    closed = home.absolute().resolve()
    for what, text in given.items():
        if text and not _allowed(_path(what, text).absolute().resolve(), open_, closed):
            raise InputError(
                f"{what}: {text} lies outside the folders from which runs on Airflow may read: "
                f"{', '.join(map(str, folders))}. Put it into one of them, or name its folder in {VARIABLE} where the "
                "services are started."
            )


def path_of(name: str, text: str) -> Path:
    """Of a setting.

    Raises:
        InputError: the text is not a path.
    """
    return _path(f"Setting {name}", text)


def _path(what: str, text: str) -> Path:
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # ~somebody, whom this machine does not know
        path = Path("\0")
    if "\0" in str(path):
        raise InputError(f"{what}: {text!r} is no path; check it.")
    return path


def is_folder(name: str) -> bool:
    """Whether a text that may also be something else names a folder."""
    try:
        return Path(name).is_dir()
    except OSError:  # too long for one, say
        return False


def _allowed(path: Path, open_: Sequence[Path], closed: Path) -> bool:
    """The folder nearest to the file decides."""
    for folder in (path, *path.parents):
        if folder == closed:
            return False
        if folder in open_:
            return True
    return False

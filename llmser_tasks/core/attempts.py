"""Attempts at an artefact: each in a private folder beside its place, `.partial-FINGERPRINT-HOST-OWNER`, published by a
rename. Whatever two machines do at once, they never share a folder.

An owner is alive while it holds its folder's lock, which the kernel releases however a process dies, or while its
register says so (`Claims`). A dead owner's attempt is taken over if that is of use, else removed. Where nobody can tell
(another machine, no common register) it is left alone for a week.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

PREFIX = ".partial-"
UNFINISHED = ".*.partial"  # files that are replaced when they are whole
FORGOTTEN_S = 7 * 24 * 3600.0
POLL_S = 0.5


class Claim(Protocol):
    """The right to make one artefact, as long as its owner lives."""

    @property
    def owner(self) -> str:
        """Letters, digits and dots; nobody else's."""

    def lives(self, owner: str) -> bool | None:
        """Whether another owner is alive; None: this register does not know it."""


class Claims(Protocol):
    """The register of who makes what."""

    def claim(self, what: str) -> AbstractContextManager[Claim]:
        """Wait until nobody alive makes this, and hold it for the block."""


@dataclass(frozen=True)
class _Alone:
    owner: str

    def lives(self, owner: str) -> bool | None:
        del owner
        return None


@dataclass(frozen=True)
class Unclaimed:
    """No register: the locks of folders tell who lives on this machine."""

    @contextmanager
    def claim(self, what: str) -> Iterator[Claim]:
        del what
        yield _Alone(secrets.token_hex(4))


@contextmanager
def attempt(final: Path, claim: Claim, *, resumable: bool) -> Iterator[Path | None]:
    """A private folder to make `final` in, with what a dead attempt left there if that is `resumable`; None where
    another process of this machine has finished it meanwhile.

    The folder is removed at the end of the block; if the block raises, what the next attempt can go on from stays.
    """
    with ExitStack() as held:
        folder = _entered(final, claim, resumable, held)
        try:
            yield folder
        except BaseException:
            if folder is not None and folder.exists():
                _tidy(folder, resumable)
            raise
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def leftovers(parent: Path) -> list[Path]:
    """Folders of attempts, dead or alive, at artefacts below `parent`."""
    return sorted(parent.glob(f"{PREFIX}*"))


def _entered(final: Path, claim: Claim, resumable: bool, held: ExitStack) -> Path | None:
    """As `attempt` gives it; `held` keeps it locked."""
    while True:
        if final.exists():
            return None
        with _locked(final.parent):
            live, dead = _sorted(final, claim, resumable)
            if live is None:
                folder = final.parent / f"{PREFIX}{final.name}-{_host()}-{claim.owner}"
                if dead is not None:
                    dead.rename(folder)
                    for unfinished in folder.glob(UNFINISHED):
                        unfinished.unlink()
                else:
                    folder.mkdir()
                with suppress(OSError):  # file systems without locks
                    fcntl.flock(held.enter_context(_opened(folder)), fcntl.LOCK_EX | fcntl.LOCK_NB)
                return folder
        time.sleep(POLL_S)


def _sorted(final: Path, claim: Claim, resumable: bool) -> tuple[Path | None, Path | None]:
    """The live attempt at the same artefact, and the newest dead one to go on from; useless ones are removed."""
    live, dead = None, None
    for left in sorted(leftovers(final.parent), key=_touched, reverse=True):
        same = left.name.startswith(f"{PREFIX}{final.name}")
        lives = _lives(left, claim)
        if lives and same:
            live = left
        elif lives is False and same and resumable and dead is None:
            dead = left
        elif (lives is False and (same or not resumable)) or (lives is not True and _forgotten(left)):
            shutil.rmtree(left, ignore_errors=True)
    for lock in final.parent.glob(".lock-*"):  # earlier releases left these
        if _forgotten(lock):
            lock.unlink(missing_ok=True)
    return live, dead


def _lives(folder: Path, claim: Claim) -> bool | None:
    """Whether the attempt's owner is alive; None: nobody can tell."""
    _, _, rest = folder.name.removeprefix(PREFIX).partition("-")
    host, _, owner = rest.partition("-")
    registered = claim.lives(owner) if owner else None
    if registered:
        return True
    held = _held(folder) if host == _host() else None
    return registered if held is None else held


def _held(folder: Path) -> bool | None:
    """Whether somebody has the folder's lock; None: it is gone, or this file system has no locks."""
    try:
        with _opened(folder) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process of this machine at a time, while it looks around."""
    with _opened(folder) as descriptor:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _tidy(folder: Path, resumable: bool) -> None:
    """Keep what the next attempt goes on from; anything else is of no use, and may be what fills the disk."""
    if resumable:
        for unfinished in folder.glob(UNFINISHED):
            unfinished.unlink(missing_ok=True)
    if not resumable or not any(folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)


def _touched(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _forgotten(folder: Path) -> bool:
    return _touched(folder) < time.time() - FORGOTTEN_S


@cache
def _host() -> str:
    """This machine, in eight digits: by its name, and its id where it has one."""
    known = socket.gethostname()
    with suppress(OSError):
        known += Path("/etc/machine-id").read_text(encoding="utf-8")
    return hashlib.sha256(known.encode()).hexdigest()[:8]

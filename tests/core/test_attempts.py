"""Whoever makes an artefact does so in private, is waited for while it lives, and taken over when it is dead."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from patience import PATIENCE_S

from llmser_tasks.core import attempts
from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.workspace import Artefact, Workspace


def produce(workspace: Workspace, write: Any, **given: Any) -> Artefact:
    return workspace.produce("step", "sample", write, **({"inputs": {}, "config": {}} | given))


def beside(workspace: Workspace, artefact: Artefact) -> list[str]:
    """What lies in the step's folder but the artefact."""
    folder = workspace.folder(artefact)
    return sorted(path.name for path in folder.parent.iterdir() if path != folder)


def table(value: str) -> pa.Table:
    return pa.table({"by": [value]})


class TwoMachines:
    """Two writers who both stand in the middle of their work at the same time, each on a host of its own, as its
    thread's name says. The folder that they share has no locks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fcntl, "flock", lambda *_: None)
        monkeypatch.setattr(attempts, "_host", lambda: f"{threading.current_thread().name:0>8}"[-8:].replace("_", "0"))
        self.both = threading.Barrier(2, timeout=PATIENCE_S)

    def write(self, name: str) -> Any:
        def write(folder: Path) -> dict[str, Any]:
            pq.write_table(table(name), folder / "a.parquet")
            self.both.wait()
            pq.write_table(table(name), folder / "b.parquet")
            self.both.wait()
            return {"by": name}

        return write


@pytest.mark.parametrize("resumable", [False, True])
def test_two_machines_without_a_common_lock_never_mix_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumable: bool
) -> None:
    machines, workspace = TwoMachines(monkeypatch), Workspace(tmp_path)
    with ThreadPoolExecutor(2, thread_name_prefix="m") as pool:
        made = list(
            pool.map(lambda name: produce(workspace, machines.write(name), resumable=resumable), ["one", "two"])
        )
    assert made[0].path == made[1].path
    folder = workspace.folder(made[0])
    by = {pq.read_table(folder / f"{part}.parquet")["by"][0].as_py() for part in "ab"}
    assert by == {workspace.summary(made[0])["by"]}
    assert made[0].content == made[1].content
    assert beside(workspace, made[0]) == []


def test_who_makes_it_on_this_machine_is_waited_for(tmp_path: Path) -> None:
    workspace, begun, go_on, calls = Workspace(tmp_path), threading.Event(), threading.Event(), []

    def write(folder: Path) -> dict[str, Any]:
        calls.append(folder)
        begun.set()
        assert go_on.wait(PATIENCE_S)
        pq.write_table(table("me"), folder / "a.parquet")
        return {}

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(produce, workspace, write)
        assert begun.wait(PATIENCE_S)
        second = pool.submit(produce, workspace, write)
        assert not second.done()
        go_on.set()
        assert second.result(PATIENCE_S).unchanged and not first.result(PATIENCE_S).unchanged
    assert len(calls) == 1
    assert beside(workspace, first.result()) == []


STUCK = """
import sys, time
from pathlib import Path
from llmser_tasks.core.workspace import Workspace

def write(folder):
    (folder / "notes.txt").write_text("epoch 3")
    (folder / ".weights.partial").write_text("half")
    print("ready", flush=True)
    time.sleep(600)

Workspace(Path(sys.argv[1])).produce(
    "step", "sample", write, inputs={}, config={}, resumable=sys.argv[2] == "True"
)
"""


def killed(root: Path, resumable: bool) -> Path:
    """The folder that an attempt leaves when its process is killed."""
    child = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(root), str(resumable)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    (left,) = attempts.leftovers(root / "sample" / "step")
    return left


@pytest.mark.parametrize("resumable", [False, True])
def test_a_dead_attempt_is_taken_over_or_removed(tmp_path: Path, resumable: bool) -> None:
    left, seen = killed(tmp_path, resumable), []

    def write(folder: Path) -> dict[str, Any]:
        assert folder != left
        seen.extend(sorted(path.name for path in folder.iterdir()))
        return {}

    workspace = Workspace(tmp_path)
    final = tmp_path / "sample" / "step" / left.name.split("-")[1]
    with attempts.Unclaimed().claim("") as claim, attempts.attempt(final, claim, resumable=resumable) as folder:
        assert folder is not None and folder != left and not left.exists()
        seen = sorted(path.name for path in folder.iterdir())
    assert seen == (["notes.txt"] if resumable else []), "what was half-written is of no use"
    assert beside(workspace, produce(workspace, lambda _: {})) == []


def test_what_nothing_can_be_known_of_is_left_alone_for_a_week(tmp_path: Path) -> None:
    workspace, step = Workspace(tmp_path), tmp_path / "sample" / "step"
    elsewhere = step / ".partial-0123456789abcdef0123-ffffffff-abcd"  # another machine, of no common register
    earlier = step / ".partial-0123456789abcdef0124"  # an earlier release
    for left in (elsewhere, elsewhere.with_name(f"{elsewhere.name}1"), earlier):
        left.mkdir(parents=True)
    (step / ".lock-0123456789abcdef0124").touch()
    long_ago = time.time() - 8 * 24 * 3600
    for left in (elsewhere, earlier, step / ".lock-0123456789abcdef0124"):
        os.utime(left, (long_ago, long_ago))
    artefact = produce(workspace, lambda _: {})
    assert beside(workspace, artefact) == [f"{elsewhere.name}1"]


def test_a_dead_training_with_other_settings_is_kept_for_who_goes_on_with_it(tmp_path: Path) -> None:
    workspace, left = Workspace(tmp_path), killed(tmp_path, resumable=True)
    artefact = produce(workspace, lambda _: {}, config={"other": True}, resumable=True)
    assert beside(workspace, artefact) == [left.name]


def test_a_live_attempt_at_something_else_is_left_alone(tmp_path: Path) -> None:
    workspace, seen = Workspace(tmp_path), []

    def outer(folder: Path) -> dict[str, Any]:
        produce(workspace, lambda _: {}, config={"other": True})
        seen.append(folder.is_dir())
        return {}

    produce(workspace, outer)
    assert seen == [True]


@pytest.mark.parametrize("resumable", [False, True])
def test_a_failed_attempt_leaves_nothing_but_what_can_be_gone_on_from(tmp_path: Path, resumable: bool) -> None:
    def write(folder: Path) -> dict[str, Any]:
        (folder / ".weights.partial").write_text("half")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        produce(Workspace(tmp_path), write, resumable=resumable)
    assert list((tmp_path / "sample" / "step").iterdir()) == []


@pytest.mark.parametrize("then", ["writes", "is done"])
def test_who_was_taken_for_dead_is_told_so(tmp_path: Path, then: str) -> None:
    """Its machine had lost Postgres, and another one has gone on with its folder."""

    def write(folder: Path) -> dict[str, Any]:
        folder.rename(tmp_path / "another's")
        if then == "writes":
            (folder / "x.parquet").write_text("late")
        return {}

    with pytest.raises(StorageError, match=r"Another process went on with sample/step/.* rerun the step"):
        produce(Workspace(tmp_path), write, resumable=True)

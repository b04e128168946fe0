"""Artefacts are written whole or not at all, and made again only when something they depend on changed."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.workspace import Workspace


def write_value(value: int, calls: list[int] | None = None):
    def write(folder: Path) -> dict[str, int]:
        if calls is not None:
            calls.append(value)
        pq.write_table(pa.table({"x": [value]}), folder / "x.parquet")
        return {"value": value}

    return write


def produce(workspace: Workspace, value: int, calls: list[int] | None = None, **changes):
    arguments = {"inputs": {"dump": "abc"}, "config": {"n": 1}} | changes
    return workspace.produce("step", "sample", write_value(value, calls), **arguments)


def test_unchanged_step_is_skipped_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workspace, calls = Workspace(tmp_path), []
    first = produce(workspace, 1, calls)
    with caplog.at_level("INFO"):
        second = produce(workspace, 1, calls)
    assert calls == [1]
    assert not first.unchanged
    assert second.unchanged
    assert second.path == first.path
    assert "skipped" in caplog.text
    assert workspace.summary(second) == {"value": 1}


@pytest.mark.parametrize("change", [{"config": {"n": 2}}, {"inputs": {"dump": "abd"}}, {"seed": 7}])
def test_whatever_a_step_depends_on_runs_it_again(tmp_path: Path, change: dict) -> None:
    workspace, calls = Workspace(tmp_path), []
    produce(workspace, 1, calls)
    produce(workspace, 1, calls, **change)
    assert calls == [1, 1]


def test_inputs_count_by_content(tmp_path: Path) -> None:
    """Two upstream runs that wrote the same bytes lead to one downstream artefact."""
    workspace = Workspace(tmp_path)
    one, other = produce(workspace, 5, config={"n": 1}), produce(workspace, 5, config={"n": 2})
    assert one.path != other.path
    assert one.content == other.content
    below = [workspace.produce("below", "sample", write_value(0), inputs={"up": up}, config={}) for up in (one, other)]
    assert below[0].path == below[1].path
    assert below[1].unchanged


def test_failed_step_leaves_nothing_to_be_used(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)

    def fail(folder: Path) -> dict[str, int]:
        (folder / "half.parquet").write_text("half")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        workspace.produce("step", "sample", fail, inputs={}, config={})
    artefact = workspace.produce("step", "sample", write_value(1), inputs={}, config={})
    assert not (workspace.folder(artefact) / "half.parquet").exists()


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    with pytest.raises(StorageError, match="No space left on device; free space"):
        Workspace(tmp_path).produce("step", "sample", fail, inputs={}, config={})


def test_missing_artefact_names_the_step_to_rerun(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    artefact = produce(workspace, 1)
    (workspace.folder(artefact) / "manifest.json").unlink()
    with pytest.raises(StorageError, match="rerun the step step"):
        workspace.folder(artefact)


KILLED = """
import os, sys, time
from pathlib import Path
from llmser_tasks.core.workspace import Workspace

def write(folder):
    progress = folder / "progress.txt"
    if progress.exists():
        (folder / "x.parquet").write_text("resumed after " + progress.read_text())
        return {}
    progress.write_text("epoch 3")
    print("ready", flush=True)
    time.sleep(60)

workspace = Workspace(Path(sys.argv[1]))
resumable = sys.argv[2] == "resume"
a = workspace.produce("step", "d", write, inputs={}, config={}, resumable=resumable)
print((workspace.folder(a) / "x.parquet").read_text())
"""


@pytest.mark.parametrize("mode", ["resume", "restart"])
def test_killed_step_resumes_only_where_it_may(tmp_path: Path, mode: str) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), mode]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline().strip() == "ready"
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    line = second.stdout.readline().strip()
    second.kill()
    second.communicate()
    assert line == ("resumed after epoch 3" if mode == "resume" else "ready")

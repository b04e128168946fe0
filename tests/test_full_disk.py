"""Whichever library finds that the disk is full, a person reads one sentence, and nothing stays behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.workspace import Workspace, write_json

LIBRARIES = """
import sys
from pathlib import Path
import duckdb, numpy as np, pyarrow as pa, pyarrow.parquet as pq, resource, torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.workspace import Workspace

array = np.arange(100_000, dtype=np.float32)

def duck(path):
    with duckdb.connect() as connection:
        connection.execute(f"copy (select range as x from range(1000000)) to '{path}' (format parquet)")

writers = {
    "safetensors": lambda path: save_file({"x": torch.from_numpy(array)}, path),
    "safetensors.numpy": lambda path: save_arrays({"x": array}, path),
    "pyarrow": lambda path: pq.write_table(pa.table({"x": array}), path),
    "duckdb": duck,
    "numpy": lambda path: np.save(path.open("wb"), array),
    "numpy.tofile": lambda path: array.tofile(path),
    "text": lambda path: path.write_text("x" * 100_000, encoding="utf-8"),
}
workspace, library, resumable = Workspace(Path(sys.argv[1])), sys.argv[2], sys.argv[3] == "True"

def write(folder):
    writers[library](folder / ".file.partial")
    return {}

resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))  # a disk with so much room
try:
    workspace.produce("step", "d", write, inputs={}, config={}, resumable=resumable)
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "library", ["safetensors", "safetensors.numpy", "pyarrow", "duckdb", "numpy", "numpy.tofile", "text"]
)
def test_no_room_is_one_sentence_whichever_library_finds_out(tmp_path: Path, library: str) -> None:
    for resumable in (False, True):
        told = subprocess.run(
            [sys.executable, "-c", LIBRARIES, str(tmp_path), library, str(resumable)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        sentence = r"Cannot write step below .*: (File too large|No space left on device); free space"
        assert re.match(sentence, told.stdout), told.stdout + told.stderr
        assert list((tmp_path / "d" / "step").iterdir()) == []


def test_a_wrapped_error_is_recognised(tmp_path: Path) -> None:
    def write(folder: Path) -> dict[str, Any]:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("could not save") from error

    with pytest.raises(StorageError, match="free space"):
        Workspace(tmp_path).produce("step", "d", write, inputs={}, config={})


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    def write(folder: Path) -> dict[str, Any]:
        raise RuntimeError("28 of 29 are wrong")

    with pytest.raises(RuntimeError, match="28 of 29"):
        Workspace(tmp_path).produce("step", "d", write, inputs={}, config={})


LIMITED = """
import resource, sys
from pathlib import Path
from tiny_world import make_world, walks
from llmser_tasks.core.errors import StorageError
from llmser_tasks.methods.llmser import forward
from llmser_tasks.core.workspace import Workspace

world = make_world(Workspace(Path(sys.argv[1])), walks(40, 9), ["a"] * 9)
resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY))  # a disk with so much room
try:
    forward.make(world.run(), world.refs())
except StorageError as error:
    print(error)
"""


def test_a_training_that_finds_no_room_for_its_model_says_so(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True, env=environment
    )
    assert told.stdout.startswith("Cannot write forward below "), told.stdout + told.stderr
    assert "File too large; free space" in told.stdout
    step = tmp_path / "tiny" / "forward"
    left = [path for folder in step.glob(".partial-*") for path in folder.iterdir()]
    assert not [path for path in left if path.name.endswith(".partial")]
    assert not list(step.glob(".lock-*"))


def test_json_that_does_not_fit_leaves_no_scrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(tmp_path / "x.json", {})
    assert list(tmp_path.iterdir()) == []

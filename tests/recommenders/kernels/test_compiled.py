"""The compiler behind the loops: loaded late, and able to do without a folder to write to."""

from __future__ import annotations

import subprocess
import sys

import numba
import numpy as np
import pytest
import torch

from llmser_tasks.recommenders.kernels import compiled as module
from llmser_tasks.recommenders.kernels.compiled import array, compiled


def fill(values: np.ndarray, number: float) -> None:
    for i in range(len(values)):
        values[i] = number


def test_the_pipeline_loads_no_compiler_before_it_trains() -> None:
    code = "import sys, llmser_tasks.runs.pipeline; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_loops_run_where_machine_code_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(fill)(np.zeros(1), 1.0)  # everything that compiles at its own import has been imported
    njit = numba.njit

    def without_cache(*, cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function 'fill': no locator available for file")
        return njit(**options)

    monkeypatch.setattr(numba, "njit", without_cache)
    module._machine_code.cache_clear()
    values = torch.zeros(3)
    compiled(fill)(array(values), 2.0)
    assert values.tolist() == [2.0, 2.0, 2.0]


def test_an_array_is_the_tensors_own_memory_unless_it_has_gaps() -> None:
    tensor = torch.zeros(2, 3, requires_grad=True)
    array(tensor)[0, 0] = 1
    assert tensor[0, 0] == 1
    assert array(tensor.T).flags.c_contiguous

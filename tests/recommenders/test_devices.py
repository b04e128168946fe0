"""Which GPU a training takes. There need not be one: what torch says of them is made up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llmser_tasks.recommenders.devices import own_gpu

ANY = torch.device("cuda")

HOLD = """
import sys, torch
from types import SimpleNamespace
from llmser_tasks.recommenders.devices import own_gpu
torch.cuda.device_count = lambda: 2
torch.cuda.get_device_properties = lambda gpu: SimpleNamespace(uuid="ab"[gpu])
with own_gpu(torch.device("cuda")) as device:
    print(device, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda gpu: SimpleNamespace(uuid="ab"[gpu]))


def test_trainings_side_by_side_take_different_gpus_and_share_the_first_when_all_are_taken() -> None:
    with own_gpu(ANY) as first, own_gpu(ANY) as second, own_gpu(ANY) as third:
        assert (first.index, second.index, third.index) == (0, 1, 0)
    with own_gpu(ANY) as again:
        assert again.index == 0


def test_a_killed_training_gives_its_gpu_back() -> None:
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "cuda:0\n"
        with own_gpu(ANY) as device:
            assert device.index == 1
        other.kill()
    with own_gpu(ANY) as device:
        assert device.index == 0


@pytest.mark.parametrize("named", ["cpu", "cuda:1"])
def test_a_device_that_was_named_is_taken_as_it_is(named: str) -> None:
    with own_gpu(torch.device(named)) as device:
        assert device == torch.device(named)

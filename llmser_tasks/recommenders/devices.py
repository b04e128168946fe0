"""Where a model is trained or loaded."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import Tensor


def pick_device(device: str | None) -> torch.device:
    """The named device, or CUDA where there is one, or the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def on_gpu(tensor: Tensor) -> bool:
    """Whether to use torch's own operations rather than loops that are compiled for a CPU.

    Whatever branches between the two asks this, through its module, so that a test can send a CPU's tensors the GPU's
    way and compare.
    """
    return tensor.is_cuda


@contextmanager
def own_gpu(device: torch.device) -> Iterator[torch.device]:
    """For the block, a GPU that no other training of this machine has, where `device` is any ("cuda").

    A GPU is taken by locking a file, a lock that the system releases when the process dies. If all are taken, the first
    one is shared.
    """
    with ExitStack() as held:
        if device.type == "cuda" and device.index is None:
            every = range(torch.cuda.device_count())
            device = torch.device("cuda", next((gpu for gpu in every if _take(gpu, held)), 0))
        yield device


def _take(gpu: int, held: ExitStack) -> bool:
    """Whether it was free. Its file is the same in every process, however each numbers the GPUs it sees."""
    folder = Path(tempfile.gettempdir(), f"llmser-gpus-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    file = held.enter_context((folder / str(torch.cuda.get_device_properties(gpu).uuid)).open("w", encoding="utf-8"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""One process of a training on several, as torch's launcher starts it:
`… -m llmser_tasks.recommenders.loop.worker FOLDER`.

What the leading process has to tell goes to standard output, a JSON object a line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore  # torch.distributed.FileStore, where its types are known
from torch.distributed.elastic.multiprocessing.errors import record

from llmser_tasks.recommenders.loop import training
from llmser_tasks.recommenders.loop.inputs import TrainingInputs
from llmser_tasks.recommenders.loop.launcher import end_with_caller
from llmser_tasks.recommenders.loop.process_group import ProcessGroup

STORE = "peers"


@record
def main() -> None:
    """Take part in the training whose inputs lie in the folder named on the command line."""
    folder = Path(sys.argv[1])
    end_with_caller(folder)
    inputs = TrainingInputs.read(folder)
    with joined(folder, inputs.device) as (group, device):
        summary = training.run(inputs, device, group, _tell_progress)
    if group.leads:
        _tell(summary=asdict(summary))


@contextmanager
def joined(folder: Path, device: str) -> Iterator[tuple[ProcessGroup, torch.device]]:
    """All processes of this training, once each of them is there, and the device of this one.

    They find each other through a file, so that nothing listens but their own connections on the loopback.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    own = torch.device(device, rank) if device == "cuda" else torch.device(device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    store = FileStore(str(folder / STORE), size)
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo", store=store, rank=rank, world_size=size)
    yield ProcessGroup(rank, size), own
    dist.destroy_process_group()


def _tell_progress(done: int, total: int | None, unit: str, note: str = "") -> None:
    _tell(progress=[done, total, unit, note])


def _tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()

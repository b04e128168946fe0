"""What every script here shares: the job, the same padded histories, and the clock of an epoch.

A script is started by `benchmarks/training.py` with the interpreter of its own environment and one argument, the path
of a JSON job:

    data       .npz with offsets (U + 1,) and items (Σ n_u,): the newest max_len + 1 training items of every user
    items      I; ids are 1 … I, 0 is padding
    max_len, dimension, layers, heads, dropout, batch_size, learning_rate, seed, loss, epochs
    variant    what else the peer should switch on
    export     .npz to fill after every epoch with states (U, d) and table (I, d), or empty

It prints one JSON line when it is ready and one after every epoch, and then waits for "go" or "stop" on its input, so
that whoever started it can score an epoch's export without taking CPU time from the next.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

torch.set_num_threads(1)
LINES = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what a library prints goes to the log

JOB = json.loads(Path(sys.argv[1]).read_text())
ITEMS: int = JOB["items"]
MAX_LEN: int = JOB["max_len"]
with np.load(JOB["data"]) as _arrays:
    OFFSETS, SEQUENCE = _arrays["offsets"], _arrays["items"]
USERS = len(OFFSETS) - 1
torch.manual_seed(JOB["seed"])


def cpu_seconds() -> float:
    """User and system time of this process, all its threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def owners() -> np.ndarray:
    """(Σ n_u,) row of the user that each item of SEQUENCE belongs to."""
    return np.repeat(np.arange(USERS), np.diff(OFFSETS))


def places() -> np.ndarray:
    """(Σ n_u,) how many of the same user's items come before each item of SEQUENCE."""
    return np.arange(len(SEQUENCE)) - np.repeat(OFFSETS[:-1], np.diff(OFFSETS))


def contexts(left_padded: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What a model is shown to predict the validation items: tokens (U, max_len), 0 is padding; lengths (U,)."""
    lengths = np.minimum(np.diff(OFFSETS), MAX_LEN)
    tokens = np.zeros((USERS, MAX_LEN), np.int64)
    column = places() - np.repeat(np.diff(OFFSETS) - lengths, np.diff(OFFSETS))  # below 0: cut off
    if left_padded:
        column = np.where(column < 0, -1, column + np.repeat(MAX_LEN - lengths, np.diff(OFFSETS)))
    kept = column >= 0
    tokens[owners()[kept], column[kept]] = SEQUENCE[kept]
    return torch.from_numpy(tokens), torch.from_numpy(lengths)


def plain_attention(model: torch.nn.Module) -> None:
    """Leave out dropout of attention weights, which our model has none of: equal models, and faster peers."""
    for module in model.modules():
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0


class Epochs:
    """The clock: `ready` once, then `begin` and `end` around every epoch."""

    def __init__(self) -> None:
        self.number = 0
        self.started = 0.0

    def ready(self, package: str) -> None:
        """Imports and data preparation are over."""
        self._say({"version": version(package), "torch": torch.__version__, "prepared_cpu_s": cpu_seconds()})

    def begin(self) -> None:
        self.started = cpu_seconds()

    def end(self, states: Callable[[], tuple[torch.Tensor, torch.Tensor]]) -> bool:
        """Report the epoch's CPU seconds; whether to go on.

        Args:
            states: gives states (U, d) of the contexts and the item table (I, d), NaN for an item the model lacks;
                called outside the clock, and only where an export is wanted.
        """
        seconds = cpu_seconds() - self.started
        self.number += 1
        if JOB["export"]:
            with torch.no_grad():
                rows, table = states()
            np.savez(JOB["export"], states=rows.numpy(), table=table.numpy())
        self._say({"epoch": self.number, "cpu_s": seconds})
        return sys.stdin.readline().strip() == "go"

    def _say(self, line: dict[str, object]) -> None:
        LINES.write(json.dumps(line) + "\n")
        LINES.flush()


EPOCHS = Epochs()

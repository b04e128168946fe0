"""What every script here shares: the job, the same padded histories, and the clock of an epoch.

A script is started by `benchmarks/training.py` with the interpreter of its own environment and one argument, the path
of a JSON job:

    data       .npz with offsets (U + 1,) and items (Σ n_u,), the newest max_len + 1 training items of every user; and
               held (U,), the item that came next, for validation, 0 where there is none
    items      I; ids are 1 … I, 0 is padding
    max_len, dimension, layers, heads, dropout, batch_size, learning_rate, seed, loss, epochs
    variant    what else the peer should switch on
    export     .npz to fill after every epoch with states (2U, d) and table (I, d), or empty

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
LINES = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # what a library prints goes to the log

JOB = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
ITEMS: int = JOB["items"]
MAX_LEN: int = JOB["max_len"]
with np.load(JOB["data"]) as _arrays:
    OFFSETS, SEQUENCE, HELD = _arrays["offsets"], _arrays["items"], _arrays["held"]
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
    """Tokens (2U, max_len), 0 is padding, and lengths (2U,).

    First what a model is shown to predict the validation items, the training items; then the same with the validation
    items behind them, to predict the test items.
    """
    parts = []
    for last in (np.zeros_like(HELD), HELD):
        ends = OFFSETS[1:] + np.cumsum(last > 0)
        items = np.insert(SEQUENCE, OFFSETS[1:][last > 0], last[last > 0])
        parts.append(_newest(np.concatenate([[0], ends]), items, left_padded))
    return torch.cat([tokens for tokens, _ in parts]), torch.cat([lengths for _, lengths in parts])


def _newest(offsets: np.ndarray, items: np.ndarray, left_padded: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The newest max_len items of every row: tokens (U, max_len), lengths (U,)."""
    known = np.diff(offsets)
    lengths = np.minimum(known, MAX_LEN)
    rows = np.repeat(np.arange(USERS), known)
    column = np.arange(len(items)) - np.repeat(offsets[1:] - lengths, known)  # below 0: cut off
    kept = column >= 0
    if left_padded:
        column = column + np.repeat(MAX_LEN - lengths, known)
    tokens = np.zeros((USERS, MAX_LEN), np.int64)
    tokens[rows[kept], column[kept]] = items[kept]
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
            states: gives states (2U, d) of the contexts and the item table (I, d), NaN for an item the model lacks;
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

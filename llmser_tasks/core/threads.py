"""How many CPU threads a training takes.

Two trainings run side by side in the pipeline (reverse and forward, then methods), so by default each takes
half of the cores it may use; `LLMSER_THREADS` overrides that. The order of float sums, and so the last bits of a
model, can depend on this number: "same seed, same bytes" holds for one number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from llmser_tasks.core.errors import InputError

MOST = 8  # operations on batches of 128 short sequences do not scale further


def thread_count() -> int:
    """`LLMSER_THREADS`, or half of the usable cores, at most 8."""
    given = os.environ.get("LLMSER_THREADS", "").strip()
    if not given:
        return min(MOST, max(1, len(os.sched_getaffinity(0)) // 2))
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"LLMSER_THREADS is {given!r}; set it to a whole number of threads, 1 or more.")
    return int(given)


@contextmanager
def pinned_threads() -> Iterator[int]:
    """Use `thread_count()` threads inside the block and give the former number back after it."""
    before = torch.get_num_threads()
    count = thread_count()
    torch.set_num_threads(count)
    try:
        yield count
    finally:
        torch.set_num_threads(before)

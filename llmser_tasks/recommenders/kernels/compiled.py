"""Loops that are compiled for the CPU at hand: what torch would do in a dozen small operations, done in one pass.

Batches are small (a few hundred tokens), so on a CPU torch's time goes into starting operations, padding and temporary
tensors rather than into arithmetic. The machine code is kept beside the source, or in the user's cache folder. The
compiler is loaded by the first loop that runs: most tasks of a pipeline need none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# What loops take: floats as the tensors have them (float64 in tests), places and item numbers.
Floats: TypeAlias = NDArray[np.floating[Any]]
Ints: TypeAlias = NDArray[np.int64]

Function = TypeVar("Function", bound=Callable[..., Any])

_parts: list[Callable[..., Any]] = []  # not yet known to the compiler


def compiled(loop: Function) -> Function:
    """Compile a function of contiguous arrays and numbers when it is first called."""

    @functools.wraps(loop)
    def call(*arguments: Any) -> None:
        _machine_code(loop)(*arguments)

    return cast(Function, call)


def part_of_loops(function: Function) -> Function:
    """Let loops of the same file call this. (A loop is compiled anew where its own file has changed, not another.)"""
    _parts.append(function)
    return function


def array(tensor: Tensor) -> NDArray[Any]:
    """A CPU tensor's values as a contiguous array, the same memory where it is contiguous already."""
    own = tensor.detach() if tensor.requires_grad else tensor
    return (own if own.is_contiguous() else own.contiguous()).numpy()


@functools.cache
def _machine_code(loop: Callable[..., Any]) -> Callable[..., None]:
    import numba
    from numba.extending import register_jitable

    while _parts:
        register_jitable(_parts.pop())
    # Sums may be added up in another order, as vector instructions need; infinities and NaN keep their meaning.
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    }
    try:
        code: Callable[..., None] = numba.njit(cache=True, **options)(loop)
    except RuntimeError:  # no folder is writable, so every process compiles for itself
        code = numba.njit(**options)(loop)
    return code

"""Loops that are compiled for the CPU at hand: what torch would do in a dozen small operations, done in one pass.

Batches are small (a few hundred tokens), so on a CPU torch's time goes into starting operations, padding and temporary
tensors rather than into arithmetic. The machine code is kept beside the source, or in the user's cache folder.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import numba
from numpy.typing import NDArray
from torch import Tensor

Loop = TypeVar("Loop", bound=Callable[..., Any])

# Sums may be added up in another order, which vectors of floats need; infinities and NaN keep their meaning.
_njit: Any = partial(numba.njit, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})


def compiled(loop: Loop) -> Loop:
    """Compile a function of contiguous arrays and numbers at its first call."""
    try:
        return cast(Loop, _njit(cache=True)(loop))
    except RuntimeError:  # no folder can be written to, so every process compiles for itself
        return cast(Loop, _njit()(loop))


def array(tensor: Tensor) -> NDArray[Any]:
    """A CPU tensor's values as a contiguous array, the same memory where it is contiguous already."""
    own = tensor.detach() if tensor.requires_grad else tensor
    return (own if own.is_contiguous() else own.contiguous()).numpy()

"""Loops over the tokens of a batch: norms, dropout, residuals and ReLU, and their gradients, in as few passes as
possible.

Dropout keeps a value where a hash of the place and a key is not below a limit, so that the gradient can ask again
instead of keeping masks. Values are (T, d); `moments` (T, 2) are each token's mean and 1 / standard deviation.
"""

from __future__ import annotations

import math

import numpy as np

from llmser_tasks.recommenders.kernels.compiled import Floats, Ints, compiled, part_of_loops

EPS = 1e-5  # as torch's LayerNorm


@part_of_loops
def hashed(place: int, key: int) -> np.uint32:
    """32 bits that look random for neighbouring places and keys (the constants of lowbias32, by Wellons)."""
    h = np.uint32(np.uint32(place) + np.uint32(key))
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x21F0AAAD))
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x735A2D97))
    return np.uint32(h ^ (h >> np.uint32(15)))


@compiled
def drop(values: Floats, key: int, limit: int, scale: float, out: Floats, columns: Floats) -> None:
    """out = dropout(values); adds each column of it up in `columns` (d,)."""
    least, factor = np.uint32(limit), values.dtype.type(scale)
    width = values.shape[1]
    for token in range(len(values)):
        value, result = values[token], out[token]
        for c in range(width):
            result[c] = value[c] * factor if hashed(token * width + c, key) >= least else values.dtype.type(0)
        for c in range(width):
            columns[c] += result[c]


@compiled
def add_dropped(x: Floats, values: Floats, bias: Floats, key: int, limit: int, scale: float, out: Floats) -> None:
    """out = x + dropout(values + bias), for a bias (d,)."""
    least, factor = np.uint32(limit), values.dtype.type(scale)
    width = values.shape[1]
    for token in range(len(values)):
        before, value, result = x[token], values[token], out[token]
        for c in range(width):
            taken = (value[c] + bias[c]) * factor if hashed(token * width + c, key) >= least else values.dtype.type(0)
            result[c] = before[c] + taken


@compiled
def drop_relu(values: Floats, bias: Floats, key: int, limit: int, scale: float, out: Floats) -> None:
    """out = dropout(relu(values + bias))."""
    least, factor = np.uint32(limit), values.dtype.type(scale)
    width = values.shape[1]
    for token in range(len(values)):
        value, result = values[token], out[token]
        for c in range(width):
            taken = (value[c] + bias[c]) * factor if hashed(token * width + c, key) >= least else values.dtype.type(0)
            result[c] = max(taken, values.dtype.type(0))


@compiled
def drop_relu_backward(gradient: Floats, result: Floats, scale: float, out: Floats, columns: Floats) -> None:
    """What passed is what is above 0; `columns` as in `drop`."""
    factor = gradient.dtype.type(scale)
    for token in range(len(gradient)):
        incoming, passed, outgoing = gradient[token], result[token], out[token]
        for c in range(len(incoming)):
            outgoing[c] = incoming[c] * factor if passed[c] > 0 else gradient.dtype.type(0)
        for c in range(len(incoming)):
            columns[c] += outgoing[c]


@compiled
def norm(x: Floats, gain: Floats, shift: Floats, out: Floats, moments: Floats) -> None:
    """out = gain · (x - mean) / deviation + shift."""
    width = x.shape[1]
    for token in range(len(x)):
        value, result = x[token], out[token]
        mean = x.dtype.type(0)
        for c in range(width):
            mean += value[c]
        mean /= x.dtype.type(width)
        square = x.dtype.type(0)
        for c in range(width):
            square += (value[c] - mean) * (value[c] - mean)
        inverse = x.dtype.type(1 / math.sqrt(square / x.dtype.type(width) + x.dtype.type(EPS)))
        moments[token, 0], moments[token, 1] = mean, inverse
        for c in range(width):
            result[c] = (value[c] - mean) * inverse * gain[c] + shift[c]


@compiled
def norm_backward(
    gradient: Floats,
    x: Floats,
    moments: Floats,
    gain: Floats,
    beside: Floats,
    out: Floats,
    of_gain: Floats,
    of_shift: Floats,
) -> None:
    """out = beside + the gradient of x; adds to the gradients (d,) of gain and shift.

    `beside` is what reaches x around the norm.
    """
    width = x.shape[1]
    for token in range(len(x)):
        incoming, value, past, outgoing = gradient[token], x[token], beside[token], out[token]
        mean, inverse = moments[token, 0], moments[token, 1]
        total, by_value = x.dtype.type(0), x.dtype.type(0)
        for c in range(width):
            total += incoming[c] * gain[c]
            by_value += incoming[c] * gain[c] * (value[c] - mean)
        total /= x.dtype.type(width)
        by_value *= inverse * inverse / x.dtype.type(width)
        for c in range(width):
            outgoing[c] = past[c] + (incoming[c] * gain[c] - total - (value[c] - mean) * by_value) * inverse
        for c in range(width):
            of_gain[c] += incoming[c] * (value[c] - mean) * inverse
        for c in range(width):
            of_shift[c] += incoming[c]


@compiled
def embed(
    table: Floats,
    rows: Ints,
    positions: Floats,
    places: Ints,
    weight: float,
    key: int,
    limit: int,
    scale: float,
    out: Floats,
) -> None:
    """out = dropout(weight · table[rows] + positions[places])."""
    least, factor, of_item = np.uint32(limit), out.dtype.type(scale), out.dtype.type(weight)
    width = out.shape[1]
    for token in range(len(out)):
        item, position, result = table[rows[token]], positions[places[token]], out[token]
        for c in range(width):
            value = (item[c] * of_item + position[c]) * factor
            result[c] = value if hashed(token * width + c, key) >= least else out.dtype.type(0)


@compiled
def embed_backward(
    gradient: Floats,
    rows: Ints,
    places: Ints,
    weight: float,
    key: int,
    limit: int,
    scale: float,
    of_table: Floats,
    of_positions: Floats,
) -> None:
    """Adds to the gradients of table and positions."""
    least, factor, of_item = np.uint32(limit), gradient.dtype.type(scale), gradient.dtype.type(weight)
    width = gradient.shape[1]
    passed = np.empty(width, gradient.dtype)
    for token in range(len(gradient)):
        incoming, item, position = gradient[token], of_table[rows[token]], of_positions[places[token]]
        for c in range(width):
            kept = hashed(token * width + c, key) >= least
            passed[c] = incoming[c] * factor if kept else gradient.dtype.type(0)
        for c in range(width):
            item[c] += passed[c] * of_item
        for c in range(width):
            position[c] += passed[c]

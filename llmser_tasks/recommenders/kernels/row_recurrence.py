"""A gated recurrent unit over each row's tokens, for rows that follow one another without padding; on a CPU.

`torch.nn.GRU` goes through a batch step by step, with many small operations each. Here each row goes through on its
own, its state and the weights in cache; what treats all tokens alike stays a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llmser_tasks.recommenders.kernels.compiled import Floats, Ints, array, compiled, part_of_loops


def recur_rows(x: Tensor, start: Tensor, lengths: Tensor, gru: nn.GRU, layer: int) -> Tensor:
    """What one layer of `gru` makes of each row's tokens from first to last, beginning with a state of zeros.

        r, z = σ(W_r x + U_r h + …), σ(W_z x + U_z h + …)
        n = tanh(W_n x + … + r ⊙ (U_n h + …))
        h ← (1 - z) ⊙ n + z ⊙ h

    Args:
        x: (T, d).
        start: (B,) place of each row's first token; its `lengths` tokens follow.

    Returns:
        (T, d) the state after each token; 0 where there is no token.
    """
    of_input, recurrent, input_bias, recurrent_bias = gru.all_weights[layer]
    return _row_recurrence(torch.addmm(input_bias, x, of_input.T), recurrent, recurrent_bias, start, lengths)


class _RowRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, weight: Tensor, bias: Tensor, start: Tensor, lengths: Tensor) -> Tensor:
        """given (T, 3d): what the inputs add to the reset gates r, the update gates z and the new states n."""
        out = given.new_zeros(len(given), weight.shape[1])
        gates = given.new_empty(len(given), 4 * weight.shape[1])
        rows = array(start), array(lengths)
        _recur(array(given), array(weight.T), array(bias), *rows, array(out), array(gates))
        ctx.save_for_backward(weight, start, lengths, out, gates)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, start, lengths, out, gates = ctx.saved_tensors
        of_given, of_recurrent = (out.new_zeros(len(out), len(weight)) for _ in range(2))
        before = torch.zeros_like(out)  # the state that each token found
        before[1:] = out[:-1]
        before[start] = 0
        _recur_backward(
            array(gradients[0]),
            array(before),
            array(gates),
            array(weight),
            array(start),
            array(lengths),
            array(of_given),
            array(of_recurrent),
        )
        return of_given, of_recurrent.T @ before, of_recurrent.sum(0), None, None


_row_recurrence: Callable[..., Tensor] = _RowRecurrence.apply


@part_of_loops
def tanh_all(values: Floats) -> None:
    """In place, to 4e-7 in float32. Eigen's odd rational function becomes vector instructions, tanh would not."""
    number = values.dtype.type
    most = number(9.0)
    for c in range(len(values)):
        x = min(max(values[c], -most), most)
        square = x * x
        above = number(-2.76076847742355e-16)
        above = above * square + number(2.00018790482477e-13)
        above = above * square + number(-8.60467152213735e-11)
        above = above * square + number(5.12229709037114e-08)
        above = above * square + number(1.48572235717979e-05)
        above = above * square + number(6.37261928875436e-04)
        above = above * square + number(4.89352455891786e-03)
        below = number(1.19825839466702e-06)
        below = below * square + number(1.18534705686654e-04)
        below = below * square + number(2.26843463243900e-03)
        below = below * square + number(4.89352518554385e-03)
        values[c] = x * above / below


@compiled
def _recur(given: Floats, weight: Floats, bias: Floats, start: Ints, lengths: Ints, out: Floats, gates: Floats) -> None:
    """Fills `out` and gates (T, 4d): r, z, n, and what the state adds to n before r. `weight` is Uᵀ (d, 3d)."""
    width = out.shape[1]
    half = given.dtype.type(0.5)
    added = np.empty(3 * width, given.dtype)
    nothing = np.zeros(width, given.dtype)
    for row in range(len(start)):
        for at in range(lengths[row]):
            place = start[row] + at
            before = out[place - 1] if at else nothing
            for j in range(3 * width):
                added[j] = bias[j]
            if at:
                for c in range(width):
                    state, weights = before[c], weight[c]
                    for j in range(3 * width):
                        added[j] += state * weights[j]
            own, gate = given[place], gates[place, : 2 * width]
            new, state_part = gates[place, 2 * width : 3 * width], gates[place, 3 * width :]
            for j in range(2 * width):
                gate[j] = half * (own[j] + added[j])
            tanh_all(gate)
            for j in range(2 * width):
                gate[j] = half + half * gate[j]  # σ(s) = (1 + tanh(s / 2)) / 2
            own_new, added_new = own[2 * width :], added[2 * width :]
            for c in range(width):
                state_part[c] = added_new[c]
                new[c] = own_new[c] + gate[c] * added_new[c]
            tanh_all(new)
            update, state_after = gates[place, width : 2 * width], out[place]
            for c in range(width):
                state_after[c] = new[c] + update[c] * (before[c] - new[c])


@compiled
def _recur_backward(
    gradient: Floats,
    before: Floats,
    gates: Floats,
    weight: Floats,
    start: Ints,
    lengths: Ints,
    of_given: Floats,
    of_recurrent: Floats,
) -> None:
    """Fills the gradients (T, 3d) of what inputs and states add to r, z and n, from the last tokens to the first."""
    width = before.shape[1]
    one = gradient.dtype.type(1)
    carried = np.empty(width, gradient.dtype)  # to the state before, from all that comes after
    for row in range(len(start)):
        for c in range(width):
            carried[c] = 0
        for at in range(lengths[row] - 1, -1, -1):
            place = start[row] + at
            incoming, state = gradient[place], before[place]
            r, z = gates[place, :width], gates[place, width : 2 * width]
            n, state_part = gates[place, 2 * width : 3 * width], gates[place, 3 * width :]
            given_r, given_z = of_given[place, :width], of_given[place, width : 2 * width]
            given_n, recurrent = of_given[place, 2 * width :], of_recurrent[place]
            recurrent_r, recurrent_z = of_recurrent[place, :width], of_recurrent[place, width : 2 * width]
            recurrent_n = of_recurrent[place, 2 * width :]
            for c in range(width):
                of_state = incoming[c] + carried[c]
                of_new = of_state * (one - z[c]) * (one - n[c] * n[c])
                of_z = of_state * (state[c] - n[c]) * z[c] * (one - z[c])
                of_r = of_new * state_part[c] * r[c] * (one - r[c])
                given_r[c], given_z[c], given_n[c] = of_r, of_z, of_new
                recurrent_r[c], recurrent_z[c], recurrent_n[c] = of_r, of_z, of_new * r[c]
                carried[c] = of_state * z[c]
            if at:
                for j in range(3 * width):
                    share, weights = recurrent[j], weight[j]
                    for c in range(width):
                        carried[c] += share * weights[c]

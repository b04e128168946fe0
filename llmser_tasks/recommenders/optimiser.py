"""Adam, with an item table of which a batch moves only the rows that it gathered."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.recommenders.compiled import array, compiled

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Adam(torch.optim.Adam):
    """Adam (Kingma and Ba, 2015); of a parameter with a sparse gradient only the rows in it move ("lazy" Adam).

    Ordinary Adam goes on moving every item along its fading momentum, at a cost that grows with the catalogue.
    """

    def __init__(self, parameters: Any, learning_rate: float) -> None:
        super().__init__(parameters, lr=learning_rate, fused=True)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, without what torch's does around it."""
        assert set_to_none
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._move_rows(parameter, parameter.grad, group)
                    parameter.grad = None
        return super().step(closure)

    def _move_rows(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        rows, values = _distinct_rows(gradient)
        beta1, beta2 = group["betas"]
        size = group["lr"] / (1 - beta1 ** float(state["step"]))
        correction = 1 / (1 - beta2 ** float(state["step"]))
        if not parameter.is_cuda:
            moments = array(state["exp_avg"]), array(state["exp_avg_sq"])
            numbers = (size, correction, beta1, beta2, group["eps"])
            _move(array(rows), array(values), array(parameter), *moments, *numbers)
            return
        first = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - beta1)
        second = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, first)
        state["exp_avg_sq"].index_copy_(0, rows, second)
        deviation = second.mul_(correction).sqrt_().add_(group["eps"])
        parameter.index_add_(0, rows, first.div_(deviation).mul_(-size))


def _distinct_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(R,) ascending rows of a sparse gradient and its values there; autograd forgets where it is coalesced already."""
    rows = gradient._indices()[0]
    if bool((rows[1:] > rows[:-1]).all()):
        return rows, gradient._values()
    coalesced = gradient.coalesce()
    return coalesced.indices()[0], coalesced.values()


@compiled
def _move(
    rows: Ints,
    gradient: Floats,
    parameter: Floats,
    first: Floats,
    second: Floats,
    size: float,
    correction: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """One step of the distinct `rows`, at the speed at which memory is read."""
    step, scale, least = np.float32(size), np.float32(correction), np.float32(eps)
    new1, new2, old2 = np.float32(1 - beta1), np.float32(1 - beta2), np.float32(beta2)
    for place in range(len(rows)):
        g, p, m, v = gradient[place], parameter[rows[place]], first[rows[place]], second[rows[place]]
        for c in range(len(g)):
            m[c] += (g[c] - m[c]) * new1
            v[c] = v[c] * old2 + g[c] * g[c] * new2
            p[c] -= step * m[c] / (np.sqrt(v[c] * scale) + least)

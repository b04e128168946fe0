"""Adam, with an item table of which a batch moves only the rows that it gathered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.kernels.compiled import Floats, Ints, array, compiled

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8  # the paper's, and torch's


class Adam:
    """Adam (Kingma and Ba, 2015); of a parameter with a sparse gradient only the rows in it move ("lazy" Adam).

    Ordinary Adam goes on moving every item along its fading momentum, at a cost that grows with the catalogue. Dense
    gradients go through torch's fused steps, but without `torch.optim.Optimizer`, whose first instance loads torch's
    compiler for seconds.

    Attributes:
        state: of each parameter that has moved, by its number: its `step` and moments `exp_avg` and `exp_avg_sq`.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        self.parameters = list(parameters)
        self.learning_rate = learning_rate
        self.state: dict[int, dict[str, Tensor]] = {}

    def restore(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Go on from an earlier `state`."""
        device = self.parameters[0].device
        self.state = {
            number: {name: tensor.to(device) for name, tensor in values.items()} for number, values in state.items()
        }

    @torch.no_grad()
    def step(self) -> None:
        """Move by the gradients, and forget them."""
        dense: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
        for number, parameter in enumerate(self.parameters):
            gradient, parameter.grad = parameter.grad, None
            if gradient is None:
                continue
            if number not in self.state:
                moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                self.state[number] = {"step": torch.zeros((), device=parameter.device), **moments}
            if gradient.is_sparse:
                self._move_rows(parameter, gradient, self.state[number])
            else:
                dense.append((parameter, gradient, self.state[number]))
        if dense:
            parameters, gradients, states = map(list, zip(*dense, strict=True))
            adam(
                parameters,
                gradients,
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=self.learning_rate,
                weight_decay=0.0,
                eps=EPS,
                maximize=False,
            )

    def _move_rows(self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor]) -> None:
        state["step"] += 1
        rows, values = _distinct_rows(gradient)
        size = self.learning_rate / (1 - BETA1 ** float(state["step"]))
        correction = 1 / (1 - BETA2 ** float(state["step"]))
        if not devices.on_gpu(parameter):
            moments = array(state["exp_avg"]), array(state["exp_avg_sq"])
            _move(array(rows), array(values), array(parameter), *moments, size, correction)
            return
        first = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - BETA1)
        second = state["exp_avg_sq"].index_select(0, rows).mul_(BETA2).addcmul_(values, values, value=1 - BETA2)
        state["exp_avg"].index_copy_(0, rows, first)
        state["exp_avg_sq"].index_copy_(0, rows, second)
        deviation = second.mul_(correction).sqrt_().add_(EPS)
        parameter.index_add_(0, rows, first.div_(deviation).mul_(-size))


def _distinct_rows(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """(R,) ascending rows of a sparse gradient and its values there; autograd forgets that it was coalesced."""
    rows = gradient._indices()[0]
    if bool((rows[1:] > rows[:-1]).all()):
        return rows, gradient._values()
    coalesced = gradient.coalesce()
    return coalesced.indices()[0], coalesced.values()


@compiled
def _move(
    rows: Ints, gradient: Floats, parameter: Floats, first: Floats, second: Floats, size: float, correction: float
) -> None:
    """One step of the distinct `rows`, as fast as memory can be read."""
    step, scale, least = np.float32(size), np.float32(correction), np.float32(EPS)
    new1, new2, old2 = np.float32(1 - BETA1), np.float32(1 - BETA2), np.float32(BETA2)
    for place in range(len(rows)):
        g, p, m, v = gradient[place], parameter[rows[place]], first[rows[place]], second[rows[place]]
        for c in range(len(g)):
            m[c] += (g[c] - m[c]) * new1
            v[c] = v[c] * old2 + g[c] * g[c] * new2
            p[c] -= step * m[c] / (np.sqrt(v[c] * scale) + least)

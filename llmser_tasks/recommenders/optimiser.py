"""Adam, with an item table of which a batch moves only the rows that it gathered."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Adam(torch.optim.Adam):
    """Adam (Kingma and Ba, 2015); of a parameter with a sparse gradient only the rows in it move ("lazy" Adam).

    Ordinary Adam goes on moving every item along its fading momentum, at a cost that grows with the catalogue.
    """

    def __init__(self, parameters: Any, learning_rate: float) -> None:
        super().__init__(parameters, lr=learning_rate, fused=True)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._move_rows(parameter, parameter.grad.coalesce(), group)
                    parameter.grad = None
        return super().step(closure)

    def _move_rows(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        rows, values = gradient.indices()[0], gradient.values()
        beta1, beta2 = group["betas"]
        first = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - beta1)
        second = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg"].index_copy_(0, rows, first)
        state["exp_avg_sq"].index_copy_(0, rows, second)
        deviation = second.div_(1 - beta2 ** state["step"]).sqrt_().add_(group["eps"])
        parameter.index_add_(0, rows, first.div_(deviation).mul_(-group["lr"] / (1 - beta1 ** state["step"])))

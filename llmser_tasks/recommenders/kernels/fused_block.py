"""What a transformer block does around its attention, on a CPU, with as few passes over memory as possible. Between
matrix products come loops that do everything there is to do to a token while it is in cache. `transformer.Block` says
the same in torch's operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llmser_tasks.recommenders.kernels import token_loops as loops
from llmser_tasks.recommenders.kernels.compiled import array
from llmser_tasks.recommenders.kernels.dropout import limits, new_key


class _NormProject(torch.autograd.Function):
    """x itself and norm(x) weightᵀ + bias, for x (T, d): x bypasses the norm in here, so that gradients add up once."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        normed, moments = torch.empty_like(x), x.new_empty(len(x), 2)
        loops.norm(array(x), array(gain), array(shift), array(normed), array(moments))
        ctx.save_for_backward(x, gain, weight, normed, moments)
        return x, torch.addmm(bias, normed, weight.T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        x, gain, weight, normed, moments = ctx.saved_tensors
        beside, gradient = gradients
        of_norm = _norm_backward(gradient @ weight, x, moments, gain, beside)
        return *of_norm, gradient.T @ normed, gradient.sum(0)


norm_project: Callable[..., tuple[Tensor, Tensor]] = _NormProject.apply


class _Residuals(torch.autograd.Function):
    """y = x + dropout(attended outᵀ + …), then y + dropout(feed_forward(norm(y))), for x and attended (T, d).

    The feed-forward block is linear, ReLU or GELU, dropout, linear.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        attended: Tensor,
        out_weight: Tensor,
        out_bias: Tensor,
        gain: Tensor,
        shift: Tensor,
        inner_weight: Tensor,
        inner_bias: Tensor,
        outer_weight: Tensor,
        outer_bias: Tensor,
        relu: bool,
        probability: float,
    ) -> Tensor:
        keys = [new_key() for _ in range(3)] if probability else [0, 0, 0]
        limit, scale = limits(probability)
        branch = attended @ out_weight.T
        y, normed, moments = torch.empty_like(x), torch.empty_like(x), x.new_empty(len(x), 2)
        loops.add_dropped(array(x), array(branch), array(out_bias), keys[0], limit, scale, array(y))
        loops.norm(array(y), array(gain), array(shift), array(normed), array(moments))
        inner = normed @ inner_weight.T
        active = torch.empty_like(inner)
        if relu:
            loops.drop_relu(array(inner), array(inner_bias), keys[1], limit, scale, array(active))
        else:
            curved = F.gelu(inner.add_(inner_bias))
            loops.drop(array(curved), keys[1], limit, scale, array(active), array(torch.zeros_like(inner_bias)))
        branch, out = active @ outer_weight.T, torch.empty_like(x)
        loops.add_dropped(array(y), array(branch), array(outer_bias), keys[2], limit, scale, array(out))
        kept = None if relu else inner
        ctx.save_for_backward(attended, out_weight, y, gain, normed, moments, inner_weight, outer_weight, active, kept)
        ctx.keys, ctx.keep = keys, (limit, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        attended, out_weight, y, gain, normed, moments, inner_weight, outer_weight, active, inner = ctx.saved_tensors
        keys, (limit, scale), gradient = ctx.keys, ctx.keep, gradients[0]
        of_out, of_outer_bias = torch.empty_like(gradient), torch.zeros_like(gain)
        loops.drop(array(gradient), keys[2], limit, scale, array(of_out), array(of_outer_bias))
        of_active = of_out @ outer_weight
        of_inner, of_inner_bias = torch.empty_like(of_active), active.new_zeros(active.shape[1])
        if inner is None:
            loops.drop_relu_backward(array(of_active), array(active), scale, array(of_inner), array(of_inner_bias))
        else:
            loops.drop(array(of_active), keys[1], limit, scale, array(of_inner), array(of_inner_bias))
            of_inner = torch.ops.aten.gelu_backward(of_inner, inner)
            of_inner_bias = of_inner.sum(0)
        of_y, of_gain, of_shift = _norm_backward(of_inner @ inner_weight, y, moments, gain, gradient)
        of_branch, of_out_bias = torch.empty_like(of_y), torch.zeros_like(gain)
        loops.drop(array(of_y), keys[0], limit, scale, array(of_branch), array(of_out_bias))
        return (
            of_y,
            of_branch @ out_weight,
            of_branch.T @ attended,
            of_out_bias,
            of_gain,
            of_shift,
            of_inner.T @ normed,
            of_inner_bias,
            of_out.T @ active,
            of_outer_bias,
            None,
            None,
        )


residuals: Callable[..., Tensor] = _Residuals.apply


def _norm_backward(
    gradient: Tensor, x: Tensor, moments: Tensor, gain: Tensor, beside: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x (T, d), gain and shift (d,) from the norm's; `beside` (T, d) is what reaches x around it."""
    of_x, of_gain, of_shift = torch.empty_like(x), torch.zeros_like(gain), torch.zeros_like(gain)
    given = (gradient, x, moments, gain, beside, of_x, of_gain, of_shift)
    loops.norm_backward(*map(array, given))
    return of_x, of_gain, of_shift

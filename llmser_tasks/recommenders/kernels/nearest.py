"""How near items are to the nearest of a row's own, where every own item has a list of the few that are near it.

Lists stand one after another; within a list ids ascend, so that those in a stretch of items are found by halving.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmser_tasks.recommenders import devices
from llmser_tasks.recommenders.kernels.compiled import Floats, Ints, array, compiled, part_of_loops

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Lists:
    """
    Attributes:
        starts: (L + 1,) where each list begins and ends.
        ids: (N,) int32 items, ascending within a list.
        nearness: (N,) float32, at least 0.
    """

    starts: Tensor
    ids: Tensor
    nearness: Tensor

    def to(self, device: torch.device) -> Lists:
        return Lists(self.starts.to(device), self.ids.to(device), self.nearness.to(device))


@dataclass(frozen=True)
class Own:
    """What a few rows own.

    Attributes:
        starts: (B + 1,) where each row's items begin and end in the other two.
        lists: (M,) the list of each.
        weights: (M,) float32 what its nearness is multiplied by, at least 0.
    """

    starts: Tensor
    lists: Tensor
    weights: Tensor

    @property
    def owner(self) -> Tensor:
        """(M,) the row of each."""
        rows = torch.arange(len(self.starts) - 1, device=self.starts.device)
        return torch.repeat_interleave(rows, self.starts.diff())


def nearest_in_tile(own: Own, known: Lists, first: int, last: int) -> Tensor:
    """(B, last - first) largest weight · nearness of the items first + 1 … last; 0 where no list has them."""
    if devices.on_gpu(own.lists):
        return _tile_on_gpu(own, known, first, last)
    near = torch.zeros(len(own.starts) - 1, last - first)
    _fill_tile(*_arrays(own, known), first, array(near))
    return near


def nearest_of(own: Own, known: Lists, wanted: Tensor) -> Tensor:
    """(B, C) the same of each row's items `wanted` (B, C), to the bit."""
    if devices.on_gpu(own.lists):
        return _of_on_gpu(own, known, wanted)
    near = torch.zeros(wanted.shape)
    _fill(*_arrays(own, known), array(wanted), array(near))
    return near


def _arrays(own: Own, known: Lists) -> tuple[Ints, Ints, Floats, Ints, Ids, Floats]:
    mine = array(own.starts), array(own.lists), array(own.weights)
    return *mine, array(known.starts), array(known.ids), array(known.nearness)


@part_of_loops
def _first_not_below(ids: Ids, low: int, high: int, wanted: int) -> int:
    """Where in [low, high), in which ids ascend, the first stands that is at least `wanted`; `high` if none is."""
    while low < high:
        middle = (low + high) // 2
        if ids[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _fill_tile(
    own: Ints, lists: Ints, weights: Floats, starts: Ints, ids: Ids, nearness: Floats, first: int, near: Floats
) -> None:
    last = first + near.shape[1]
    for row in range(len(near)):
        for place in range(own[row], own[row + 1]):
            end = starts[lists[place] + 1]
            k = _first_not_below(ids, starts[lists[place]], end, first + 1)
            while k < end and ids[k] <= last:
                column = ids[k] - first - 1
                near[row, column] = max(near[row, column], weights[place] * nearness[k])
                k += 1


@compiled
def _fill(
    own: Ints, lists: Ints, weights: Floats, starts: Ints, ids: Ids, nearness: Floats, wanted: Ints, near: Floats
) -> None:
    for row in range(len(near)):
        for place in range(own[row], own[row + 1]):
            end = starts[lists[place] + 1]
            for c in range(wanted.shape[1]):
                k = _first_not_below(ids, starts[lists[place]], end, wanted[row, c])
                if k < end and ids[k] == wanted[row, c]:
                    near[row, c] = max(near[row, c], weights[place] * nearness[k])


def _tile_on_gpu(own: Own, known: Lists, first: int, last: int) -> Tensor:
    begins, lengths = known.starts[own.lists], known.starts.diff()[own.lists]
    ends = lengths.cumsum(0)
    place = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    entry = begins[place] + torch.arange(len(place), device=lengths.device) - (ends - lengths)[place]
    ids = known.ids[entry].long()
    here = (ids > first) & (ids <= last)
    place, entry, ids = place[here], entry[here], ids[here]
    near = torch.zeros((len(own.starts) - 1) * (last - first), device=lengths.device)
    cells = own.owner[place] * (last - first) + ids - first - 1
    near.scatter_reduce_(0, cells, own.weights[place] * known.nearness[entry], "amax")
    return near.view(-1, last - first)


def _of_on_gpu(own: Own, known: Lists, wanted: Tensor) -> Tensor:
    near = torch.zeros(wanted.shape, device=wanted.device)
    if not len(known.ids) or not len(own.lists):
        return near
    above = int(max(known.ids.max(), wanted.max())) + 1  # so that list and id make one ascending number
    of_list = torch.repeat_interleave(torch.arange(len(known.starts) - 1, device=wanted.device), known.starts.diff())
    every = of_list * above + known.ids
    asked = own.lists[:, None] * above + wanted[own.owner]  # (M, C)
    entry = torch.searchsorted(every, asked).clamp(max=len(every) - 1)
    found = (every[entry] == asked) * own.weights[:, None] * known.nearness[entry]
    return near.scatter_reduce_(0, own.owner[:, None].expand_as(found), found, "amax")

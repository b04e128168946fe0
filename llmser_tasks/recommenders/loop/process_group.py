"""The processes that train one model together, as one of them sees it.

All know the whole batch and draw the same masks and negatives; each computes the loss of its own rows. Their
gradients are added up before every step, so all take the same step and no weights are ever sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from llmser_tasks.recommenders.model import Model


class PeerLost(Exception):
    """Another process of the group is gone; the reason is whatever ended that one, not this."""


@dataclass(frozen=True)
class ProcessGroup:
    """Process `rank` of `size`; by default a process on its own, which has all the rows and nobody to tell."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def own(self, count: int, device: torch.device | None = None) -> Tensor:
        """(count,) bool: which of so many rows are this process's, every size-th of them."""
        return torch.arange(count, device=device) % self.size == self.rank

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same bits in each."""
        if self.size > 1:
            with _peers():
                dist.all_reduce(values)
        return values

    def add_gradients(self, model: Model) -> None:
        """Replace the model's gradients by their sum over all processes.

        Of a sparse gradient (an item table's rows per item have one) only the rows are sent, so the cost grows with the
        batch, not the catalogue. A process without rows has no gradient and adds nothing.
        """
        if self.size == 1:
            return
        tables = list(model.item_table.per_item().values())
        for table in tables:
            if table.grad is not None and table.grad.is_sparse:
                table.grad = table.grad.coalesce()
        of_tables = self._gather(torch.tensor([_gathered_rows(table) for table in tables], device=model.device))
        dense: list[Tensor] = [
            parameter
            for parameter in model.parameters()
            if parameter.requires_grad and not any(parameter is table for table in tables)
        ]
        for table, counts in zip(tables, of_tables.T.tolist(), strict=True):
            if not table.requires_grad:
                continue
            if min(counts) < 0:
                dense.append(table)
            else:
                table.grad = self._add_rows(table, counts)
        flat = self.total(torch.cat([_gradient(parameter).flatten() for parameter in dense]))
        for parameter, added in zip(dense, torch.split(flat, [parameter.numel() for parameter in dense]), strict=True):
            parameter.grad = added.view_as(parameter)

    def _add_rows(self, table: Tensor, counts: list[int]) -> Tensor:
        """The sum of sparse gradients of which each process holds counts[rank] rows."""
        own = table.grad
        rows = torch.zeros(max(counts), dtype=torch.int64, device=table.device)
        values = torch.zeros(max(counts), table.shape[1], device=table.device)
        if own is not None:
            rows[: counts[self.rank]] = own.indices()[0]
            values[: counts[self.rank]] = own.values()
        all_rows, all_values = self._gather(rows), self._gather(values)
        filled = torch.arange(max(counts), device=table.device) < torch.tensor(counts, device=table.device)[:, None]
        added = torch.sparse_coo_tensor(all_rows[filled][None], all_values[filled], table.shape, check_invariants=False)
        return added.coalesce()

    def _gather(self, values: Tensor) -> Tensor:
        """(size, …) the tensors of all processes, which have one shape."""
        gathered = [torch.empty_like(values) for _ in range(self.size)]
        with _peers():
            dist.all_gather(gathered, values)
        return torch.stack(gathered)


def _gathered_rows(table: Tensor) -> int:
    """How many rows the table's sparse gradient has: 0 where there is no gradient, -1 where it is dense."""
    if table.grad is None:
        return 0
    return len(table.grad.values()) if table.grad.is_sparse else -1


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.to_dense()


ALONE = ProcessGroup()


@contextmanager
def _peers() -> Iterator[None]:
    """When talk between processes fails, one of them is gone."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(str(error)) from error

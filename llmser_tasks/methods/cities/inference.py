"""What infers an item's vector from its contexts, and how it learns to."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from llmser_tasks.core.progress import Progress
from llmser_tasks.methods.cities.contexts import REACH, Contexts
from llmser_tasks.recommenders.loop.checkpoints import remove_checkpoint, restore_checkpoint, save_checkpoint
from llmser_tasks.recommenders.loop.optimiser import Adam

BATCH = 128  # items
HELD_OUT = 0.05  # of the items that teach
LONGEST_GRADIENT = 1.0
LAYERS, HEADS, DROPOUT = 2, 4, 0.1
BEST = ".inference.safetensors"

Numbers = NDArray[np.int64]


class Inference(nn.Module):
    """The tokens of a context are items' vectors, each weighted by its place and with that place's sinusoids added; an
    encoder reads them, and their mean is the context. A second encoder reads an item's contexts, and a linear map of
    their mean is the item's vector.
    """

    sinusoids: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2 * REACH))
        self.register_buffer("sinusoids", _sinusoids(2 * REACH, width), persistent=False)
        self.items, self.contexts = (_encoder(width) for _ in range(2))
        self.out = nn.Linear(width, width)

    def forward(self, vectors: Tensor, places: Tensor, known: Tensor, of_item: Tensor, count: int) -> Tensor:
        """
        Args:
            vectors, places, known: (N, L, w), (N, L), (N, L, bool) tokens of N contexts.
            of_item: (N,) ascending, which item each context is one of; every item has some.
            count: n, of items.

        Returns:
            (n, w)
        """
        tokens = vectors * self.weight[places][:, :, None] + self.sinusoids[places]
        contexts = _mean(self.items(tokens, src_key_padding_mask=~known), known)
        many = torch.bincount(of_item, minlength=count)
        nth = torch.arange(len(of_item), device=of_item.device) - (many.cumsum(0) - many)[of_item]
        there = torch.arange(int(many.max()), device=of_item.device) < many[:, None]
        side_by_side = contexts.new_zeros(*there.shape, contexts.shape[1]).index_put((of_item, nth), contexts)
        inferred: Tensor = self.out(_mean(self.contexts(side_by_side, src_key_padding_mask=~there), there))
        return inferred


def _encoder(width: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(width, math.gcd(width, HEADS), width, DROPOUT, batch_first=True)
    return nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)


def _sinusoids(places: int, width: int) -> Tensor:
    """(places, width) as Vaswani et al. (2017) have them."""
    angles = torch.arange(places)[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]


def _mean(states: Tensor, known: Tensor) -> Tensor:
    """(N, L, w), (N, L) → (N, w) means of what is known."""
    total = (states * known[:, :, None]).sum(1)
    return total / known.sum(1)[:, None]


@dataclass
class Learned:
    """How far it has come.

    Attributes:
        errors: mean square error of the items that were held out, after every epoch; in the unit of `Teacher.scale`.
    """

    signature: str
    errors: list[float] = field(default_factory=list)
    best_epoch: int = 0


class Teacher:
    """Teaches an inference by items whose vectors are good, and infers others.

    Attributes:
        table: (I + 1, w) vectors of items.
        scale: root of the mean square of the numbers in vectors that teach: in this unit all is computed, so that
            sinusoids do not drown them.
    """

    def __init__(self, table: Tensor, contexts: Contexts, taught: Numbers, most: int, seed: int) -> None:
        """
        Args:
            taught: items that teach.
            most: contexts of an item that are looked at together.
        """
        shuffled = np.random.default_rng(seed).permutation(taught)
        held = max(1, round(HELD_OUT * len(taught)))
        self.held = np.sort(shuffled[:held])
        self.taught = np.sort(shuffled[held:]) if len(taught) > 1 else self.held
        self.scale = table[torch.from_numpy(taught).to(table.device)].square().mean().sqrt().clamp(min=1e-12)
        self.table, self.contexts, self.most, self.seed = table / self.scale, contexts, most, seed

    def learn(
        self, folder: Path, learning_rate: float, epochs: int, patience: int, progress: Progress
    ) -> tuple[Inference, Learned]:
        """The inference of the epoch that was best on the items that were held out. Killed and called again with the
        same folder, it goes on after its last epoch; nothing of it is left there in the end.
        """
        with torch.random.fork_rng(devices=[self.table.device] if self.table.is_cuda else []):
            torch.manual_seed(self.seed)
            function = Inference(self.table.shape[1]).to(self.table.device)
            optimiser = Adam(function.parameters(), learning_rate)
            found = restore_checkpoint(folder, function, None, optimiser, "inference")
            learned = Learned(**found) if found else Learned("inference")
            while len(learned.errors) < (last := min(epochs, learned.best_epoch + patience)):
                epoch = len(learned.errors) + 1
                self._epoch(function, optimiser, np.random.default_rng([self.seed, epoch]))
                learned.errors.append(self._error(function))
                if learned.errors[-1] <= min(learned.errors):
                    learned.best_epoch = epoch
                    save_file({name: v.cpu() for name, v in function.state_dict().items()}, folder / BEST)
                save_checkpoint(folder, function, None, optimiser, asdict(learned))
                told = f"MSE {learned.errors[-1]:.4f}, best {min(learned.errors):.4f} in epoch {learned.best_epoch}"
                progress(epoch, last, "epochs", f"contexts of items: {told}")
        function.load_state_dict(load_file(folder / BEST))
        (folder / BEST).unlink()
        remove_checkpoint(folder)
        return function.to(self.table.device).eval(), learned

    @torch.no_grad()
    def infer(self, function: Inference, items: Numbers) -> Tensor:
        """(n, w) vectors of these items, which have contexts."""
        batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
        many = [np.full(len(batch), self.most) for batch in batches]
        made = [self._made(function.eval(), batch, of) for batch, of in zip(batches, many, strict=True)]
        return torch.cat(made) * self.scale

    def _epoch(self, function: Inference, optimiser: Adam, random: np.random.Generator) -> None:
        torch.manual_seed(int(random.integers(1 << 32)))  # dropout
        shuffled = random.permutation(self.taught)
        function.train()
        for start in range(0, len(shuffled), BATCH):
            batch = shuffled[start : start + BATCH]
            many = random.integers(1, self.most + 1, len(batch))
            wanted = self.table[torch.from_numpy(batch).to(self.table.device)]
            loss = (self._made(function, batch, many, random) - wanted).square().mean()
            torch.autograd.backward(loss)
            clip_grad_norm_(function.parameters(), LONGEST_GRADIENT)
            optimiser.step()

    @torch.no_grad()
    def _error(self, function: Inference) -> float:
        inferred = self.infer(function, self.held) / self.scale
        wanted = self.table[torch.from_numpy(self.held).to(self.table.device)]
        return float((inferred - wanted).square().mean())

    def _made(
        self, function: Inference, items: Numbers, many: Numbers, random: np.random.Generator | None = None
    ) -> Tensor:
        windows, of_item = self.contexts.some(items, many, random)
        tokens, places, of = (
            torch.from_numpy(a).to(self.table.device) for a in (windows.items, windows.places, of_item)
        )
        made: Tensor = function(self.table[tokens], places, tokens > 0, of, len(items))
        return made


def write_log(path: Path, learned: Learned) -> None:
    """One line an epoch: its number and its error."""
    lines: list[dict[str, Any]] = [{"epoch": n, "mse": mse} for n, mse in enumerate(learned.errors, start=1)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")

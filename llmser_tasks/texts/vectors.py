"""The titles of a catalogue as vectors: a file that methods can read without an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

FILE = "item_vectors.safetensors"

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class ItemVectors:
    """One row an item; row 0 is padding.

    Attributes:
        vectors: (I + 1, d) float32, unit vectors; zeros for padding and for items without a title.
        titled: (I + 1,) which items have a title.
    """

    vectors: Vectors
    titled: NDArray[np.bool_]

    @classmethod
    def read(cls, folder: Path) -> ItemVectors:
        arrays = load_file(folder / FILE)
        return cls(arrays["vectors"], arrays["titled"])

    def write(self, folder: Path) -> None:
        save_file({"vectors": np.ascontiguousarray(self.vectors), "titled": self.titled}, folder / FILE)

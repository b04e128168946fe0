"""How a step says how far it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as often as a step likes; whoever listens throttles."""

    def __call__(self, done: int, total: int | None, unit: str, note: str = "") -> None:
        """
        Args:
            done: units finished so far.
            total: units there are, where that is known.
            unit: what is counted, in the plural ("users", "lines", "epochs").
            note: what a person may want to read beside it ("NDCG@10 .0412").
        """


def silent(done: int, total: int | None, unit: str, note: str = "") -> None:
    """Nobody listens."""

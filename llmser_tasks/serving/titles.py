"""Titles as people write them → items of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from rapidfuzz import process
from rapidfuzz.fuzz import ratio, token_set_ratio
from rapidfuzz.utils import default_process

from llmser_tasks.core.text import clean_title
from llmser_tasks.sequences.catalogue import Catalogue

SIMILAR = 75.0  # of rapidfuzz's token_set_ratio: 100 where a title has every word, below 50 where it shares one of four


@dataclass(frozen=True)
class Match:
    """What was taken for a title.

    Attributes:
        item: 1 … I.
        title: its own title.
        exact: the titles are equal once normalised.
        likeness: how alike they are, in per cent.
        others: further items whose title is equal to this item's once normalised.
    """

    item: int
    title: str
    exact: bool
    likeness: float
    others: int


@dataclass(frozen=True)
class Titles:
    """The catalogue's titles, looked up as people write them: without regard to case, punctuation or markup."""

    catalogue: Catalogue

    @cached_property
    def items(self) -> Mapping[str, list[int]]:
        """Normalised title → its items, ascending."""
        found: dict[str, list[int]] = {}
        for item, title in enumerate(self.catalogue.titles.to_pylist(), start=1):
            if title:
                found.setdefault(normal(title), []).append(item)
        return found

    def match(self, title: str) -> Match | None:
        """The item of this title, else the one whose title is most like it; None where none is like it.

        Of several items with the same title the first in the catalogue is taken.
        """
        wanted = normal(title)
        best, likeness = wanted, 100.0
        if wanted not in self.items:
            alike = process.extract(wanted, self.items.keys(), scorer=token_set_ratio, score_cutoff=SIMILAR, limit=None)
            if not alike:
                return None
            best, likeness, _ = max(alike, key=lambda found: (found[1], ratio(wanted, found[0])))
        first, *others = self.items[best]
        return Match(first, str(self.catalogue.titles_of([first])[0]), best == wanted, float(likeness), len(others))


def normal(title: str) -> str:
    """Lower case, letters and digits only; a title without any stays as it is."""
    cleaned = clean_title(title) or ""
    return " ".join(default_process(cleaned).split()) or cleaned.casefold()

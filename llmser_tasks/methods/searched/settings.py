"""Settings of the search."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from llmser_tasks.core.section import Section

OWN = "searched"
ADDED = (OWN, f"{OWN}+content")  # what a run with a budget trains, too
FEWEST, MOST = 2, 10_000
BUDGET = re.compile(r"(?P<number>\d{1,5})(?P<minutes>m?)")


def _budget(given: Any) -> Any:
    if given is None:
        return None
    text = str(given).strip() if isinstance(given, str | int) and not isinstance(given, bool) else ""
    found = BUDGET.fullmatch(text)
    least = 1 if found and found["minutes"] else FEWEST
    if not found or not least <= int(found["number"]) <= MOST:
        raise ValueError(
            f"give a budget, as so many full trainings ({FEWEST} to {MOST:,}: 12) or minutes of training (1m to"
            f" {MOST:,}m: 30m)"
        )
    return text


class Search(Section):
    """What a search may cost."""

    heading: ClassVar[str] = "Search: the best of the run's methods, settings and item tables, by validation items"
    may_differ: ClassVar[frozenset[str]] = frozenset({"search"})

    search: Annotated[str | None, BeforeValidator(_budget)] = Field(
        None,
        description="Budget of a search among the run's methods, the settings that they name and the item tables: so"
        " many trainings' worth of epochs (12), or minutes of training (30m). The run then has the methods"
        f" {' and '.join(ADDED)}, which use what it found. Empty: nothing is searched. [successive halving]",
    )

    def with_methods(self, named: Sequence[str]) -> Sequence[str]:
        if self.search is not None:
            return tuple(dict.fromkeys([*named, *ADDED]))
        if any(name.split("+")[0] == OWN for name in named):
            raise ValueError(
                f"methods names {OWN}, which needs a budget: add one with --search 12 (trainings) or --search 30m"
                " (minutes), or take it out"
            )
        return named

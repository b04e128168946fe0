"""What stands for the warehouse in all rooms, from the ground up; those who may speak to it know how (`warehouse`)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Warehouse:
    """The database that holds runs, answers and results.

    Attributes:
        url: as LLMSER_DATABASE_URL has it; it may hold a password, so nothing prints it with the rest.
    """

    url: str = field(repr=False)

"""Settings of ASReP."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from llmser_tasks.core.section import Section


class Asrep(Section):
    """Short histories, extended at the front by a model that looks back."""

    heading: ClassVar[str] = "ASReP: short histories extended by the model that looks back"

    asrep_items: int = Field(
        15,
        ge=1,
        le=1000,
        description="Most items put before a short history. [released code: Beauty 15, Cell Phones 17]",
    )
    asrep_length: int = Field(
        18,
        ge=2,
        le=1000,
        description="Training histories shorter than this are extended, up to this length. [released code]",
    )
    asrep_reverse_start: bool = Field(
        True, description="Training begins with the weights of the model that looks back. [ASReP]"
    )

"""Vectors of texts, and neighbours by them."""

from __future__ import annotations

import re
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmser_tasks.core.section import Section
from llmser_tasks.core.sections.llm import CONNECTION, CONNECTIONS

ENDPOINT = "endpoint:"  # before a connection's name, where other names are possible, too


class Texts(Section):
    """Vectors of items' and users' texts, and which are neighbours by them."""

    heading: ClassVar[str] = "Texts: vectors and neighbours of items and users"

    vectors: str = Field(
        "",
        max_length=500,
        description="What items' and users' texts are embedded with: minilm (embedded), a folder with a BERT, a hub name, or"
        " endpoint:NAME, a connection whose model serves /v1/embeddings; empty: the encoder that scores.",
    )
    user_vectors: Literal["mean", "titles", "summary"] = Field(
        "mean",
        description="What a user's vector is: the mean of the vectors of the items, the newer the heavier, that of a"
        " text of the newest titles, or that of a summary of them which the LLM endpoint is asked to write."
        " [design; LLM-ESR: summary, its released code: titles]",
    )
    neighbours: int = Field(
        10, ge=1, le=1000, description="Neighbours that a user or an item has, the closest first. [LLM-ESR]"
    )

    def connection(self) -> str | None:
        """Of the endpoint that embeds; None: a BERT does."""
        return self.vectors.removeprefix(ENDPOINT) if self.vectors.startswith(ENDPOINT) else None

    @model_validator(mode="after")
    def _names_a_connection(self) -> Self:
        name = self.connection()
        if name is not None and not re.fullmatch(CONNECTION, name):
            raise ValueError(f"vectors: behind {ENDPOINT} comes {CONNECTIONS}")
        return self

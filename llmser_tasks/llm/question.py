"""A question and what is said to it, whatever kind of answer it wants: picks (`prompts`) or a text (`free_text`).

Who asks (`client`, `fleet`, `batch_api`) knows no kind: a question brings the schema of its answers and reads them.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson


def messages_of(instructions: str, rules: str, data: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    """A question's messages: what to do and how to answer in our own words, what it is about as one JSON block."""
    return (
        {"role": "system", "content": f"{instructions.strip()}\n\n{rules}"},
        {"role": "user", "content": orjson.dumps(data).decode()},
    )


@dataclass(frozen=True)
class Answer(ABC):
    """What a reply says to its question.

    Attributes:
        content, finish_reason: as the endpoint wrote them.
    """

    content: str
    finish_reason: str | None

    @property
    @abstractmethod
    def usable(self) -> bool:
        """Whether it says anything that was asked for."""


@dataclass(frozen=True, kw_only=True)
class Question(ABC):
    """One prompt and what counts as an answer to it.

    Attributes:
        step: only for the ledger's readers.
        messages: role and content each, in order.
        max_tokens: what an answer needs at most.
    """

    step: str
    prompt_version: str
    messages: tuple[dict[str, str], ...]
    max_tokens: int
    temperature: float = 0.0

    @property
    @abstractmethod
    def schema(self) -> bytes:
        """JSON schema of the answer, as JSON; the same object for questions of one form."""

    @property
    @abstractmethod
    def usual_tokens(self) -> float:
        """Of a typical answer."""

    @abstractmethod
    def read(self, content: str, finish_reason: str | None) -> Answer:
        """What a reply says."""

    def key(self, model: str, parameters: Mapping[str, Any] = MappingProxyType({})) -> str:
        """sha256 over the model, the parameters, the prompt's version and the messages: equal questions, equal keys.

        Args:
            parameters: what the connection adds that changes answers (`Endpoint.parameters`).
        """
        basis = {
            "model": model,
            "parameters": {
                "max_tokens": self.max_tokens,
                "temperature": float(self.temperature),
                **parameters,
            },
            "prompt_version": self.prompt_version,
            "messages": self.messages,
        }
        return hashlib.sha256(orjson.dumps(basis, option=orjson.OPT_SORT_KEYS)).hexdigest()

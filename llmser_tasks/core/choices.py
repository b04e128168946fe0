"""Types of settings whose values are names of what there are several of, in pydantic's models and JSON schemas."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from llmser_tasks.core.kinds import METHODS, TRAINED, WITH, behind, kinds_of


@dataclass(frozen=True)
class MethodName:
    """A setting's type: the name of a method that is trained, or one of a few other words; with its parts in order.

    Attributes:
        words: those others.
    """

    words: tuple[str, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, core_schema.str_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        trained = [name for name in METHODS.every() if METHODS[name].trained]
        return {"type": "string", "format": "method", "examples": [*self.words, *trained]}

    def _check(self, name: str) -> str:
        if name in self.words:
            return name
        own, *parts = name.split(WITH)
        tables, additions = kinds_of(parts)
        ordered = WITH.join([own, *tables, *additions])
        if len(tables) + len(additions) == len(parts) and ordered in METHODS and METHODS[ordered].trained:
            return ordered
        expected = f"name {', '.join([*self.words, *TRAINED][:-1])} or {TRAINED[-1]}"
        if more := behind():
            expected += f", or one of them with an item table or an addition behind it ({', '.join(more)})"
        raise PydanticCustomError("method_name", "{expected}", {"expected": expected})


@dataclass(frozen=True)
class OneOf:
    """A setting's type: the name of one of a kind, in pydantic's models and the JSON schemas that they give."""

    kind: Collection[str]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, core_schema.str_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.kind)}

    def _check(self, name: str) -> str:
        if name not in self.kind:
            *others, last = map(repr, self.kind)
            expected = f"{', '.join(others)} or {last}" if others else last
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
        return name

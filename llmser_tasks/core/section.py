"""A group of settings, as `core.config` and the folders of methods declare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of knobs: unknown names are refused, values never change once checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def resolved(self, reads: Set[str]) -> dict[str, Any]:
        """The effective values of the knobs behind these attributes, JSON-ready: what a result of code that reads them
        depends on.

        A property that works a value out, from a default or from other knobs, belongs in `_resolved`.
        """
        dump = self.model_dump(mode="json")
        return {
            name: getattr(self, worked_out) if worked_out else dump[name]
            for name in type(self).model_fields
            if {name, worked_out := self._resolved.get(name, "")} & reads
        }

    def with_methods(self, named: Sequence[str]) -> Sequence[str]:
        """The methods of a run with these settings, which names some.

        Raises:
            ValueError: these do not go with the settings; the message says so in words.
        """
        return named

    heading: ClassVar[str] = ""  # as the form calls it
    may_differ: ClassVar[frozenset[str]] = frozenset()  # knobs that a refresh may change, see `runs.refresh`
    _resolved: ClassVar[Mapping[str, str]] = {}  # knob → the property that works out its value

"""The errors that a person is meant to read: one sentence saying what, where and what to do."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from llmser_tasks.core.printable import printable_lines


class LlmserError(Exception):
    """Something the user can mend. The message is shown as it stands, without a traceback.

    Attributes:
        users_without_answer: if it ended a batch of questions: reason → how many of its users have no answer.
    """

    users_without_answer: Mapping[str, int] = MappingProxyType({})

    def __init__(self, message: str = "") -> None:
        super().__init__(printable_lines(message))  # it may quote strangers


class Waiting(LlmserError):
    """Nothing is wrong: somebody outside is still at work, and the same call will find the result later.

    Attributes:
        on: ids of what they work on.
        seconds: after which it is worth looking again.
    """

    def __init__(self, message: str, on: Sequence[str], seconds: float) -> None:
        super().__init__(message)
        self.on = tuple(on)
        self.seconds = seconds


class InputError(LlmserError):
    """A dump, a path or a setting cannot be used as it is."""


class StorageError(LlmserError):
    """The disk, the artefact folder or Postgres failed; the step can be rerun once it is back."""


class DeclarationError(LlmserError):
    """What modules declare of themselves does not fit together; whoever wrote the newest has to mend it."""

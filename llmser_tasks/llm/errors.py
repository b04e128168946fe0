"""What can go wrong with a call, classed by what has to happen next. Which response means what: `error_responses`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmser_tasks.core.errors import LlmserError

if TYPE_CHECKING:
    from llmser_tasks.llm.replies import Reply


class LlmError(LlmserError):
    """A call that brought no answer. `kind` is its short name in counts and reports."""

    kind = "error"


class Retriable(LlmError):
    """Passing: the same question may be answered later. `retry_after` is what the endpoint asked for, in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(Retriable):
    kind = "rate limit"


class Unavailable(Retriable):
    """5xx, a reset connection, or an answer that is none."""

    kind = "server error"


class NoAnswer(Unavailable):
    """A success that holds no answer: the server broke off, or the model said nothing. It may have been paid for.

    Attributes:
        usage: tokens of prompt and completion, as far as they are known.
    """

    def __init__(
        self,
        message: str,
        usage: tuple[int | None, int | None] = (None, None),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retry_after)
        self.usage = usage


class Unreachable(Unavailable):
    kind = "unreachable"


class Timeout(Retriable):
    kind = "timeout"


class Refused(LlmError):
    """An unexplained 4xx. Asking again at once does not help; asking later may."""

    kind = "refused"


class FormatRefused(Refused):
    """The form of the request is refused (response_format, max_tokens, temperature); another form may be taken.

    Attributes:
        named: parameters that the refusal names.
    """

    kind = "format refused"

    def __init__(self, message: str, named: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.named = named


class LengthRefused(Refused):
    """The endpoint does not allow answers of this length."""

    kind = "length refused"


class CutOff(LlmError):
    """The reply ended before it answered: its tokens were used up, mostly by thinking. With more of them the same
    question can be answered.

    Attributes:
        reply: what it said, if anything.
    """

    kind = "cut off"

    def __init__(self, message: str, reply: Reply | None = None) -> None:
        super().__init__(message)
        self.reply = reply


class EndpointFatal(LlmError):
    """No question will be answered until a person does something."""


class KeyRefused(EndpointFatal):
    kind = "key refused"


class QuotaExhausted(EndpointFatal):
    kind = "quota"


class EndpointUnsupported(EndpointFatal):
    """No such URL, model or method there."""

    kind = "unsupported"


class NoRoom(EndpointFatal):
    """Its replies end before they answer, however much room they get."""

    kind = "cut off"


class Nonsense(EndpointFatal):
    """It answers, but hardly any answer names a candidate."""

    kind = "nonsense"


class QuestionFatal(LlmError):
    """This one question will never be answered; the others will."""


class ContentFiltered(QuestionFatal):
    kind = "content-filter"


class PromptTooLong(QuestionFatal):
    kind = "too-long"


class NeverAnswered(QuestionFatal):
    """The endpoint answers this one with nothing, again and again, while it answers others."""

    kind = "no answer"

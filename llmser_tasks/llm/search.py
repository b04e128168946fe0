"""Finding out how an endpoint wants to be asked, with few requests.

While nobody knows, the first question that is refused tries one way after the other, and the others wait for what it
finds. Where a way is known to work, a question that does not fit into it tries others for itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from math import isqrt

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.llm.dialects import FIRST_ROOM, MORE_ROOM, MOST_ROOM, Dialect, known, note, place_of
from llmser_tasks.llm.endpoint import Endpoint
from llmser_tasks.llm.errors import (
    CutOff,
    EndpointFatal,
    EndpointUnsupported,
    FormatRefused,
    LengthRefused,
    LlmError,
    NoRoom,
    PromptTooLong,
    Refused,
)
from llmser_tasks.llm.fleet.breaker import Breaker
from llmser_tasks.llm.question import Question
from llmser_tasks.llm.replies import Reply

Refusal = Refused | CutOff | PromptTooLong  # what another way of asking may solve

RAISES = 2  # how often one question gets more room, where others have enough
CUT_OFFS = 5  # questions in a row that a fixed max_tokens leaves without an answer, before the first has one
UNKNOWN = Dialect()  # what is tried first
NEAR = 1.25  # rooms that differ by less are as good as one


class Search:
    """Of one client: what is known, and whose turn it is to find out."""

    def __init__(self, endpoint: Endpoint, breaker: Breaker, warehouse: Warehouse | None) -> None:
        self.endpoint = endpoint
        self.breaker = breaker
        self.turn = asyncio.Lock()
        self.in_vain = False  # every form was tried, and none taken
        self.cut_offs = 0
        self.ceiling = MOST_ROOM + 1  # room that the endpoint refuses
        self._warehouse = warehouse
        self._place = place_of(endpoint)

    @property
    def proven(self) -> Dialect | None:
        return known.get(self._place)

    async def prove(self, dialect: Dialect) -> None:
        """A question was answered this way: others are asked so, too."""
        known[self._place] = dialect  # at once; those that are answered in this moment need not note it again
        if self._warehouse is not None:
            await asyncio.to_thread(note, self.endpoint, dialect, self._warehouse)

    async def begin(self, question: Question) -> Attempt:
        """One question's part in it."""
        if self.proven is None and self.turn.locked():
            async with self.turn:
                pass
        return Attempt(self, question)


class Attempt:
    """How one question is asked, and what is tried next."""

    def __init__(self, search: Search, question: Question) -> None:
        self._search = search
        self._question = question
        self.dialect = search.proven or UNKNOWN
        self._tried = [self.dialect]
        self._finds_out = False
        self._too_little = 0  # room that was taken, and used up before the answer
        self._too_much = search.ceiling  # room that is refused
        self._raises = 0
        self._long_prompt = False

    def leave(self) -> None:
        """Let others have the turn."""
        if self._finds_out:
            self._finds_out = False
            self._search.turn.release()

    async def found(self) -> None:
        """It was answered this way."""
        search, proven = self._search, self._search.proven
        search.cut_offs = 0
        if proven is self.dialect or proven == self.dialect:
            return
        # Less room than others have is for this question alone, whose prompt is long; unless so much is refused to all.
        if (
            proven is not None
            and self.dialect.room <= proven.room < search.ceiling
            and replace(self.dialect, room=proven.room) == proven
        ):
            return
        await search.prove(self.dialect)

    def understood(self, refusal: Refusal) -> Refusal:
        """A prompt that is too long only because the connection asks for much room is not the question's fault."""
        if isinstance(refusal, PromptTooLong) and self._fixed and self._room > self._question.max_tokens:
            self._long_prompt = True
            return LengthRefused(str(refusal))
        return refusal

    async def goes_on(self, refusal: Refusal) -> bool:
        """Take another way after a refusal; False where none is left, or where the refusal is not about the form.

        Raises:
            EndpointUnsupported: no way is taken here.
            NoRoom: no room is enough here.
        """
        search = self._search
        if isinstance(refusal, PromptTooLong) and self._room <= self._question.max_tokens:
            return False
        if search.proven is None and not self._finds_out:
            await search.turn.acquire()
            self._finds_out = True
        proven = search.proven
        if proven is not None:
            self.leave()
            if proven not in self._tried:  # found by another question in the meantime
                return self._take(proven)
            if type(refusal) is Refused:  # others are answered this way, so the question itself is refused
                return False
        following = self._following(refusal)
        if following is not None:
            return self._take(following)
        if proven is None or (isinstance(refusal, LengthRefused) and self._fixed and not self._long_prompt):
            self._give_up(refusal)
        return False

    def last_reply(self, refusal: Refusal) -> Reply | None:
        """What settles a question that found no end, where others have room enough: what it said last, an answer that
        names nothing. None: it stays open."""
        known_to_do = self._search.proven is not None and not self._fixed
        return refusal.reply if isinstance(refusal, CutOff) and known_to_do else None

    def told(self, refusal: Refusal) -> LlmError:
        """The refusal, with what to do."""
        connection = f"in the extra of the connection {self._search.endpoint.name}"
        if isinstance(refusal, LengthRefused) and self._fixed:
            return LengthRefused(f"{refusal} Lower max_tokens {connection}, which asks for {self._room:,}.")
        if not isinstance(refusal, CutOff):
            return refusal
        given = f"{self._room:,} tokens are the most" if self.dialect.length else "No limit can be set here"
        return CutOff(
            f"{refusal} {given}: raise max_tokens {connection}, or turn its thinking down (extra_body, such as "
            '{"reasoning_effort": "low"}), then rerun.'
        )

    @property
    def _fixed(self) -> bool:
        return self._search.endpoint.max_tokens is not None

    @property
    def _room(self) -> int:
        return self.dialect.tokens(self._search.endpoint, self._question)

    def _take(self, dialect: Dialect) -> bool:
        self.dialect = dialect
        self._tried.append(dialect)
        return True

    def _following(self, refusal: Refusal) -> Dialect | None:
        if isinstance(refusal, CutOff):
            return None if self._fixed else self._more_room()
        if isinstance(refusal, LengthRefused | PromptTooLong):
            if self._fixed:
                return None
            if self._room > self._question.max_tokens:
                return self._less_room(for_all=isinstance(refusal, LengthRefused))
        if isinstance(refusal, PromptTooLong) or (type(refusal) is Refused and self._search.in_vain):
            return None
        return self.dialect.simpler(refusal)

    def _more_room(self) -> Dialect | None:
        """As much as thinking needs. Where others have enough, one that finds no end gets little more."""
        self._too_little = self._room
        self._raises += 1
        if not self.dialect.length or (self._search.proven is not None and self._raises > RAISES):
            return None
        more = min(max(MORE_ROOM * self._room, FIRST_ROOM), MOST_ROOM)
        refused = min(self._too_much, self._search.ceiling)
        if more >= refused:
            more = isqrt(self._room * refused)
        return replace(self.dialect, room=more) if more > NEAR * self._room else None

    def _less_room(self, *, for_all: bool) -> Dialect | None:
        """So much is refused: of every question, or of this one, whose prompt is long."""
        self._too_much = self._room
        if for_all:
            self._search.ceiling = min(self._search.ceiling, self._room)
        least = self._too_little or self._question.max_tokens
        less = isqrt(least * self._room)
        if less > NEAR * least:
            return replace(self.dialect, room=less)
        return None if self._too_little else replace(self.dialect, room=0)

    def _give_up(self, refusal: Refusal) -> None:
        """Nobody was answered yet, and nothing is left to try.

        Raises:
            EndpointFatal: a person has to act.
        """
        search, said = self._search, self.told(refusal)
        fatal: EndpointFatal | None = None
        if isinstance(refusal, CutOff) or self._too_little:
            search.cut_offs += 1
            if not self._fixed or search.cut_offs >= CUT_OFFS:
                fatal = NoRoom(str(said))
        elif isinstance(refusal, LengthRefused):
            fatal = EndpointUnsupported(str(said))
        elif isinstance(refusal, FormatRefused):
            fatal = EndpointUnsupported(
                f"{refusal} It was asked in {len(self._tried)} ways, in the end without response_format, temperature "
                "and a limit of its answer's length, and refuses all; see in its documentation what it takes, and "
                "whether extra_body in the connection's extra asks for something that it does not have."
            )
        if fatal is not None:
            search.breaker.trip(fatal)
            raise fatal
        search.in_vain = True

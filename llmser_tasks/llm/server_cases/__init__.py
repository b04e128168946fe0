"""What servers say, and what follows: one set of tables for single questions and for batches.

Each row is a case that somebody met: by what sign it is known, what it means, and who says it. A response of status
200 is known by its finish reason (`finishes`), an error by its codes, wording and status (`refusals`). What reads
responses (`error_responses`, `replies`) looks its signs up there, and the tests play an example of every row, over HTTP
and out of a batch's file. So a new case is a new row.
"""

from __future__ import annotations

from enum import Enum


class Case(Enum):
    """What a response means; the value is its short name in counts and reports."""

    ANSWER = "answer"
    NO_ANSWER = "no answer"
    CUT_OFF = "cut off"
    FILTERED = "content-filter"
    TOO_LONG = "too-long"
    RATE_LIMIT = "rate limit"
    SERVER_ERROR = "server error"
    TIMEOUT = "timeout"
    KEY = "key refused"
    QUOTA = "quota"
    UNSUPPORTED = "unsupported"
    FORM = "format refused"
    LENGTH = "length refused"
    REFUSED = "refused"


FOLLOWS: dict[Case, str] = {
    Case.ANSWER: "read it",
    Case.NO_ANSWER: "retry as a server error; settle it after several, where others are answered meanwhile",
    Case.CUT_OFF: "read what is there; where nothing is, ask again with more room, or ask a person for more",
    Case.FILTERED: "settle: nobody will ever answer this one",
    Case.TOO_LONG: "settle: nobody will ever answer this one",
    Case.RATE_LIMIT: "retry, slower",
    Case.SERVER_ERROR: "retry",
    Case.TIMEOUT: "retry",
    Case.KEY: "stop the batch; a person checks the key",
    Case.QUOTA: "stop the batch; a person tops the account up",
    Case.UNSUPPORTED: "stop the batch; a person corrects the connection",
    Case.FORM: "ask in another form, and remember it",
    Case.LENGTH: "ask with less room, and remember it",
    Case.REFUSED: "try other forms where none is known to work; else leave it open",
}

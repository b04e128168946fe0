"""Faults that the embedding ranker can be told to inject, so that everything a provider may do can be tried at home.

Which call fails how is drawn from the seed, the question and how often that question was asked: the same questions meet
the same faults, whatever order they come in. One spec in one line:

    seed=7,429=0.02,timeout=0.005,truncated=0.02,unavailable=0.5,fail_first=1,matching=Shampoo

Rates are shares of calls, and a call shows one fault at most. The other settings:

    seed         of the draw (0)
    fail_first   so many first calls of every question get 503
    unavailable  share of *questions* that get 503 until this is switched off
    matching     only questions that hold this text are touched
    wait         seconds that a Retry-After asks for (1)
    hold         seconds that a timeout keeps the client waiting (600)
    drip_seconds over which a dripping answer comes byte by byte (5)
    batch_seconds that a batch of the Batch API takes (1)
    batch_expired share of *questions* that a batch leaves unanswered because its time is up
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from llmser_tasks.core.errors import InputError

# instead of an answer
REFUSALS = ("429", "arrears", "500", "filtered", "too_long")
SILENCE = ("timeout", "reset")
# an answer, but …
SPOILT = ("truncated", "prose", "duplicates", "out_of_range", "invented")
ODD = ("drip", "no_usage")
RATES = (*REFUSALS, *SILENCE, *SPOILT, *ODD)
UNAVAILABLE = "503"  # of fail_first and unavailable

RETRY_AFTER = ("seconds", "date", "retry-after-ms", "llm_provider-retry-after", "none")
RATE_CODES = ("rate_limit_exceeded", "1302", "1303", "1305", "1312")
ARREARS_CODES = ("insufficient_quota", "1112", "1113", "1121", "1304", "1308", "1310")
FILTER_CODES = ("content_filter", "1301")
LENGTH_CODES = ("context_length_exceeded", "1261")


@dataclass(frozen=True)
class Faults:
    """What goes wrong, and how often. `parse_spec` makes one; the default is nothing."""

    rates: tuple[tuple[str, float], ...] = ()
    seed: int = 0
    fail_first: int = 0
    unavailable: float = 0.0
    matching: str = ""
    wait: float = 1.0
    hold: float = 600.0
    drip_seconds: float = 5.0
    batch_seconds: float = 1.0
    batch_expired: float = 0.0

    def draw(self, question: str, text: str, asked: int) -> str | None:
        """The fault of this call, or None.

        Args:
            question: the question's hash.
            text: what `matching` looks into.
            asked: how often the question was asked before.
        """
        if self.matching and self.matching not in text:
            return None
        if asked < self.fail_first or self._uniform(question, "unavailable") < self.unavailable:
            return UNAVAILABLE
        drawn = self._uniform(question, str(asked))
        for kind, rate in self.rates:
            if drawn < rate:
                return kind
            drawn -= rate
        return None

    def expires(self, question: str) -> bool:
        """Whether the batch expires before this question is answered."""
        return self._uniform(question, "expired") < self.batch_expired

    def choose(self, options: Sequence[str], question: str, asked: int) -> str:
        """One of several forms of a fault, as reproducible as the fault itself."""
        return options[int(self._uniform(question, f"form {asked}") * len(options))]

    def _uniform(self, question: str, what: str) -> float:
        digest = hashlib.sha256(f"{self.seed} {question} {what}".encode()).digest()
        return int.from_bytes(digest[:7], "big") / 2**56


def _share(value: str) -> float:
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(value)
    return share


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise ValueError(value)
    return seconds


SETTINGS: Mapping[str, Callable[[str], Any]] = {
    "seed": int,
    "fail_first": int,
    "unavailable": _share,
    "matching": str,
    "wait": _seconds,
    "hold": _seconds,
    "drip_seconds": _seconds,
    "batch_seconds": _seconds,
    "batch_expired": _share,
}


def parse_spec(spec: str) -> Faults:
    """Read a spec as shown above; an empty one is no faults.

    Raises:
        InputError: an unknown name, a value that is no number, rates that add up to more than 1.
    """
    settings: dict[str, Any] = {}
    rates: list[tuple[str, float]] = []
    for part in filter(None, (part.strip() for part in spec.split(","))):
        name, separator, value = part.partition("=")
        try:
            if not separator:
                raise ValueError
            if name in RATES:
                rates.append((name, _share(value)))
            elif name in SETTINGS:
                settings[name] = SETTINGS[name](value)
            else:
                raise InputError(f"Unknown fault {name!r}; known are {', '.join((*RATES, *SETTINGS))}.")
        except ValueError:
            raise InputError(f"Fault {part!r} must be NAME=VALUE, a rate between 0 and 1.") from None
    if sum(rate for _, rate in rates) > 1 + 1e-9:
        raise InputError("The rates of the faults add up to more than 1; a call shows one fault at most.")
    return Faults(rates=tuple(rates), **settings)


def error_body(message: str, kind: str, code: str | None) -> dict[str, Any]:
    """An error as OpenAI shapes it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def refusal(kind: str, faults: Faults, question: str, asked: int) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and body of a fault that comes instead of an answer. GLM's codes come in GLM's shape."""
    if kind == "429":
        code = faults.choose(RATE_CODES, question, asked)
        headers = retry_after(faults.choose(RETRY_AFTER, question, asked + 1), faults.wait)
        return 429, headers, _refused("Rate limit reached, please try again later.", "requests", code)
    if kind == "arrears":
        code = faults.choose(ARREARS_CODES, question, asked)
        return 429, {}, _refused("The account is in arrears, locked or out of quota.", "insufficient_quota", code)
    if kind == "filtered":
        code = faults.choose(FILTER_CODES, question, asked)
        return 400, {}, _refused("The request was rejected by the content filter.", "invalid_request_error", code)
    if kind == "too_long":
        code = faults.choose(LENGTH_CODES, question, asked)
        return 400, {}, _refused("The prompt exceeds the maximum context length.", "invalid_request_error", code)
    if kind == UNAVAILABLE:
        return 503, {}, error_body("The server is overloaded.", "server_error", "service_unavailable")
    return 500, {}, error_body("The server had an error.", "server_error", None)


def _refused(message: str, kind: str, code: str) -> dict[str, Any]:
    if code.isdigit():
        return {"error": {"code": code, "message": message}}
    return error_body(message, kind, code)


def retry_after(form: str, wait: float) -> dict[str, str]:
    """The header that asks to wait, in one of its forms."""
    match form:
        case "seconds":
            return {"retry-after": str(math.ceil(wait))}
        case "date":
            return {"retry-after": formatdate(math.ceil(time.time() + wait), usegmt=True)}
        case "retry-after-ms":
            return {"retry-after-ms": str(round(wait * 1000))}
        case "llm_provider-retry-after":
            return {"llm_provider-retry-after": str(math.ceil(wait))}
    return {}


def spoil(kind: str, name: str, ids: list[str], titles: Mapping[str, str], most: int) -> tuple[str, str]:
    """Content and finish reason of an answer that is wrong in the way `kind` says.

    Args:
        name: "picks" or "item", what the answer's one key is.
        ids: the right answer, best first.
        titles: of all candidates, by id.
        most: ids that were asked for.
    """
    if kind == "truncated":
        whole = answer(name, ids)
        return whole[: max(1, len(whole) * 2 // 3)], "length"
    if kind == "prose":
        named = [titles[one] if position % 2 else one for position, one in enumerate(ids)]
        return f"Sure! Looking at this history, I would go for {' and then '.join(named)}. Hope that helps!", "stop"
    if kind == "duplicates":
        twice = [one for one in ids for _ in range(2)][: max(most, 2)]
        return json.dumps({name: twice}), "stop"
    if kind == "out_of_range":
        return answer(name, [f"c{len(titles) + 1 + p:02d}" if p % 2 == 0 else one for p, one in enumerate(ids)]), "stop"
    invented = [f"The Complete Invented Companion, Volume {position + 3}" for position in range(len(ids))]
    return answer(name, invented), "stop"


def answer(name: str, ids: list[str]) -> str:
    """The answer's JSON: {"picks": [...]} or {"item": ...}."""
    return json.dumps({name: ids if name == "picks" else ids[0]}, separators=(",", ":"), ensure_ascii=False)

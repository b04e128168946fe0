"""What LLMSeR's steps are called, and which part's absence leaves one nothing to do: so that one step can ask about
another without reaching its code."""

from __future__ import annotations

from llmser_tasks.core.config import RunConfig

REVERSE, CCG, FORWARD, SNF = "reverse", "ccg", "forward", "snf"
PSEUDO, RCS, REASON, RELIABILITY = "pseudo", "rcs", "reason", "reliability"

DONE_WITHOUT = {  # step → the parts without which there is nothing to do, the first one is told
    REVERSE: ("ccg",),
    FORWARD: ("arv", "rcs"),
    SNF: ("snf",),
    RCS: ("arv",),
    REASON: ("arv", "reason"),
}
TITLES = {"reason": "Reason"}


def left_out(step: str, config: RunConfig) -> str | None:
    """The part whose absence leaves this step nothing to do."""
    missing = next((part for part in DONE_WITHOUT.get(step, ()) if config.without(part)), None)
    return missing and TITLES.get(missing, missing.upper())

"""The names of LLMSeR's steps, and which missing part leaves a step nothing to do, so that one step can ask about
another without reaching its code."""

from __future__ import annotations

from llmser_tasks.core.config import RunConfig

REVERSE, CCG, FORWARD, SNF = "reverse", "ccg", "forward", "snf"
PSEUDO, RCS, REASON, RELIABILITY = "pseudo", "rcs", "reason", "reliability"

DONE_WITHOUT = {  # step → the parts without which it has nothing to do; the first one missing is named
    REVERSE: ("ccg",),
    FORWARD: ("arv", "rcs"),
    SNF: ("snf",),
    RCS: ("arv",),
    REASON: ("arv", "reason"),
}
TITLES = {"reason": "Reason"}


def left_out(step: str, config: RunConfig) -> str | None:
    """The missing part that leaves this step nothing to do."""
    if step == REVERSE and CCG not in config.augmentation.pool_sources:
        return CCG.upper()
    missing = next((part for part in DONE_WITHOUT.get(step, ()) if config.without(part)), None)
    return missing and TITLES.get(missing, missing.upper())

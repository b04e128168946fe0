"""Settings of which a search takes the best (`methods.searched`), for all who use LLMSeR's pseudo items and weights."""

from __future__ import annotations

from llmser_tasks.core.config import RunConfig
from llmser_tasks.methods.llmser import parts
from llmser_tasks.methods.trained import Axis

BETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
PSEUDO_ITEMS = (2, 4, 8, 12, 16, 20)


def axes(config: RunConfig) -> list[Axis]:
    """β, M and whether pseudo items feed inference.

    SNF's answers are ordered, likeliest first, so fewer pseudo items are the first of them; more than SNF is asked for
    would be another question. So would be another H, or the masked item asked for beside fewer pseudo items: Reason's
    answers, and with them ω, stay those about the run's own M.
    """
    asked = config.augmentation.picks_asked
    fewer = [{"pseudo_items": m, "asked_items": asked} for m in PSEUDO_ITEMS if m <= asked]
    found = [
        Axis([{}, *fewer], remade=(parts.PSEUDO, parts.RELIABILITY)),
        Axis([{}, {"enhance_inference": not config.reliability.enhance_inference}]),
    ]
    if not config.without("wd") and not config.without("arv"):  # else there is no decay
        found.append(Axis([{}, *({"beta": beta} for beta in BETAS)], remade=(parts.RELIABILITY,)))
    return found

"""What people call the steps, and what must be said beside figures."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from llmser_tasks.core.kinds import (
    ADDITIONS,
    COUNTERS,
    ITEM_TABLES,
    METHODS,
    QUESTION_STEPS,
    REFERENCE,
    TRAINED,
    WITH,
    Declared,
    chain,
)

FIRST = {
    "ingest": "Read the dumps",
    "sequences": "Cut histories, validation, test",
}
ESTIMATE = "estimate"  # before the first question
LAST = {"evaluation": "Evaluate", "publish": "Publish to Postgres"}


def steps(methods: Collection[str] = TRAINED) -> dict[str, str]:
    """The steps of a run with these methods, as rows of the warehouse name them, with their titles, in order."""
    of_methods: dict[str, str] = {}
    for name, step in chain([*methods, *COUNTERS]).items():
        if name in QUESTION_STEPS:
            of_methods.setdefault(ESTIMATE, "Estimate calls and price")
        of_methods[name] = step.title
    return FIRST | of_methods | dict(_made_for(methods)) | LAST


def _made_for(methods: Collection[str]) -> Iterator[tuple[str, str]]:
    """What is made per seed: the model of every method, and what is added to its scores."""
    for name in METHODS.sorted({*methods, *map(METHODS.model_of, methods)}):
        addition = METHODS[name].addition
        yield name, f"Fit {METHODS[name].title}" if addition else f"Train {METHODS[name].title}"


def title_of(method: str) -> str:
    """What people read; for a method that is no longer declared, its name."""
    return METHODS[method].title if method in METHODS else method


def titles_of_parts(parts: str) -> list[str]:
    """What people read for each part in a method's name: its item table, what is added to its scores, itself."""
    kinds: tuple[Mapping[str, Declared], ...] = (ITEM_TABLES, ADDITIONS, METHODS)
    return [next((kind[part].title for kind in kinds if part in kind), part) for part in parts.split(WITH)]


SHOWN_TRIED = 20  # rows of what a search tried; who wants all takes the table as a file


def what_was_tried(found: Mapping[str, Any]) -> str:
    """What a search came to, in a sentence.

    Args:
        found: the summary of the step that searched.
    """
    best = next(row for row in found["tried"] if row["chosen"])
    ends = f"{_decimal(best['ndcg'])}; {METHODS[REFERENCE].title} {_decimal(found['reference'])}"
    counted = f"{len(found['tried']):,} of {found['listed']:,} ways to train, in {found['epochs']:,} epochs"
    full = f"a full training is {found['full']:,}, the budget {_budget(found['budget'])}"
    by = " by the run that this one refreshes" if found["taken_over"] else ""
    return f"Searched on validation items{by}: {counted} ({full}). The best: {best['title']} (N@10 {ends})."


def _budget(budget: str) -> str:
    return f"{budget.removesuffix('m')} minutes" if budget.endswith("m") else f"{budget} of these"


def _decimal(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def why_chosen(by: str, validation: Mapping[str, float]) -> str:
    """Why a run has this method's recommendations and not another's, to follow its title and a comma.

    Args:
        by: validation (it is the best by that) or name (the run's settings name it).
        validation: method → NDCG@10 on validation items.
    """
    if by == "name":
        return "as the settings say"
    figures = ", ".join(f"{title_of(name)} {_decimal(ndcg)}" for name, ndcg in validation.items())
    return f"the best on validation items (N@10: {figures})"


CONDITIONAL = (  # beside every p and every ± (the sd over seeds)
    "p, intervals and sd are about users and training seeds, given this run's candidates, forward model and shuffles:"
    " these have one seed, and another one would move the figures further than they say."
)
INTERVALS = (
    "An interval leaves 0 out exactly where p (Holm) is below .05; its level is where Holm's correction stopped."
)
BY_PART = (
    "Each bar stands on the method before it and is what the parts below it add there; in another order the same parts"
    " may bring more or less. A bar with several parts stands where the run has no method between. The axis does not"
    " begin at 0."
)
ONE_SEED = "One seed: no stars, for what one training gains over another may be luck; give several (--seeds)."

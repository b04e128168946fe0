"""What people call the steps, and what must be said beside figures."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from llmser_tasks.core.decimals import decimal
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


def steps(methods: Collection[str] = TRAINED, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The steps of a run with these methods, as rows of the warehouse name them, with their titles, in order.

    Args:
        settings: flat names; None: whatever they are.
    """
    of_methods: dict[str, str] = {}
    for name, step in chain([*methods, *COUNTERS], settings).items():
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
    ends = f"{decimal(best['ndcg'])}; {METHODS[REFERENCE].title} {decimal(found['reference'])}"
    counted = f"{len(found['tried']):,} of {found['listed']:,} ways to train, in {found['epochs']:,} epochs"
    full = f"a full training is {found['full']:,}, the budget {_budget(found['budget'])}"
    by = " by the run that this one refreshes" if found["taken_over"] else ""
    return f"Searched on validation items{by}: {counted} ({full}). The best: {best['title']} (N@10 {ends})."


def _budget(budget: str) -> str:
    return f"{budget.removesuffix('m')} minutes" if budget.endswith("m") else f"{budget} of these"


def why_chosen(by: str, validation: Mapping[str, float]) -> str:
    """Why a run has this method's recommendations and not another's, to follow its title and a comma.

    Args:
        by: validation (it is the best by that) or name (the run's settings name it).
        validation: method → NDCG@10 on validation items.
    """
    if by == "name":
        return "as the settings say"
    figures = ", ".join(f"{title_of(name)} {decimal(ndcg)}" for name, ndcg in validation.items())
    return f"the best on validation items (N@10: {figures})"


def about_item_map(
    shares: Sequence[float], silhouette: float | None, overlap: float | None, chance: float | None
) -> str:
    """What a map of items shows, for those who do not see it (`evaluation.item_maps`)."""
    held = f"The picture holds {_percent(sum(shares))} of the table's variance."
    if silhouette is None:
        apart = "There are head items alone or tail items alone."
    else:
        how = next(word for least, word in APART if silhouette >= least)
        apart = f"Head and tail items {how} (silhouette {f'{silhouette:+.2f}'.replace('-', chr(0x2212))})."
    if overlap is None or chance is None:
        return f"{held} {apart}"
    near = f"Of an item's ten nearest, {_percent(overlap)} are among the ten nearest to it by text"
    return f"{held} {apart} {near} ({_percent(chance)} by chance)."


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


APART = ((0.5, "lie far apart"), (0.25, "lie apart"), (0.1, "lie a little apart"), (-1.0, "are mixed"))
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
OF_ITEM_MAPS = (
    "Each dot is an item, where the table by which it is ranked puts it: the first two principal components of each"
    " trained model's item table, in the run's first seed, of a sample where the catalogue is large; all show the same"
    " items. Between two maps neither places nor directions can be compared, only how head and tail items lie among"
    " each other."
)

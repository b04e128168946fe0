"""How steps are called where people read of them, and what must stand beside figures."""

from collections.abc import Collection

from llmser_tasks.core.kinds import COUNTERS, METHODS, QUESTION_STEPS, TRAINED, chain

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
    trained = {name: f"Train {METHODS[name].title}" for name in TRAINED if name in methods}
    return FIRST | of_methods | trained | LAST


CONDITIONAL = (  # beside every p and every ± (the sd over seeds)
    "p, intervals and sd are about users and training seeds, given this run's candidates, forward model and shuffles:"
    " these have one seed, and another one would move the figures further than they say."
)
INTERVALS = (
    "An interval leaves 0 out exactly where p (Holm) is below .05; its level is where Holm's correction stopped."
)
ONE_SEED = "One seed: no stars, for what one training gains over another may be luck; give several (--seeds)."

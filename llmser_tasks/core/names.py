"""How steps are called where people read of them, and what must stand beside figures."""

STEPS = {  # as rows of the warehouse name them, in the order in which they run
    "ingest": "Read the dumps",
    "sequences": "Cut histories, validation, test",
    "reverse": "Train backwards",
    "ccg": "Propose candidates (CCG)",
    "forward": "Train forwards on masked histories",
    "base": "Train the base recommender",
    "estimate": "Estimate calls and price",
    "snf": "Ask which candidates fit (SNF)",
    "pseudo": "Write pseudo-prior items",
    "rcs": "Propose masked items (RCS)",
    "reason": "Ask for the masked item (Reason)",
    "reliability": "Compare titles, weigh users (ARV)",
    "weighted": "Train the weighted recommender (DCT)",
    "evaluation": "Evaluate",
    "publish": "Publish to Postgres",
}

CONDITIONAL = (  # beside every p and every ± (the sd over seeds)
    "p, intervals and sd are about users and training seeds, given this run's candidates, forward model and shuffles:"
    " these have one seed, and another one would move the figures further than they say."
)
INTERVALS = (
    "An interval leaves 0 out exactly where p (Holm) is below .05; its level is where Holm's correction stopped."
)
ONE_SEED = "One seed: no stars, for what one training gains over another may be luck; give several (--seeds)."

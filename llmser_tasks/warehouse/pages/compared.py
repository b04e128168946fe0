"""Which of a run's methods stands beside the reference, where there is room for one.

It is the one whose recommendations the run has; where that is the reference itself, the best of the others on
validation items. Runs that have not come so far have none.
"""

from __future__ import annotations


def compared(run: str) -> str:
    """The SQL that finds it (`reading.GIVEN` has what it asks for).

    Args:
        run: the alias of a row of `runs`.
    """
    return f"""
        case when {run}.chosen <> :reference then {run}.chosen else (
            select v.method from validations v where v.run_id = {run}.run_id and v.method <> :reference
            order by v.ndcg desc, array_position(cast(:trained as text[]), v.method) limit 1
        ) end
    """  # noqa: S608, ours

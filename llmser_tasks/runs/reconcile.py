"""Runs that the warehouse takes for open, compared with what Airflow knows, so that no end is missed.

A failure is noted by the task that fails, and told by a callback in Airflow's DAG processor. Either may be killed. So
whoever looks regularly also looks here. Cheap: one statement, and one question to Airflow for all open runs together.
Imports nothing heavy: it is called again and again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.tables import failed_runs

log = logging.getLogger(__name__)

GOES_ON = ["queued", "running"]
NOT_PUBLISHED = "Airflow counts it as a success, but its results were never published; was it marked by hand? Rerun it."
UNKNOWN = "Airflow knows no such run any more, and nothing of it has moved for a day; start another one."

Count = Callable[[list[str], list[str] | None], int]  # of run ids in these states, or in any: how many there are


def reconcile(warehouse: Warehouse, count: Count) -> list[str]:
    """Note the end of every run that Airflow has seen end badly and the warehouse has not; returns their ids.

    Who is to be told is told by whoever delivers notices next. A run that Airflow does not know may be another
    Airflow's: it is left alone as long as it moves.

    Raises:
        StorageError: Postgres is down.
    """
    open_ = failed_runs.untold(warehouse)
    if not open_ or count([run.run_id for run in open_], GOES_ON) == len(open_):
        return []
    ended = []
    for run in open_:
        if count([run.run_id], GOES_ON):
            continue
        if count([run.run_id], ["failed"]):
            word = ""
        elif count([run.run_id], ["success"]):
            word = NOT_PUBLISHED
        elif run.still and not count([run.run_id], None):
            word = UNKNOWN
        else:
            continue
        log.warning("Run %s has ended badly, which the warehouse had not heard.", run.run_id)
        failed_runs.ended_badly(warehouse, run.run_id, dataset=run.dataset, word=word)
        ended.append(run.run_id)
    return ended

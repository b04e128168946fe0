"""Runs: one row each, from start to its end."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from llmser_tasks import __version__
from llmser_tasks.core.config import BEFORE_THERE_WAS
from llmser_tasks.core.errors import InputError
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.liveness import LOCKS
from llmser_tasks.warehouse.rows import storable, storable_json
from llmser_tasks.warehouse.tables import failures, notices
from llmser_tasks.warehouse.tables.failures import Failure
from llmser_tasks.warehouse.tables.notices import Notice

RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.~:+-]{0,249}")  # Airflow's, which makes manual__2026-01-01T00:00:00+00:00
TAKEN = "latest"  # the commands mean the latest run by it


@dataclass(frozen=True)
class RunRow:
    """A run as recorded. `config` holds flat names, see `config.from_flat`.

    Attributes:
        state: running, succeeded, failed; or interrupted, where its process ended without a word.
        message: why it failed, as `failures.sentence` puts it.
    """

    run_id: str
    dataset: str
    config: dict[str, Any]
    state: str
    synthetic: bool
    message: str | None
    started_at: datetime
    finished_at: datetime | None
    failure: str | None = None  # its kind, see `failures.KINDS`
    taken_up_at: datetime | None = None  # after it had failed
    refreshes: str | None = None  # the run that it started from
    unpublished: str | None = None  # why readers were not given it
    chosen: str | None = None  # the method whose recommendations it has

    @property
    def settings(self) -> dict[str, Any]:
        """`config`, with what the run did where it was recorded before there was a setting for it."""
        return {**BEFORE_THERE_WAS, **self.config}


@dataclass(frozen=True)
class Open:
    """A run of which it has to be found out whether it goes on.

    Attributes:
        still: nothing of it has moved for a day.
    """

    run_id: str
    dataset: str
    still: bool


_UNTOLD = text("""
    select run_id, dataset, coalesce(greatest(started_at, taken_up_at, finished_at, (
               select max(updated_at) from steps s where s.run_id = r.run_id
           )) < now() - interval '1 day', false)
    from runs r
    where owner is null and (state = 'running' or (state = 'failed' and not exists (
        select from notices n where n.run_id = r.run_id and n.occasion = r.attempt::text
    )))
    union all
    select run_id, coalesce(max(dataset), ''), max(failed_at) < now() - interval '1 day' from failures f
    where not exists (select from runs r where r.run_id = f.run_id)
      and not exists (select from notices n where n.run_id = f.run_id and n.made_at >= f.failed_at)
    group by run_id
""")


def usable(url: str, run_id: str) -> None:
    """
    Raises:
        InputError: no run may be called this; where one is, from before that was looked at, it may.
    """
    try:
        check_id(run_id)
    except InputError:
        with transaction(url) as connection:
            there = text("select exists (select from runs where run_id = :run)")
            if not connection.scalar(there, {"run": storable(run_id)}):
                raise


def check_id(run_id: str) -> None:
    """
    Raises:
        InputError: no new run may be called this.
    """
    if RUN_ID.fullmatch(run_id) and run_id != TAKEN:
        return
    shown = "".join(c if c.isprintable() else "\ufffd" for c in run_id[:40]) + ("…" if len(run_id) > 40 else "")
    raise InputError(
        f"A run cannot be called “{shown}”: 1 to 250 letters, digits and any of _ . ~ : + -, the first one a letter,"
        f" a digit or _, and not “{TAKEN}”."
    )


def create(
    url: str,
    run_id: str,
    dataset: str,
    config: Mapping[str, Any],
    *,
    synthetic: bool = False,
    budget: float | None = None,
    refreshes: str | None = None,
    owner: int | None = None,
) -> None:
    """Insert the run; one that is there already (a rerun) is set back to running, keeps its budget and refreshes the
    same run as before.

    Args:
        owner: number of the process that runs it, which is `living`; None: Airflow does.

    Raises:
        InputError: it is there with other settings, or somebody else is at work on it.
    """
    given = {"run": run_id, "dataset": dataset, "config": storable_json(config), "synthetic": synthetic}
    with transaction(url) as connection:
        same = connection.scalar(
            text(
                "insert into runs (run_id, dataset, config, synthetic, budget, code_version, refreshes, owner)"
                " values (:run, :dataset, cast(:config as jsonb), :synthetic, :budget, :version, :refreshes, :owner)"
                " on conflict (run_id) do update set run_id = excluded.run_id"
                " returning cast(:before as jsonb) || config = cast(:before as jsonb) || cast(:config as jsonb)"
            ),
            given
            | {"version": __version__, "budget": budget, "refreshes": refreshes, "owner": owner}
            | {"before": storable_json(BEFORE_THERE_WAS)},
        )
        if not same:
            raise InputError(f"Run {run_id} exists with other settings; choose another run id.")
        _refuse_shared(connection, run_id, owner)
        connection.execute(
            text(
                "update runs set state = 'running', message = null, failure = null, finished_at = null, owner = :owner,"
                " attempt = attempt + (state = 'failed')::integer where run_id = :run"
            ),
            given | {"owner": owner},
        )
        connection.execute(
            text("delete from failures where run_id = :run and task = :task"), given | {"task": failures.RUN}
        )


def _refuse_shared(connection: Connection, run_id: str, owner: int | None) -> None:
    """
    Raises:
        InputError: another process, or Airflow, is at work on the run.
    """
    row = connection.execute(
        text(
            "select owner, state, owner is not null and owner_lives(:locks, owner) as lives from runs"
            " where run_id = :run"
        ),
        {"run": run_id, "locks": LOCKS},
    ).one()
    if row.owner == owner:
        return
    whose = "Another process" if row.lives else "Airflow" if row.owner is None and row.state == "running" else None
    if whose:
        raise InputError(
            f"{whose} is at work on run {run_id}; wait for its end, or choose another run id: what is finished is not"
            " made again."
        )


def load(url: str, run_id: str) -> RunRow:
    """The run of this id.

    Raises:
        InputError: there is none.
    """
    with transaction(url) as connection:
        row = connection.execute(
            text(
                "select run_id, dataset, config, run_state(state, owner), synthetic,"
                " run_message(state, owner, message), started_at, finished_at, failure,"
                " taken_up_at, refreshes, unpublished, chosen from runs where run_id = :run"
            ),
            {"run": storable(run_id)},
        ).one_or_none()
    if row is None:
        raise InputError(f"There is no run {run_id!r}; `llmser show runs` lists them.")
    return RunRow(*row)


def latest(url: str, dataset: str | None = None) -> RunRow:
    """The run started last, of all or of one dataset.

    Raises:
        InputError: there is none yet.
    """
    with transaction(url) as connection:
        run_id = connection.scalar(
            text(
                "select run_id from runs where dataset = coalesce(cast(:dataset as text), dataset)"
                " order by started_at desc, run_id desc limit 1"
            ),
            {"dataset": dataset},
        )
    if run_id is None:
        raise InputError("There is no run yet; start one with `llmser run` or `llmser trigger`.")
    return load(url, run_id)


def mark_synthetic(connection: Connection, run_id: str) -> None:
    """Note that the run's dumps were made up (the sample)."""
    connection.execute(text("update runs set synthetic = true where run_id = :run"), {"run": run_id})


def set_budget(url: str, run_id: str, budget: float | None) -> None:
    """From now on the run may spend so much in all; None: as much as it takes."""
    with transaction(url) as connection:
        connection.execute(
            text("update runs set budget = :budget where run_id = :run"), {"run": run_id, "budget": budget}
        )


def spending(url: str, run_id: str) -> tuple[float, float | None]:
    """What the run has spent on questions, as far as prices are known, and its budget."""
    with transaction(url) as connection:
        row = connection.execute(
            text(
                "select (select coalesce(sum(coalesce(cost, 0) + lost), 0) from batches b where b.run_id = r.run_id),"
                " budget from runs r where run_id = :run"
            ),
            {"run": run_id},
        ).one()
    return float(row[0]), row[1]


def askable(url: str, run_id: str) -> dict[str, Any] | None:
    """Of how many users the run's steps can ask (see `asking.askable`), as its step `sequences` found."""
    statement = text("select summary -> 'askable' from steps where run_id = :run and step = 'sequences'")
    with transaction(url) as connection:
        found: dict[str, Any] | None = connection.scalar(statement, {"run": storable(run_id)})
    return found


def note_tail_threshold(url: str, run_id: str, threshold: int) -> None:
    """T, by which costs are told apart."""
    with transaction(url) as connection:
        statement = text("update runs set tail_threshold = :threshold where run_id = :run")
        connection.execute(statement, {"run": run_id, "threshold": threshold})


def finish(connection: Connection, run_id: str) -> None:
    """Mark the run as succeeded, in the transaction that publishes its results."""
    connection.execute(
        text(
            "update runs set state = 'succeeded', message = null, failure = null, finished_at = now()"
            " where run_id = :run"
        ),
        {"run": run_id},
    )


def fail(
    url: str, run_id: str, message: str, failure: str | None = None, *, task: str = failures.RUN, part: int = -1
) -> None:
    """Mark the run as failed: `failed`, of which a sentence and its kind are known."""
    failed(url, run_id, Failure(task, part, failure, message))


def failed(url: str, run_id: str, failure: Failure, dataset: str | None = None) -> None:
    """Mark the run as failed, and let its message sum up all that has failed of it."""
    with transaction(url) as connection:
        _lock(connection, run_id)
        failures.note(connection, run_id, failure, dataset)
        _sum_up(connection, run_id, failures.of_run(connection, run_id))


def ended_badly(url: str, run_id: str, *, dataset: str = "", ended: datetime | None = None, word: str = "") -> None:
    """Note that nothing of a run goes on and that it has failed, and that people have to be told; once each time.

    Args:
        dataset: where the run failed before it was noted.
        ended: when Airflow saw it end; a run that was taken up since is left alone.
        word: what is said where no task said why.
    """
    with transaction(url) as connection:
        row = _lock(connection, run_id)
        if row is not None and (row.state == "succeeded" or (ended and row.taken_up_at and row.taken_up_at > ended)):
            return
        why = failures.of_run(connection, run_id)
        if row is not None and row.state == "failed" and not why:  # before failures were kept task by task
            why = [Failure(failures.RUN, -1, row.failure, row.message or failures.WITHOUT_A_WORD)]
        if not why:
            killed = Failure(failures.RUN, -1, failures.KILLED, word or failures.WITHOUT_A_WORD)
            failures.note(connection, run_id, killed, dataset)
            why = failures.of_run(connection, run_id)
        if row is not None:
            _sum_up(connection, run_id, why)
        poor = why[0].kind == failures.BUDGET
        notices.add(
            connection,
            Notice(
                run_id,
                "budget reached" if poor else "run failed",
                str(row.attempt) if row is not None else str(max(each.failed_at for each in why if each.failed_at)),
                row.dataset if row is not None else dataset,
                failures.sentence(why),
                f"`llmser rerun-failed {run_id}` reruns what failed{' once the budget is higher' if poor else ''}.",
            ),
        )


def untold(url: str) -> list[Open]:
    """Runs of Airflow's that go on, or that failed and of whose end nobody has to be told yet."""
    with transaction(url) as connection:
        return [Open(*row) for row in connection.execute(_UNTOLD)]


def take_up(url: str, run_id: str, since: datetime) -> None:
    """Mark the run as running again, if it failed before it was taken up at this time; a later failure stays."""
    with transaction(url) as connection:
        connection.execute(
            text(
                "update runs set state = 'running', message = null, failure = null, finished_at = null,"
                " taken_up_at = :since, attempt = attempt + 1"
                " where run_id = :run and state = 'failed' and finished_at < :since"
            ),
            {"run": run_id, "since": since},
        )


def _lock(connection: Connection, run_id: str) -> Any:
    """The run's row, which nobody else changes before the end of the transaction; None where it was never noted."""
    return connection.execute(
        text(
            "select state, dataset, attempt, taken_up_at, failure, message from runs where run_id = :run"
            " for no key update"
        ),
        {"run": storable(run_id)},
    ).one_or_none()


def _sum_up(connection: Connection, run_id: str, why: Sequence[Failure]) -> None:
    connection.execute(
        text(
            "update runs set state = 'failed', message = :message, failure = :failure, finished_at = now()"
            " where run_id = :run"
        ),
        {"run": storable(run_id), "message": failures.sentence(why), "failure": why[0].kind},
    )

"""What `llmser show` and `llmser export` read: one query a name, streamed, with the dump's own user and item ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Executable, text

from llmser_tasks.core.errors import InputError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.engine import engine, transaction, translated
from llmser_tasks.warehouse.tables.batches import TOLD

CHUNK = 2000  # rows fetched at once

QUERIES = {
    "table1": (
        'select protocol, method, user_group, seeds, users, "H@10", "N@10", "H@20", "N@20", "MRR"'
        " from table1 where run_id = :run order by protocol, user_group, method"
    ),
    "tail-report": (
        "select method, reference, protocol, user_group, users, reference_mean, mean, difference, p_holm, seeds, stars"
        " from tail_report where run_id = :run order by method, protocol, user_group"
    ),
    "metrics": (
        "select method, seed, protocol, user_group, metric, value, users"
        " from metrics where run_id = :run order by protocol, user_group, metric, method, seed"
    ),
    "comparisons": (
        "select method, reference, protocol, user_group, metric, reference_mean, mean, difference, low, high, level, p,"
        " p_holm, seeds, stars from comparisons where run_id = :run order by method, protocol, user_group, metric"
    ),
    "rungs": (
        "select place, user_group, method, previous, added, previous_mean, mean, difference, low, high, level, p,"
        " p_holm, seeds, stars from rungs where run_id = :run order by place, user_group"
    ),
    "item-maps": (
        "select method, seed, item_id, case when head then 'head' else 'tail' end as item_group, count, x, y"
        " from item_maps, unnest(item_ids, heads, counts, xs, ys) with ordinality"
        " as listed (item_id, head, count, x, y, place)"
        " where run_id = :run order by method, place"
    ),
    "tried": (  # by a search, as its step says
        "select place, tried ->> 'title' as title, (tried ->> 'ndcg')::float8 as \"N@10\","
        " (tried ->> 'tail_ndcg')::float8 as tail, (tried ->> 'epochs')::int as epochs,"
        " (tried ->> 'best_epoch')::int as best_epoch, tried ->> 'how' as how, (tried ->> 'chosen')::bool as chosen"
        " from steps, jsonb_array_elements(case when jsonb_typeof(summary -> 'tried') = 'array'"
        " then summary -> 'tried' else '[]' end) with ordinality as listed (tried, place)"
        " where run_id = :run order by place"
    ),
    "validations": (
        'select method, ndcg as "N@10", method = chosen as chosen, case when method = chosen then chosen_by end as by'
        " from validations join runs using (run_id) where run_id = :run order by method"
    ),
    "pseudo-items": (
        "select user_id, position, item_id, title, source"
        " from pseudo_items, unnest(item_ids, titles, sources) with ordinality"
        " as listed (item_id, title, source, position)"
        " where run_id = :run order by user_id, position"
    ),
    "reliability": (
        "select user_id, n, masked_item, masked_title, named_item, named_title, source, omega, alpha, reason,"
        " encoder_hash from reliability where run_id = :run order by user_id"
    ),
    "recommendations": (
        "select user_id, rank, item_id, score, method, seed from recommended_items where run_id = :run"
        " order by user_id, rank"
    ),
    "answers": (
        "select p.user_id, p.step, p.item_ids, p.sources, p.reason, a.model, a.answered_by, a.prompt_version,"
        " a.content, a.failure, a.finish_reason, a.prompt_tokens, a.completion_tokens, a.cost, a.attempts,"
        " a.latency_ms, a.created_at, p.question_key"
        " from (select run_id, step, user_id, question_key, item_ids, sources, reason from picks union all"
        " select run_id, step, user_id, question_key, null, null, reason from user_texts) p"
        " left join answers a using (question_key)"
        " where p.run_id = :run order by p.step, p.user_id"
    ),
    "user-texts": (
        "select t.user_id, t.step, t.text, t.source, t.reason, coalesce(a.answered_by, a.model) as model"
        " from user_texts t left join answers a using (question_key)"
        " where t.run_id = :run order by t.step, t.user_id"
    ),
    "steps": (
        "select step, part, state, done, total, unit, note, peak_mib,"
        " extract(epoch from coalesce(finished_at, updated_at) - started_at)::float8 as seconds, started_at, summary"
        " from steps where run_id = :run order by started_at, step, part"
    ),
    "batches": (
        "select step, batch, label, users, answered, calls, failed, accepted, prompt_tokens, completion_tokens, cost,"  # noqa: S608, ours
        " state, " + TOLD + " as message, accepted_at, updated_at from batches where run_id = :run order by step, batch"
    ),
    "costs": (
        "select step, users, answered, calls, failed, accepted, prompt_tokens::bigint, completion_tokens::bigint, cost,"
        " lost from run_costs where run_id = :run order by step"
    ),
    "group-costs": (
        "select step, user_group, users, answers_paid::float8, prompt_tokens, completion_tokens, cost"
        " from user_group_costs where run_id = :run order by step, user_group"
    ),
    "answer-quality": (
        "select step, answered_by, users, without_picks, invented, strict::bigint, repaired::bigint,"
        " id_pattern::bigint, fuzzy::bigint, fill::bigint"
        " from answer_quality where run_id = :run order by step, answered_by"
    ),
    "runs": (
        "select run_id, dataset, run_state(state, owner) as state, synthetic, started_at, finished_at,"
        " run_message(state, owner, message) as message, code_version, config"
        " from runs order by started_at desc, run_id"
    ),
}


@dataclass(frozen=True)
class Rows:
    """A result as it streams in.

    Attributes:
        columns: names.
        types: Postgres' type numbers (OIDs), one per column.
        rows: to be read once, inside the block that gave them.
    """

    columns: Sequence[str]
    types: Sequence[Any]
    rows: Iterator[Sequence[Any]]


@contextmanager
def read(warehouse: Warehouse, what: str, run_id: str) -> Iterator[Rows]:
    """Stream what a name of QUERIES holds for a run (`runs` ignores the run); memory does not grow with it.

    Raises:
        InputError: no such name.
        StorageError: Postgres is down.
    """
    if what not in QUERIES:
        raise InputError(f"There is nothing called {what!r} to show; there are: {', '.join([*QUERIES, 'report'])}.")
    statement = text(QUERIES[what])
    with stream(warehouse, statement.bindparams(run=run_id) if ":run" in QUERIES[what] else statement) as rows:
        yield rows


@contextmanager
def stream(warehouse: Warehouse, statement: Executable) -> Iterator[Rows]:
    """What a statement of ours brings, a few rows at a time.

    Raises:
        StorageError: Postgres is down.
    """
    with translated(warehouse.url), engine(warehouse).connect() as connection:
        result = connection.execution_options(stream_results=True, yield_per=CHUNK).execute(statement)
        assert result.cursor is not None
        description = result.cursor.description or ()
        yield Rows([column[0] for column in description], [column[1] for column in description], iter(result))


def report(warehouse: Warehouse, run_id: str) -> str:
    """The HTML report of a run.

    Raises:
        InputError: it has none (yet).
    """
    with transaction(warehouse) as connection:
        html = connection.scalar(text("select html from reports where run_id = :run"), {"run": run_id})
    if html is None:
        raise InputError(f"Run {run_id} has no report; it has one once it succeeded.")
    return str(html)

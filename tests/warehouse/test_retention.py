"""Which answers are forgotten."""

from __future__ import annotations

from sqlalchemy import text

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse import ledger, retention
from llmser_tasks.warehouse.engine import transaction
from llmser_tasks.warehouse.ledger import Entry
from llmser_tasks.warehouse.retention import Selection
from llmser_tasks.warehouse.tables import runs


def test_what_was_unusable_is_selected_alone(warehouse: Warehouse) -> None:
    def entry(key: str, content: str | None, failure: str | None = None) -> Entry:
        return Entry(key, "snf", "1", "m", 1, content=content, failure=failure, cost=1.0)

    runs.create(warehouse, "r", "beauty", {})
    good = [entry(f"good {number}", '{"picks": ["c01"]}') for number in range(20)]
    bad = [entry(f"prose {number}", "I cannot say.") for number in range(8)]
    silent = [entry("empty", " \n"), entry("never", None, "no answer"), entry("filtered", None, "content-filter")]
    ledger.insert(warehouse, [*good, *bad, *silent])
    with transaction(warehouse) as connection:
        for one in (*good, *bad, *silent):
            reason = "no usable answer" if one in bad else None
            connection.execute(
                text(
                    "insert into picks (run_id, step, user_id, question_key, item_ids, sources, reason)"
                    " values ('r', 'snf', :key, :key, '{}', '{}', :reason)"
                ),
                {"key": one.question_key, "reason": reason},
            )
    assert retention.count(warehouse, Selection(unusable=True)) == (10, 10.0)
    assert retention.prune(warehouse, Selection(unusable=True, model="m")) == 10
    left = ledger.known(warehouse, [one.question_key for one in (*good, *bad, *silent)])
    assert left.keys() == {one.question_key for one in good} | {"filtered"}


def test_a_text_that_was_embedded_is_not_unused(warehouse: Warehouse) -> None:
    """No run refers to it, and every run that has the text would pay for it again."""
    answered = Entry("asked", "snf", "snf-1", "m", 1, content="{}")
    embedded = Entry("text", "item-vectors", ledger.VECTOR, "m", 1, content="AAAAAA==")
    ledger.insert(warehouse, [answered, embedded])
    assert retention.prune(warehouse, Selection(unused=True)) == 1
    assert ledger.settled(warehouse, ["asked", "text"]) == {"text"}
    assert retention.prune(warehouse, Selection(model="m")) == 1, "it is forgotten where somebody says so"

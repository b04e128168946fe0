"""Batches whose run goes on without the users that have no answer: since when, and how many these were.

And of a run that failed, the kind of failure, so that who is told need not read it from the sentence, and when it was
taken up again.
"""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("""
        alter table runs
            add column failure     text,       -- kind of it: budget | quota | key refused | unanswered …
            add column taken_up_at timestamptz -- when a failed run was last taken up; null: never
    """)
    op.execute("""
        alter table batches
            add column accepted_at timestamptz,               -- a person wants no more asked; null: nobody does
            add column accepted    integer not null default 0 -- of failed: users the batch went on without
    """)
    op.execute("""
        create or replace view run_costs as
        select run_id, step, sum(users) as users, sum(answered) as answered, sum(calls) as calls,
               sum(failed) as failed, sum(prompt_tokens) as prompt_tokens,
               sum(completion_tokens) as completion_tokens, sum(cost) as cost, sum(lost) as lost,
               sum(accepted) as accepted
        from batches group by run_id, step
    """)

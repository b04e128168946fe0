"""Batches handed to a provider's Batch API: so that each is found again, and none is submitted twice."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("""
        create table provider_batches (
            run_id       text        not null references runs on delete cascade,
            step         text        not null,
            endpoint     text        not null,          -- its URL
            batch        integer     not null,          -- as in batches
            round        integer     not null,          -- 1, 2, …: what one left unanswered, the next asks again
            mark         text        not null unique,   -- our name for it, in the metadata that the provider keeps
            state        text        not null check (state in ('preparing', 'submitted', 'ended')),
            input_file   text,                          -- the provider's id; null: not uploaded
            provider_id  text,                          -- null: nobody knows whether it was submitted
            questions    integer     not null,
            held         double precision not null default 0, -- the most that it can cost, until it has ended
            outcome      text,                          -- the provider's last word: completed, expired, failed …
            submitted_at timestamptz,
            ended_at     timestamptz,
            created_at   timestamptz not null default now(),
            primary key (run_id, step, batch, round)
        )
    """)
    # A claim that outlives its process: the question is being asked by that batch, whoever else has it.
    op.execute("""
        create table provider_questions (
            question_key   text primary key,
            prompt_version text not null,
            mark           text not null references provider_batches (mark) on delete cascade
        )
    """)
    op.execute("create index provider_questions_by_mark on provider_questions (mark)")

"""What failed of a run, task by task; who runs it; and what has to be told of it, until it is told."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("""
        alter table runs
            add column attempt integer not null default 1, -- one more whenever it is taken up after it had failed
            add column owner   integer -- process that runs it, alive while it holds an advisory lock; null: Airflow
    """)
    op.execute("alter table batches add column cause text")  # why it failed last, also where users are accepted since
    op.execute("update batches set cause = message where state = 'failed'")
    # A run whose first task failed has no row in runs, so nothing here refers to one.
    op.execute("""
        create table failures (
            run_id    text        not null,
            task      text        not null,            -- of Airflow; 'run': a whole run in one process
            part      integer     not null default -1, -- map index; -1: not mapped
            dataset   text,
            kind      text,                            -- budget | quota | … | input | storage | killed
            message   text        not null,            -- one sentence, as people read it
            users     jsonb       not null default '{}', -- of a batch: why → users without an answer
            failed_at timestamptz not null default now(),
            primary key (run_id, task, part)
        )
    """)
    op.execute("""
        create table notices (
            run_id   text        not null,
            event    text        not null,
            occasion text        not null,              -- tells apart what may happen to a run several times
            dataset  text        not null,
            sentence text        not null,
            remedy   text        not null,              -- what a person can do
            made_at  timestamptz not null default now(),
            owner    integer,                           -- who is telling it; void once its advisory lock is gone
            tries    integer     not null default 0,
            telling  text,                              -- who is being told right now
            told     text[]      not null default '{}', -- who has been
            sent_at  timestamptz,                       -- null: not over yet
            primary key (run_id, event, occasion)
        )
    """)
    op.execute("create index notices_open on notices (made_at) where sent_at is null")
    op.execute("""
        insert into notices (run_id, event, occasion, dataset, sentence, remedy, sent_at)
        select run_id, 'run failed', '1', dataset, coalesce(message, ''), '', now() from runs where state = 'failed'
    """)
    # `llmser run` alone made ids of this kind. What still runs has outlived its process: an upgrade stops everything.
    op.execute("update runs set owner = 0 where state = 'running' and starts_with(run_id, 'run__')")
    op.execute("""
        create function run_state(state text, owner integer) returns text stable language sql as $$
            select case when state = 'running' and owner is not null and not owner_lives(5000272, owner)
                   then 'interrupted' else state end
        $$
    """)
    op.execute("""
        create function run_message(state text, owner integer, message text) returns text stable language sql as $$
            select case run_state(state, owner) when 'interrupted'
                   then 'Its process ended without a word, as if killed; `llmser rerun-failed` says what continues it.'
                   else message end
        $$
    """)

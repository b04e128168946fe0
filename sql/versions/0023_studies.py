"""Studies: many runs that belong together, each a cell."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.execute("""
        create table studies (
            study      text        primary key,
            title      text        not null,
            asked      jsonb       not null, -- the file, as it was read last
            created_at timestamptz not null default now(),
            changed_at timestamptz not null default now() -- when it last came with another file
        )
    """)
    op.execute("""
        create table study_cells (
            study    text    not null references studies on delete cascade,
            run_id   text    not null, -- its row in runs, once it has begun, says how far it is
            place    integer not null, -- in the order of the study
            part     text    not null, -- main, or what is varied
            dataset  text    not null,
            backbone text    not null,
            method   text    not null,
            seed     integer not null, -- the last of the run's
            changed  jsonb   not null, -- settings that differ from the study's base
            settings jsonb   not null, -- all of the run's, as runs.config has them
            wanted   boolean not null, -- the file still says so
            message  text,             -- why it could not even begin
            primary key (study, run_id)
        )
    """)
    op.execute("create index study_cells_by_run on study_cells (run_id)")

"""How endpoints want to be asked, so that no process finds it out again; and which questions stay without an answer."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.execute("""
        create table endpoint_dialects (
            place      text        primary key,        -- sha256 of address, model and what goes with every request
            endpoint   text        not null,           -- its URL
            model      text        not null,
            dialect    jsonb       not null,           -- response_format, length, temperature, room
            updated_at timestamptz not null default now()
        )
    """)
    # Asked by batches that brought nothing for them; a question that is settled leaves no row.
    op.execute("""
        create table unanswered_questions (
            question_key text        primary key,
            times        integer     not null default 1,
            updated_at   timestamptz not null default now()
        )
    """)

"""Claims on questions: who is asking what right now."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Unlogged: after a crash nobody is asking anything. Rows change hands often, hence the room in each page.
    op.execute("""
        create unlogged table claims (
            question_key text primary key, -- as in answers
            owner        integer not null  -- the advisory lock that its owner holds while it lives
        ) with (fillfactor = 50)
    """)

"""Claims on artefacts: who is making what right now."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    # Unlogged: after a crash nobody is known to make anything.
    op.execute("""
        create unlogged table artefact_claims (
            path  text primary key, -- of the artefact, below the folder that all workers see
            owner integer not null  -- the advisory lock that its owner holds while it lives
        )
    """)

"""Who asks which endpoint right now, and how many requests each may have in flight."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # Unlogged: after a crash nothing is in flight that anybody knows of.
    op.execute("""
        create unlogged table endpoint_workers (
            endpoint text    not null,
            owner    integer not null, -- the advisory lock that its owner holds while it lives
            wanted   integer not null, -- requests it could have in flight
            granted  integer not null, -- and may
            primary key (endpoint, owner)
        ) with (fillfactor = 50)
    """)

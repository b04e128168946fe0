"""Which artefacts a run's steps made or found: what compares, exports and serves a run later starts from them."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("alter table steps add column artefacts jsonb")  # name → step, path below the store's root, content
    op.execute("comment on column steps.artefacts is 'name to reference, as in workspace.Artefact'")

"""Items of a run's catalogue keep what describes them beside the title, for the page."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.execute("alter table item_titles add column text text")
    op.execute("comment on column item_titles.text is 'as item_text makes it; null where it is the title'")

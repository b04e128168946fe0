"""What training made of items: each model's item table in two dimensions."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.execute("""
        create table item_maps ( -- a row per trained model, of the run's first seed; earlier runs have none
            run_id     text             not null references runs on delete cascade,
            method     text             not null, -- the one that trains the model
            seed       integer          not null,
            shares     real[]           not null, -- of the table's variance that x and y hold
            silhouette double precision,          -- of head against tail items; null where one of them is missing
            overlap    double precision,          -- share of an item's ten nearest that are among the ten by text
            chance     double precision,          -- what that would be for items in any order
            item_ids   text[]           not null, -- the same for all of a run; a sample where the catalogue is large
            heads      boolean[]        not null, -- among the items with the most training interactions
            counts     integer[]        not null, -- training interactions
            xs         real[]           not null, -- on the first principal component; the farthest item has 1
            ys         real[]           not null,
            primary key (run_id, method)
        )
    """)

"""What each part of a run's method brought on top of those before it."""

from alembic import op

revision = "0019"
down_revision = "0016"


def upgrade() -> None:
    op.execute("""
        create table rungs ( -- NDCG@10, full ranking, from the reference up; earlier runs have none
            run_id        text             not null references runs on delete cascade,
            place         integer          not null, -- from 1, which stands on the reference
            user_group    text             not null,
            method        text             not null,
            previous      text             not null, -- the method that it is compared with
            added         text             not null, -- parts that it has and the previous one has not, joined by +
            previous_mean double precision not null,
            mean          double precision not null,
            difference    double precision not null,
            low           double precision not null,
            high          double precision not null,
            p             double precision not null,
            p_holm        double precision not null, -- over the rungs and groups of the run
            level         double precision not null, -- of the interval, for all of them
            seeds         integer          not null,
            stars         text             not null, -- none with one seed
            primary key (run_id, place, user_group)
        )
    """)

"""What readers are given of each dataset: a published run, one switch to another, the way back."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("""
        alter table runs
            add column refreshes   text references runs on delete set null, -- the run that it started from
            add column validation  double precision,                        -- NDCG@10, mean over seeds
            add column unpublished text                                     -- why readers were not given it
    """)
    op.execute(
        "comment on column runs.validation is 'LLMSeR on validation items, mean of the seeds; what the gate judges'"
    )
    # A log of switches: the newest version of a dataset is the current one, so one insert is the whole switch.
    op.execute("""
        create table publications (
            dataset      text        not null,
            version      integer     not null,          -- 1, 2, … per dataset
            run_id       text        not null references runs,
            how          text        not null check (how in ('run', 'hand', 'rollback')),
            published_at timestamptz not null default now(),
            primary key (dataset, version)
        )
    """)
    op.execute("create index publications_by_run on publications (run_id)")
    op.execute("""
        insert into publications (dataset, version, run_id, how, published_at)
        select distinct on (dataset) dataset, 1, run_id, 'run', finished_at from runs
        where state = 'succeeded' order by dataset, finished_at desc, run_id
    """)
    # One row a dataset: what was seen of its inbox, the run that takes it in, and whether another is wanted after it.
    op.execute("""
        create table refreshes (
            dataset   text primary key,
            seen      text,                             -- signature of the inbox when a run last took it in
            run_id    text,                             -- that run; it may be waiting still
            wanted_at timestamptz                       -- since when another one is wanted; null: none is
        )
    """)
    op.execute("""
        create view current_runs as
        select distinct on (p.dataset) p.dataset, p.run_id, p.version, p.how, p.published_at, r.validation
        from publications p join runs r using (run_id) order by p.dataset, p.version desc
    """)
    op.execute("""
        create view current_recommendations as
        select c.dataset, c.version, t.* from current_runs c join recommendations t using (run_id)
    """)
    op.execute("""
        create view current_recommended_items as
        select c.dataset, c.version, t.* from current_runs c join recommended_items t using (run_id)
    """)
    op.execute("""
        create view current_metrics as
        select c.dataset, c.version, t.* from current_runs c join metrics t using (run_id)
    """)
    op.execute("""
        create view current_comparisons as
        select c.dataset, c.version, t.* from current_runs c join comparisons t using (run_id)
    """)
    comments = {
        "current_runs": "per dataset the run that readers are given",
        "current_recommendations": "the published recommendations of each dataset",
        "current_recommended_items": "the published recommendations of each dataset, one row an item",
        "current_metrics": "metrics of the published run of each dataset",
        "current_comparisons": "LLMSeR against the base in the published run of each dataset",
    }
    for view, comment in comments.items():
        op.execute(f"comment on view {view} is '{comment}'")

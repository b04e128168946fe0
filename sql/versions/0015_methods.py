"""Figures are rows of a method, whichever a run has; a run says whose recommendations it publishes, and why."""

from alembic import op

revision = "0015"
down_revision = "0014"

VIEWS = (
    "current_comparisons", "current_metrics", "current_recommended_items", "current_recommendations",
    "recommended_items", "tail_report", "table1",
)  # fmt: skip


def upgrade() -> None:
    for view in VIEWS:
        op.execute(f"drop view {view}")
    op.execute("""
        alter table runs
            add column chosen    text, -- the method whose recommendations the run has
            add column chosen_by text  -- validation (it was the best by that) or name (the settings say so)
    """)
    op.execute("comment on column runs.validation is 'of the chosen method, mean of the seeds; what the gate judges'")
    op.execute("""
        create table validations ( -- NDCG@10 on validation items, mean over the seeds
            run_id text             not null references runs on delete cascade,
            method text             not null,
            ndcg   double precision not null,
            primary key (run_id, method)
        )
    """)
    op.execute("alter table metrics rename column model to method")
    _compared_methods()
    op.execute("""
        alter table recommendations
            add column method text not null default 'llmser',
            add column seed   integer not null default 0
    """)
    op.execute("""
        update recommendations t set seed = (r.config -> 'seeds' ->> 0)::integer
        from runs r where r.run_id = t.run_id and r.config ? 'seeds'
    """)
    for column in ("method", "seed"):  # from now on whoever writes says it
        op.execute(f"alter table recommendations alter column {column} drop default")
    _earlier_runs()
    _views()


def _compared_methods() -> None:
    op.execute("alter table comparisons rename column base to reference_mean")
    for table in ("comparisons", "earlier_comparisons"):
        op.execute(f"alter table {table} rename column llmser to mean")
        op.execute(f"alter table {table} add column method text not null default 'llmser'")
        op.execute(f"alter table {table} alter column method drop default")
        op.execute(f"alter table {table} drop constraint {table}_pkey")
    op.execute("alter table comparisons add column reference text not null default 'base'")
    op.execute("alter table comparisons alter column reference drop default")
    op.execute("alter table comparisons add primary key (run_id, method, protocol, user_group, metric)")
    op.execute(
        "alter table earlier_comparisons add primary key (run_id, earlier_run, method, protocol, user_group, metric)"
    )


def _earlier_runs() -> None:
    """What earlier runs did, in the words of today."""
    op.execute("""
        update runs r set chosen = 'llmser', chosen_by = 'name'
        where validation is not null or exists (select from comparisons c where c.run_id = r.run_id)
    """)
    op.execute("insert into validations select run_id, 'llmser', validation from runs where validation is not null")
    op.execute("""
        update runs set config = config || '{"methods": ["base", "llmser"], "publish": "llmser"}'
        where not config ? 'methods'
    """)
    op.execute("update steps set step = 'llmser' where step = 'weighted'")
    op.execute("""
        update steps set artefacts = (
            select jsonb_object_agg(regexp_replace(key, '^weighted/', 'llmser/'), value) from jsonb_each(artefacts)
        ) where artefacts is not null and artefacts::text like '%"weighted/%'
    """)


def _views() -> None:
    op.execute("""
        create view table1 as
        select r.dataset, m.run_id, r.config ->> 'backbone' as backbone, m.protocol, m.method, m.user_group,
               count(distinct m.seed) as seeds,
               max(m.users) as users,
               avg(m.value) filter (where m.metric = 'H@10') as "H@10",
               avg(m.value) filter (where m.metric = 'N@10') as "N@10",
               avg(m.value) filter (where m.metric = 'H@20') as "H@20",
               avg(m.value) filter (where m.metric = 'N@20') as "N@20",
               avg(m.value) filter (where m.metric = 'MRR') as "MRR"
        from metrics m join runs r using (run_id)
        group by r.dataset, m.run_id, r.config ->> 'backbone', m.protocol, m.method, m.user_group
    """)
    op.execute("""
        create view tail_report as
        select t.dataset, t.run_id, t.backbone, t.protocol, t.user_group, t.users, c.method, c.reference,
               c.reference_mean, c.mean, c.difference, c.p_holm, c.low, c.high, c.level, c.seeds, c.stars
        from comparisons c
        join table1 t on t.run_id = c.run_id and t.protocol = c.protocol and t.user_group = c.user_group
                     and t.method = c.method
        where c.metric = 'N@10'
    """)
    op.execute("""
        create view recommended_items as
        select run_id, method, seed, user_id, rank, item_id, score
        from recommendations, unnest(item_ids, scores) with ordinality as listed (item_id, score, rank)
    """)
    comments = {
        "recommendations": "the published recommendations of each dataset",
        "recommended_items": "the published recommendations of each dataset, one row an item",
        "metrics": "metrics of the published run of each dataset",
        "comparisons": "methods against the reference in the published run of each dataset",
    }
    for table, comment in comments.items():
        op.execute(f"""
            create view current_{table} as
            select c.dataset, c.version, t.* from current_runs c join {table} t using (run_id)
        """)  # noqa: S608, ours
        op.execute(f"comment on view current_{table} is '{comment}'")
